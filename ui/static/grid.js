// All cameras at once: a picture each, a dot for its health, a border where there was an alert, masks and zones drawn.
(() => {
  const { connection, make } = sva;
  const SVG = "http://www.w3.org/2000/svg";

  class Grid {
    constructor(root, fire) {
      this.list = root.querySelector(".sva-grid");
      this.none = root.querySelector(".sva-none");
      this.fire = fire;
      this.cards = new Map();
      this.recording = root.querySelector(".sva-recording");
      this.regions = new sva.Regions(root);
      connection.on("cameras", (message) => {
        this.recording.textContent = message.recording;
        this.recording.hidden = !message.recording;
        this.update(message.cameras);
      });
      // Only a visible grid is updated; a new connection must be told again that it is visible.
      let seen = false, told = false;
      const tell = () => { told = connection.send({ grid: seen }); };
      new IntersectionObserver((entries) => {
        seen = entries.at(-1).isIntersecting;
        tell();
      }).observe(root);
      connection.on("lost", () => { told = false; });
      connection.on("pulse", () => { if (!told) tell(); });
    }

    update(cameras) {
      this.none.hidden = cameras.length > 0;
      for (const camera of cameras) {
        if (!this.cards.has(camera.name)) this.add(camera);
        this.show(this.cards.get(camera.name), camera);
      }
      for (const [name, card] of this.cards) {
        if (cameras.some((camera) => camera.name === name)) continue;
        card.node.remove();
        this.cards.delete(name);
      }
    }

    add(camera) {
      const image = make("img", { alt: "" });
      const zones = document.createElementNS(SVG, "svg");
      zones.setAttribute("viewBox", "0 0 1 1");
      zones.setAttribute("preserveAspectRatio", "none");
      zones.setAttribute("aria-hidden", "true");
      const dot = make("span", { class: "sva-dot" });
      const state = make("span", { class: "sva-grow" });
      const said = make("p", {});
      const open = make("button", { type: "button", class: "sva-card-open", onclick: () => this.fire("opened", { name: camera.name }) },
        make("div", { class: "sva-thumb" }, image, zones),
        make("div", { class: "sva-card-head" }, dot, make("strong", { text: camera.name }), state), said);
      const card = { open, image, zones, dot, state, said, drawn: "" };
      const edit = make("button", { type: "button", class: "sva-card-edit", text: "Masks and zones",
        "aria-label": `Masks and zones of ${camera.name}`, onclick: () => this.regions.open(card.camera) });
      card.node = make("div", { class: "sva-card" }, open, edit);
      this.list.append(card.node);
      this.cards.set(camera.name, card);
    }

    show(card, camera) {
      card.node.classList.toggle("alerted", camera.alert);
      card.camera = camera;
      card.open.setAttribute("aria-label", `${camera.name}: ${camera.state}${camera.alert ? ", alert" : ""}. Open it.`);
      card.dot.dataset.health = camera.health;
      card.dot.title = camera.health;
      card.state.textContent = camera.state;
      card.said.textContent = camera.said || camera.reason || "";
      if (camera.jpeg) card.image.src = "data:image/jpeg;base64," + camera.jpeg;
      const drawn = JSON.stringify(camera.regions);
      if (drawn === card.drawn) return;
      card.drawn = drawn;
      card.zones.replaceChildren(...camera.regions.map((region) => {
        const polygon = document.createElementNS(SVG, "polygon");
        polygon.setAttribute("points", region.points.map((point) => point.join(",")).join(" "));
        polygon.setAttribute("class", region.kind);
        const name = document.createElementNS(SVG, "title");
        name.textContent = region.name || region.kind;
        polygon.append(name);
        return polygon;
      }));
    }
  }

  sva.Grid = Grid;
})();
