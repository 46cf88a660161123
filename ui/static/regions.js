// Draws masks and zones on a camera's picture with a mouse, a finger or the keyboard, applies them to the running camera,
// and shows them as YAML to copy. The configuration file is never written.
(() => {
  const { connection, make } = sva;
  const SVG = "http://www.w3.org/2000/svg";
  const CLOSE_PX = 14;  // a click so near the first corner closes the shape
  const DRAG_PX = 8;
  const EDGE = 0.012; // a corner so near an edge is moved onto it
  const STEP = 0.02, SMALL_STEP = 0.005;
  const HINT = "Drag a rectangle, or click corner after corner and close the shape at its first one. With the keyboard: " +
    "arrows move the cross, Space sets a corner, Enter closes, Backspace takes the last corner back, Escape leaves it.";

  const clamp = (value) => Math.min(1, Math.max(0, value));
  const points = (corners) => corners.map((corner) => corner.join(",")).join(" ");
  const shape = (tag, attributes) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };

  class Regions {
    constructor(root) {
      this.panel = root.querySelector(".sva-regions");
      this.camera = null;
      connection.on("cameras", (message) => {
        const card = message.cameras.find((camera) => camera.name === this.camera);
        if (card) this.show(card);
        else if (this.camera !== null) this.close();
      });
      connection.on("regions", (message) => message.camera === this.camera && this.answered(message));
    }

    open(card) {
      this.camera = card.name;
      this.drawn = card.regions.filter((region) => region.drawn);
      this.corners = [];
      this.cross = null;
      this.build();
      this.show(card);
      this.panel.hidden = false;
      this.panel.scrollIntoView({ block: "nearest" });
      this.stage.focus({ preventScroll: true });
      connection.send({ camera: card.name });
    }

    close() {
      this.camera = null;
      this.panel.hidden = true;
      this.panel.replaceChildren();
    }

    build() {
      const kind = (value, text) => make("label", {},
        make("input", { type: "radio", name: "sva-kind", value, checked: value === "mask", onchange: () => this.draw() }), ` ${text}`);
      this.image = make("img", { alt: `Picture of ${this.camera}` });
      this.svg = shape("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
      this.stage = make("div", { class: "sva-draw", tabindex: "0", role: "application", "data-testid": "draw",
        "aria-label": `Draw on the picture of ${this.camera}`, "aria-describedby": "sva-draw-hint",
        onpointerdown: (event) => this.press(event), onpointermove: (event) => this.move(event),
        onpointerup: (event) => this.release(event), onkeydown: (event) => this.key(event) }, this.image, this.svg);
      this.name = make("input", { type: "text", maxlength: "40", placeholder: "steps", "aria-label": "Name of the zone" });
      this.list = make("ul", { class: "sva-region-list", "aria-label": "Masks and zones" });
      this.said = make("p", { class: "sva-outcome", role: "status", "data-testid": "drawn", hidden: true });
      this.apply = make("button", { type: "button", class: "primary", text: "Apply to the camera",
        onclick: () => this.send() });
      this.copy = make("button", { type: "button", text: "Copy YAML", onclick: () => this.copyYaml() });
      this.yaml = make("pre", { class: "sva-yaml", "data-testid": "yaml", tabindex: "0", "aria-label": "As YAML" });
      this.panel.replaceChildren(
        make("div", { class: "sva-evidence-head" }, make("strong", { text: `Masks and zones of ${this.camera}` }),
          make("span", { class: "sva-grow" }),
          make("button", { type: "button", "aria-label": "Close masks and zones", text: "✕", onclick: () => this.close() })),
        make("div", { class: "sva-region-parts" },
          make("div", {}, this.stage, make("p", { class: "sva-hint", id: "sva-draw-hint", text: HINT })),
          make("div", { class: "sva-region-side" },
            make("fieldset", {}, make("legend", { text: "Draw a" }), kind("mask", "mask: nobody may see this"),
              kind("zone", "zone: only a change here is worth a remark")),
            make("label", { class: "sva-zone-name" }, "Name of the zone", this.name),
            this.list, make("div", { class: "sva-region-buttons" }, this.apply, this.copy), this.said, this.yaml)));
    }

    get kind() {
      return this.panel.querySelector("input[name=sva-kind]:checked").value;
    }

    show(card) {
      this.configured = card.regions.filter((region) => !region.drawn);
      if (card.jpeg) this.image.src = "data:image/jpeg;base64," + card.jpeg;
      this.draw();
    }

    draw() {
      this.panel.querySelector(".sva-zone-name").hidden = this.kind !== "zone";
      const regions = [...this.configured, ...this.drawn];
      const nodes = regions.map((region) => shape("polygon", { points: points(region.points), class: region.kind }));
      if (this.corners.length) {
        const open = this.cross ? [...this.corners, this.cross] : this.corners;
        nodes.push(shape("polyline", { points: points(open), class: `open ${this.kind}` }));
      }
      if (this.frame) nodes.push(shape("polygon", { points: points(this.frame), class: `open ${this.kind}` }));
      if (this.cross) {
        const [x, y] = this.cross;
        nodes.push(shape("path", { d: `M${x - 0.03} ${y}H${x + 0.03}M${x} ${y - 0.05}V${y + 0.05}`, class: "cross" }));
      }
      this.svg.replaceChildren(...nodes);
      const words = (region) => region.kind === "mask" ? "Mask" : `Zone ${region.name}`;
      const key = JSON.stringify(regions);
      if (key === this.listed) return;
      this.listed = key;
      this.list.replaceChildren(
        ...this.configured.map((region) => make("li", {}, make("i", { class: region.kind }), words(region),
          make("span", { class: "sva-grow" }), make("span", { class: "sva-from", text: "configured" }))),
        ...this.drawn.map((region, number) => make("li", {}, make("i", { class: region.kind }), words(region),
          make("span", { class: "sva-grow" }),
          make("button", { type: "button", text: "Remove", "aria-label": `Remove ${words(region)}`, onclick: () => {
            this.drawn.splice(number, 1);
            this.changed();
          } }))));
      if (!regions.length) this.list.append(make("li", { class: "sva-none", text: "None yet." }));
    }

    place(event) {
      const box = this.svg.getBoundingClientRect();
      return [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
    }

    away(one, other) {
      const box = this.svg.getBoundingClientRect();
      return Math.hypot((one[0] - other[0]) * box.width, (one[1] - other[1]) * box.height);
    }

    press(event) {
      this.from = this.place(event);
      this.frame = null;
      this.stage.setPointerCapture(event.pointerId);
    }

    move(event) {
      const at = this.place(event);
      this.cross = at;
      if (this.from && !this.corners.length && this.away(this.from, at) > DRAG_PX)
        this.frame = [this.from, [at[0], this.from[1]], at, [this.from[0], at[1]]];
      this.draw();
    }

    release(event) {
      if (!this.from) return;
      const at = this.place(event), frame = this.frame;
      this.from = this.frame = null;
      if (frame) this.finish([frame[0], [at[0], frame[0][1]], at, [frame[0][0], at[1]]]);
      else if (this.corners.length > 2 && this.away(this.corners[0], at) < CLOSE_PX) this.finish(this.corners);
      else {
        this.corners.push(at);
        this.draw();
      }
    }

    key(event) {
      const step = event.shiftKey ? SMALL_STEP : STEP;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      const [x, y] = this.cross || [0.5, 0.5];
      if (moves[event.key]) this.cross = [clamp(x + moves[event.key][0]), clamp(y + moves[event.key][1])];
      else if (event.key === " ") this.corners.push([x, y]);
      else if (event.key === "Backspace") this.corners.pop();
      else if (event.key === "Escape") this.corners = [];
      else if (event.key === "Enter") {
        if (this.corners.length > 2) this.finish(this.corners);
      } else return;
      event.preventDefault();
      this.draw();
    }

    finish(corners) {
      const round = (value) => value < EDGE ? 0 : value > 1 - EDGE ? 1 : Math.round(1000 * value) / 1000;
      const region = { kind: this.kind, name: "", drawn: true, points: corners.map((corner) => corner.map(round)) };
      this.corners = [];
      if (region.kind === "zone") {
        const taken = [...this.configured, ...this.drawn].map((other) => other.name);
        let name = this.name.value.trim() || "zone", number = 2;
        const wanted = name;
        while (taken.includes(name)) name = `${wanted} ${number++}`;
        region.name = name;
        this.name.value = "";
      }
      this.drawn.push(region);
      this.changed();
    }

    changed() {
      this.draw();
      this.tell("Not applied yet.", "wait");
    }

    tell(text, kind) {
      this.said.className = `sva-outcome ${kind}`;
      this.said.textContent = text;
      this.said.hidden = !text;
    }

    send() {
      this.tell("Applying…", "wait");
      connection.send({ camera: this.camera, draw: this.drawn.map(({ kind, name, points }) => ({ kind, name, points })) });
    }

    answered(message) {
      this.apply.disabled = !message.may_draw;
      if (message.wrong) this.tell(message.wrong, "bad");
      else if (message.drew) this.tell("The camera is watched so until the program ends. To keep it, copy the YAML into " +
        "your configuration.", "good");
      if (message.yaml !== undefined) this.yaml.textContent = message.yaml;
    }

    async copyYaml() {
      try {
        await navigator.clipboard.writeText(this.yaml.textContent);
        this.tell("Copied.", "good");
      } catch {
        getSelection().selectAllChildren(this.yaml); // if the browser forbids it, the person copies it
        this.tell("The browser forbids copying by a button here: the text is selected, copy it with Ctrl+C.", "wait");
      }
    }
  }

  sva.Regions = Regions;
})();
