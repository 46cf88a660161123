// Masks and zones drawn on a camera's picture: applied to the running camera and shown as YAML to copy. The configuration
// file is never written.
(() => {
  const { connection, make } = sva;
  const HINT = "Drag a rectangle, or click corner after corner and close the shape at its first one. With the keyboard: " +
    "arrows move the cross, Space sets a corner, Enter closes, Backspace takes the last corner back, Escape leaves it.";

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
      this.listed = null;
      this.build();
      this.show(card);
      this.panel.hidden = false;
      this.panel.scrollIntoView({ block: "nearest" });
      this.drawing.stage.focus({ preventScroll: true });
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
      this.drawing = new sva.Drawing(this.camera, "draw", "sva-draw-hint", {
        shapes: () => [...this.configured, ...this.drawn], kind: () => this.kind, done: (corners) => this.finish(corners) });
      this.name = make("input", { type: "text", maxlength: "40", placeholder: "steps", "aria-label": "Name of the zone" });
      this.list = make("ul", { class: "sva-region-list", "aria-label": "Masks and zones" });
      this.said = make("p", { class: "sva-outcome", role: "status", "data-testid": "drawn", hidden: true });
      this.apply = make("button", { type: "button", class: "primary", text: "Apply to the camera",
        onclick: () => this.send() });
      this.copy = make("button", { type: "button", text: "Copy YAML",
        onclick: () => sva.copyText(this.yaml, (text, kind) => this.tell(text, kind)) });
      this.yaml = make("pre", { class: "sva-yaml", "data-testid": "yaml", tabindex: "0", "aria-label": "As YAML" });
      this.panel.replaceChildren(
        make("div", { class: "sva-evidence-head" }, make("strong", { text: `Masks and zones of ${this.camera}` }),
          make("span", { class: "sva-grow" }),
          make("button", { type: "button", "aria-label": "Close masks and zones", text: "✕", onclick: () => this.close() })),
        make("div", { class: "sva-region-parts" },
          make("div", {}, this.drawing.stage, make("p", { class: "sva-hint", id: "sva-draw-hint", text: HINT })),
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
      if (card.jpeg) this.drawing.show(card.jpeg);
      this.draw();
    }

    draw() {
      this.panel.querySelector(".sva-zone-name").hidden = this.kind !== "zone";
      this.drawing.draw();
      const regions = [...this.configured, ...this.drawn];
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

    finish(corners) {
      const region = { kind: this.kind, name: "", drawn: true, points: corners };
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
  }

  sva.Regions = Regions;
})();
