// The timeline: marks, gaps, drops, and the score with its threshold. A click in a recording seeks.
(() => {
  const { connection, make } = sva;
  const LIVE_SPAN_S = 120;
  const SVG = "http://www.w3.org/2000/svg";
  const STEP_S = 5;
  const PHONE_PX = 560;
  const MARK_PX = 10;
  const NEAR_PX = 16; // a finger is broader than a mark

  class Timeline {
    constructor(root) {
      this.root = root.querySelector(".sva-timeline");
      this.bar = this.root.querySelector(".sva-bar");
      this.marks = this.root.querySelector(".sva-marks");
      this.svg = this.root.querySelector("svg");
      this.left = this.root.querySelector(".sva-from");
      this.right = this.root.querySelector(".sva-to");
      this.start();
      this.bar.addEventListener("pointerdown", (event) => this.seekTo(event));
      this.bar.addEventListener("keydown", (event) => this.onKey(event));
      connection.on("pulse", (pulse) => this.update(pulse));
      connection.on("evidence", (found) => this.choose(found.id));
    }

    start() {
      this.curve = [];
      this.known = new Map();
      this.marks.replaceChildren();
    }

    update(pulse) {
      if (this.run !== pulse.run || pulse.reset) this.start();
      this.run = pulse.run;
      this.curve.push(...(pulse.curve || []));
      if (this.curve.length > 8000) this.curve.splice(0, this.curve.length - 8000);
      for (const mark of pulse.marks || []) this.known.set(mark.id, mark);
      this.root.hidden = !pulse.watching;
      if (this.root.hidden) return;
      const media = pulse.media_s || 0;
      this.isRecording = Boolean(pulse.duration_s);
      this.from = this.isRecording ? 0 : Math.max(0, media - LIVE_SPAN_S);
      this.to = this.isRecording ? pulse.duration_s : Math.max(this.from + LIVE_SPAN_S, media);
      this.media = media;
      this.describe(pulse);
      this.drawCurve();
      this.placeMarks();
    }

    describe(pulse) {
      const bar = this.bar;
      bar.setAttribute("role", this.isRecording ? "slider" : "img");
      bar.setAttribute("aria-label", this.isRecording ? "Seek" : "The last two minutes");
      if (this.isRecording) {
        bar.tabIndex = 0;
        bar.setAttribute("aria-valuemin", "0");
        bar.setAttribute("aria-valuemax", pulse.duration_s.toFixed(1));
        bar.setAttribute("aria-valuenow", this.media.toFixed(1));
        bar.setAttribute("aria-valuetext", `${sva.time(this.media)} of ${sva.time(pulse.duration_s)}`);
      } else bar.removeAttribute("tabindex");
      this.left.textContent = sva.time(this.from);
      this.right.textContent = sva.time(this.to);
    }

    share(seconds) {
      return (seconds - this.from) / Math.max(1e-6, this.to - this.from);
    }

    drawCurve() {
      const inView = this.curve.filter((point) => point[0] >= this.from && point[0] <= this.to);
      const scored = inView.filter((point) => point[1] !== null);
      const values = scored.flatMap((point) => [point[1], point[2]]);
      const low = Math.min(...values), high = Math.max(...values), pad = 0.1 * (high - low) || 0.5;
      const y = (value) => 100 * (1 - (value - low + pad) / (high - low + 2 * pad));
      const x = (seconds) => 1000 * this.share(seconds);
      let score = "", threshold = "", last = null;
      for (const point of inView) {
        if (point[1] === null) { last = null; continue; }
        const joined = last !== null && point[0] >= last && point[0] - last < 6;
        score += `${joined ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`;
        threshold += `${joined ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[2]).toFixed(1)}`;
        last = point[0];
      }
      this.svg.querySelector(".score").setAttribute("d", score);
      this.svg.querySelector(".threshold").setAttribute("d", threshold);
      const dots = this.svg.querySelector(".spoken");
      dots.replaceChildren();
      for (const point of scored.filter((point) => point[3])) {
        const dot = document.createElementNS(SVG, "line");
        for (const [name, value] of Object.entries({ x1: x(point[0]), x2: x(point[0]), y1: y(point[1]), y2: 100 }))
          dot.setAttribute(name, value.toFixed(1));
        dots.append(dot);
      }
      const now = this.svg.querySelector(".now");
      now.setAttribute("x1", x(this.media));
      now.setAttribute("x2", x(this.media));
    }

    // Marks that would overlap are placed in lanes. A mark keeps its lane, so that nothing jumps.
    chooseLanes() {
      const width = this.bar.clientWidth, span = this.to - this.from;
      const layout = `${width} ${span}`;
      if (layout !== this.layout) for (const mark of this.known.values()) delete mark.lane;
      this.layout = layout;
      const lanes = width < PHONE_PX ? 4 : 2;
      this.bar.style.setProperty("--lanes", lanes);
      const perSecond = width / Math.max(1e-6, span);
      const gapTo = (one, other) => {
        const [left, right] = one.time_s <= other.time_s ? [one, other] : [other, one];
        return (right.time_s - left.time_s - left.length_s) * perSecond - MARK_PX;
      };
      const placed = [...this.known.values()].filter((mark) => mark.lane !== undefined);
      for (const mark of this.known.values()) {
        if (mark.lane !== undefined) continue;
        const room = Array.from({ length: lanes }, (_, lane) =>
          Math.min(Infinity, ...placed.filter((other) => other.lane === lane).map((other) => gapTo(mark, other))));
        const free = room.findIndex((gap) => gap >= 1);
        mark.lane = free >= 0 ? free : room.indexOf(Math.max(...room));
        placed.push(mark);
      }
    }

    placeMarks() {
      this.chooseLanes();
      for (const [id, mark] of this.known) {
        const share = this.share(mark.time_s);
        if (share < -0.02 || share > 1.02) {
          if (mark.node) mark.node.hidden = true;
          continue;
        }
        if (!mark.node) {
          mark.node = make("button", { type: "button", class: `sva-mark ${mark.kind}`, "data-testid": "mark",
            "aria-label": `${mark.badge} at ${sva.time(mark.time_s)}`, title: `${sva.time(mark.time_s)} ${mark.text}`,
            onclick: () => connection.send({ evidence: id }) });
          this.marks.append(mark.node);
        }
        mark.node.hidden = false;
        mark.node.style.setProperty("--lane", mark.lane);
        mark.node.style.left = `${(100 * share).toFixed(2)}%`;
        if (mark.length_s) mark.node.style.width = `max(4px, ${(100 * mark.length_s / (this.to - this.from)).toFixed(2)}%)`;
      }
    }

    choose(id) {
      for (const [other, mark] of this.known) if (mark.node) mark.node.classList.toggle("chosen", other === id);
    }

    // The marks before and after a mark, by time.
    neighbours(id) {
      const order = [...this.known.entries()].sort(([a, one], [b, other]) => one.time_s - other.time_s || a - b);
      const at = order.findIndex(([other]) => other === id);
      return at < 0 ? {} : { earlier: (order[at - 1] || [])[0], later: (order[at + 1] || [])[0] };
    }

    nearestMark(event) {
      let nearest = null, least = NEAR_PX;
      for (const [id, mark] of this.known) {
        if (!mark.node || mark.node.hidden) continue;
        const box = mark.node.getBoundingClientRect();
        const away = Math.hypot(Math.max(box.left - event.clientX, 0, event.clientX - box.right),
          Math.max(box.top - event.clientY, 0, event.clientY - box.bottom));
        if (away < least) [nearest, least] = [id, away];
      }
      return nearest;
    }

    seek(seconds) {
      connection.send({ seek: Math.min(Math.max(0, seconds), this.to) });
    }

    seekTo(event) {
      if (event.target.closest(".sva-mark")) return;
      const near = event.pointerType === "touch" ? this.nearestMark(event) : null;
      if (near !== null) {
        connection.send({ evidence: near });
        return;
      }
      if (!this.isRecording) return;
      const box = this.bar.getBoundingClientRect();
      this.seek(this.from + (this.to - this.from) * (event.clientX - box.left) / box.width);
    }

    onKey(event) {
      if (!this.isRecording || event.target !== this.bar) return;
      const to = { ArrowRight: this.media + STEP_S, ArrowLeft: this.media - STEP_S, Home: 0,
        PageUp: this.media + 6 * STEP_S, PageDown: this.media - 6 * STEP_S }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.seek(to);
    }
  }

  sva.Timeline = Timeline;
})();
