// A rule's probability over the last minutes, the alerts that it would have raised, and a threshold to drag.
(() => {
  const { make } = sva;
  const SVG = "http://www.w3.org/2000/svg";
  const LEAST = 0.5, MOST = 0.99;
  const shape = (tag, attributes) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const clamp = (value) => Math.min(MOST, Math.max(LEAST, Math.round(100 * value) / 100));

  class RuleCurve {
    // changed(): the threshold was moved.
    constructor(changed) {
      this.changed = changed;
      this.bands = shape("g", { class: "bands" });
      this.path = shape("path", { class: "score" });
      this.line = shape("line", { class: "limit", x1: 0, x2: 1000 });
      this.svg = shape("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" });
      this.svg.append(this.bands, this.path, this.line);
      this.plot = make("div", { class: "sva-rule-plot", "data-testid": "rule-curve",
        onpointerdown: (event) => this.drag(event, true), onpointermove: (event) => this.drag(event, false) }, this.svg);
      this.slider = make("input", { type: "range", min: LEAST, max: MOST, step: "0.01", "aria-label": "How sure it must be",
        oninput: () => this.set(Number(this.slider.value), true) });
      this.shown = make("output", { class: "sva-rule-sure" });
      this.from = make("span", {});
      this.to = make("span", {});
      this.told = make("p", { class: "sva-rule-would", role: "status", "data-testid": "rule-would" });
      this.scale = make("div", { class: "sva-scale" }, this.from, this.to);
      this.node = make("div", { class: "sva-rule-curve", hidden: true }, this.plot, this.scale, this.told);
      this.control = make("label", { class: "sva-field sva-rule-level" }, make("span", { text: "How sure it must be" }),
        make("span", { class: "sva-rule-slide" }, this.slider, this.shown));
    }

    get sure() { return Number(this.slider.value); }

    set(sure, tell) {
      this.slider.value = clamp(sure);
      this.shown.textContent = this.sure.toFixed(2);
      const y = 100 * (1 - this.sure);
      this.line.setAttribute("y1", y);
      this.line.setAttribute("y2", y);
      if (tell) this.changed();
    }

    drag(event, begins) {
      if (begins) this.plot.setPointerCapture(event.pointerId);
      else if (!event.buttons) return;
      event.preventDefault();
      const box = this.svg.getBoundingClientRect();
      this.set(1 - (event.clientY - box.top) / box.height, true);
    }

    clear() { this.node.hidden = true; }

    show(found) {
      this.node.hidden = false;
      const curve = found.curve, first = curve.length ? curve[0][0] : 0;
      const last = curve.length ? Math.max(curve.at(-1)[0], first + 1) : 1;
      const x = (time_s) => 1000 * (time_s - first) / (last - first), y = (probability) => 100 * (1 - probability);
      this.path.setAttribute("d", curve.map(([time_s, probability], at) =>
        at ? `H${x(time_s).toFixed(1)}V${y(probability).toFixed(1)}` : `M${x(time_s).toFixed(1)} ${y(probability).toFixed(1)}`).join(""));
      this.bands.replaceChildren(...found.alerts.flatMap((alert) => {
        const end = alert.ended_s === null ? last : Math.max(alert.ended_s, alert.raised_s);
        const begin = x(alert.started_s), at = x(alert.raised_s);
        return [shape("rect", { x: begin, y: 0, width: Math.max(2, x(end) - begin), height: 100 }),
          shape("line", { x1: at, x2: at, y1: 0, y2: 100 })];
      }));
      this.from.textContent = curve.length ? sva.time(first) : "";
      this.to.textContent = curve.length ? sva.time(last) : "";
      this.told.textContent = this.words(found);
    }

    words(found) {
      if (found.state === "failed") return found.wrong;
      if (found.state === "running") return `Watching the last pictures of ${found.source}: ${found.num_done} of ${found.num_frames}…`;
      const count = found.alerts.length, times = found.alerts.slice(0, 6).map((alert) => sva.time(alert.raised_s)).join(", ");
      const highest = found.highest === null ? "" : ` The highest probability was ${found.highest.toFixed(2)}.`;
      const what = count ? `${count} alert${count > 1 ? "s" : ""}, at ${times}${count > 6 ? " …" : ""}` : "no alert";
      return `On the last ${found.num_frames} pictures of ${found.source} it would have raised ${what}.${highest}`;
    }
  }

  sva.RuleCurve = RuleCurve;
})();
