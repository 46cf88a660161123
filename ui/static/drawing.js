// A picture on which a person draws rectangles and polygons with a mouse, a finger or the keyboard.
(() => {
  const { make } = sva;
  const SVG = "http://www.w3.org/2000/svg";
  const CLOSE_PX = 14;  // a click so near the first corner closes the shape
  const DRAG_PX = 8;
  const EDGE = 0.012; // a corner so near an edge is moved onto it
  const STEP = 0.02, SMALL_STEP = 0.005;

  const clamp = (value) => Math.min(1, Math.max(0, value));
  const points = (corners) => corners.map((corner) => corner.join(",")).join(" ");
  const shape = (tag, attributes) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };

  // shapes(): what is on the picture, each {kind, points}; kind(): of the shape being drawn; done(points): it is closed.
  class Drawing {
    constructor(of, testId, hintId, { shapes, kind, done }) {
      Object.assign(this, { shapes, kind, done, corners: [], cross: null });
      this.image = make("img", { alt: `Picture of ${of}` });
      this.svg = shape("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
      this.stage = make("div", { class: "sva-draw", tabindex: "0", role: "application", "data-testid": testId,
        "aria-label": `Draw on the picture of ${of}`, "aria-describedby": hintId,
        onpointerdown: (event) => this.press(event), onpointermove: (event) => this.move(event),
        onpointerup: (event) => this.release(event), onkeydown: (event) => this.key(event) }, this.image, this.svg);
    }

    show(jpeg) {
      const source = "data:image/jpeg;base64," + jpeg;
      if (this.image.getAttribute("src") !== source) this.image.src = source;
    }

    draw() {
      const nodes = this.shapes().map((region) => shape("polygon", { points: points(region.points), class: region.kind }));
      if (this.corners.length) {
        const open = this.cross ? [...this.corners, this.cross] : this.corners;
        nodes.push(shape("polyline", { points: points(open), class: `open ${this.kind()}` }));
      }
      if (this.frame) nodes.push(shape("polygon", { points: points(this.frame), class: `open ${this.kind()}` }));
      if (this.cross) {
        const [x, y] = this.cross;
        nodes.push(shape("path", { d: `M${x - 0.03} ${y}H${x + 0.03}M${x} ${y - 0.05}V${y + 0.05}`, class: "cross" }));
      }
      this.svg.replaceChildren(...nodes);
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
      this.corners = [];
      this.done(corners.map((corner) => corner.map(round)));
    }
  }

  sva.Drawing = Drawing;

  // Copies a text; where the browser forbids that, its element is selected for the person to copy.
  sva.copyText = async (node, tell) => {
    try {
      await navigator.clipboard.writeText(node.textContent);
      tell("Copied.", "good");
    } catch {
      getSelection().selectAllChildren(node);
      tell("The browser forbids copying by a button here: the text is selected, copy it with Ctrl+C.", "wait");
    }
  };
})();
