// The picture with its caption and the overlay of cells, and the evidence behind an event.
(() => {
  const { connection, make } = sva;

  class Picture {
    constructor(root) {
      this.root = root;
      this.stage = root.querySelector(".sva-stage");
      this.canvas = root.querySelector(".sva-picture");
      this.overlay = root.querySelector(".sva-overlay");
      this.video = root.querySelector("video");
      this.caption = root.querySelector(".sva-caption");
      this.empty = root.querySelector(".sva-empty");
      this.cells = root.querySelector(".sva-cells");
      this.newest = null;
      this.drawing = false;
      connection.on("picture", (picture) => this.show(picture));
      connection.on("pulse", (pulse) => this.update(pulse));
      this.cells.addEventListener("change", () => this.drawOverlay());
      root.querySelector(".sva-full").addEventListener("click", () =>
        document.fullscreenElement ? document.exitFullscreen() : this.stage.requestFullscreen());
    }

    async show(picture) {
      this.newest = picture;
      if (this.drawing) return;
      this.drawing = true;
      while (this.newest) {
        const taken = this.newest;
        this.newest = null;
        try {
          const bitmap = await createImageBitmap(new Blob([taken.jpeg], { type: "image/jpeg" }));
          if (this.canvas.width !== bitmap.width) this.canvas.width = bitmap.width;
          if (this.canvas.height !== bitmap.height) this.canvas.height = bitmap.height;
          this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
          bitmap.close();
          this.canvas.dataset.mediaS = taken.mediaS.toFixed(3);
          this.setAspect(this.canvas.width, this.canvas.height);
        } catch (error) { /* skip a picture that does not decode; the next one follows */ }
        connection.send({ drawn: taken.number });
      }
      this.drawing = false;
    }

    setAspect(width, height) {
      const aspect = `${width} / ${height}`;
      if (width && this.stage.style.aspectRatio !== aspect) this.stage.style.aspectRatio = aspect;
    }

    update(pulse) {
      if (this.run !== pulse.run) {
        this.run = pulse.run;
        this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
        delete this.canvas.dataset.mediaS;
      }
      const watching = pulse.watching;
      this.root.dataset.kind = watching ? pulse.kind : "none";
      const own = watching && pulse.kind === "webcam";
      this.video.hidden = !own;
      this.canvas.hidden = !watching || own;
      this.empty.hidden = watching && !(pulse.state === "FAILED" && !this.canvas.dataset.mediaS);
      if (own) this.setAspect(this.video.videoWidth, this.video.videoHeight);
      const said = pulse.caption;
      this.caption.hidden = !said || !watching;
      const text = said ? `${sva.time(said.time_s)}  ${said.text}` : "";
      if (this.caption.textContent !== text) this.caption.textContent = text;
      this.drawOverlay();
    }

    drawOverlay() {
      const pulse = sva.pulse;
      const on = this.cells.checked && pulse && pulse.watching && pulse.rows;
      this.overlay.hidden = !on;
      if (!on) return;
      const mirrored = !this.video.hidden && this.video.classList.contains("mirrored");
      this.overlay.classList.toggle("mirrored", mirrored);
      const shown = this.video.hidden ? this.canvas : { width: this.video.videoWidth, height: this.video.videoHeight };
      sva.drawCells(this.overlay, shown.width, shown.height, pulse.rows, pulse.cols,
        sva.bits(pulse.kept), sva.bits(pulse.refreshed));
    }
  }

  class Evidence {
    constructor(root) {
      this.panel = root.querySelector(".sva-evidence");
      connection.on("evidence", (found) => this.show(found));
      connection.on("pulse", (pulse) => {
        if (this.run !== pulse.run) this.hide();
        this.run = pulse.run;
      });
    }

    hide() {
      this.panel.hidden = true;
      if (sva.timeline) sva.timeline.choose(null);
      this.panel.replaceChildren();
    }

    show(found) {
      const head = make("div", { class: "sva-evidence-head" },
        make("strong", { text: found.title }),
        make("span", { class: "sva-grow", text: found.facts }));
      const { earlier, later } = sva.timeline.neighbours(found.id);
      for (const [id, text] of [[earlier, "‹ Earlier"], [later, "Later ›"]])
        if (id !== undefined) head.append(make("button", { type: "button", text, onclick: () => connection.send({ evidence: id }) }));
      if (found.seek_s !== null && found.seek_s !== undefined)
        head.append(make("button", { type: "button", text: "Play from here",
          onclick: () => connection.send({ seek: found.seek_s }) }));
      head.append(make("button", { type: "button", "aria-label": "Close evidence", text: "✕", onclick: () => this.hide() }));
      const strip = make("div", { class: "sva-strip" });
      for (const frame of found.frames) strip.append(this.frame(frame));
      if (!found.frames.length) strip.append(make("p", { text: found.none }));
      this.panel.replaceChildren(head, make("p", { class: "sva-said", text: found.text }), strip);
      this.panel.hidden = false;
      this.panel.focus({ preventScroll: true });
      const pictures = [...strip.querySelectorAll("img")].map((picture) => picture.decode().catch(() => undefined));
      const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
      Promise.all(pictures).then(() => this.panel.scrollIntoView({ block: "nearest", behavior })); // once it has its full height
    }

    frame(frame) {
      const overlay = make("canvas", { "aria-hidden": "true" });
      sva.drawCells(overlay, frame.cols * 14, frame.rows * 14, frame.rows, frame.cols,
        sva.bits(frame.kept), sva.bits(frame.refreshed));
      const picture = make("img", { src: "data:image/jpeg;base64," + frame.jpeg, alt: `Frame at ${sva.time(frame.time_s)}` });
      return make("figure", {}, make("div", { class: "sva-thumb" }, picture, overlay),
        make("figcaption", { text: `${sva.time(frame.time_s)} · ${frame.clock} · ${frame.share}` }));
    }
  }

  sva.Picture = Picture;
  sva.Evidence = Evidence;
})();
