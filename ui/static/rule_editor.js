// The editor of one rule: its words, its zone drawn on the picture, its numbers, and its rehearsal on the last minutes.
(() => {
  const { connection, make } = sva;
  const DRAWN = " drawn"; // no zone has such a name
  const WORDS = ["the view is covered", "it is dark", "anything moves", "a red shape on the left"];
  const NUMBERS = [
    ["confirmations", "Hits in a row", 1, 100, 1, "Pictures one after the other that must show it."],
    ["hold_s", "Hold (s)", 0, 86400, 0.5, "How long it must last."],
    ["cooldown_s", "Cooldown (s)", 0, 86400, 1, "How long after it is over no new alert is raised."],
    ["clear_s", "Clear (s)", 0, 86400, 0.5, "How long it must be away until it is over."],
  ];
  const NEW = { name: "", when: "", cameras: [], zone: null, schedule: null, sure: 0.9, confirmations: 2, hold_s: 0, clear_s: 2,
    cooldown_s: 30, severity: "warning", to: [], muted: false };
  const HINT = "Drag on the picture to draw the part of it where something must change; or click corner after corner.";

  const corners = (zone) => {
    if (zone.polygon) return zone.polygon;
    const [x, y, width, height] = zone.rectangle;
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
  };
  const field = (text, node, title = "") => make("label", { class: "sva-field", title }, make("span", { text }), node);

  class RuleEditor {
    constructor(panel, closed) {
      this.panel = panel;
      this.closed = closed;
      this.known = { cameras: [], targets: [], own: null, may_change: false, hint: "" };
    }

    get isOpen() { return !this.panel.hidden; }

    // rule: one that is changed, as it stands in the list; null for a new one.
    open(rule, place, words = "") {
      this.rule = { ...NEW, when: words, ...(rule || {}) };
      this.replaces = rule ? rule.name : null;
      this.drawn = this.rule.zone && typeof this.rule.zone === "object" ? corners(this.rule.zone) : null;
      this.warned = this.asked = this.stale = false;
      this.build(place);
      this.refresh();
      this.curve.set(this.rule.sure, false);
      this.panel.hidden = false;
    }

    close() {
      this.panel.hidden = true;
      this.panel.replaceChildren();
      this.closed();
    }

    build(place) {
      const rule = this.rule;
      this.when = make("input", { type: "text", value: rule.when, maxlength: "500", list: "sva-rule-words", "aria-describedby": "sva-rule-hint",
        "aria-label": "What to watch for", placeholder: WORDS[0], oninput: () => this.outdate() });
      this.words = make("datalist", { id: "sva-rule-words" }, ...WORDS.map((value) => make("option", { value })));
      this.hint = make("p", { class: "sva-hint", id: "sva-rule-hint" });
      this.where = make("select", { "aria-label": "Watch", onchange: () => { this.refresh(); this.outdate(); this.look(); } });
      this.firstPlace = rule.cameras.length > 1 ? "several" : rule.cameras.length ? `camera ${rule.cameras[0]}` : place === "own" ? "own" : "all";
      this.zone = make("select", { "aria-label": "Zone", onchange: () => { this.drawing.draw(); this.outdate(); } });
      this.firstZone = this.drawn ? DRAWN : rule.zone || "";
      this.curve = new sva.RuleCurve(() => this.judge());
      this.drawing = new sva.Drawing("what is watched", "rule-draw", "sva-rule-draw-hint", { shapes: () => this.shapes(), kind: () => "zone",
        done: (points) => { this.drawn = points; this.refresh(DRAWN); this.outdate(); } });
      this.numbers = Object.fromEntries(NUMBERS.map(([key, text, min, max, step, title]) => [key, make("input", { type: "number",
        value: rule[key], min, max, step, "aria-label": text, title, oninput: () => this.judge() })]));
      this.severity = make("select", { "aria-label": "Severity" },
        ...["info", "warning", "critical"].map((value) => make("option", { value, text: value, selected: value === rule.severity })));
      this.targets = make("fieldset", { class: "sva-rule-targets" });
      this.name = make("input", { type: "text", value: rule.name, maxlength: "64", "aria-label": "Name", placeholder: "after its words" });
      this.schedule = make("input", { type: "text", value: rule.schedule || "", "aria-label": "Schedule", placeholder: "mon-fri 08:00-18:00; sat" });
      this.arm = make("button", { type: "button", class: "primary", "data-testid": "arm", onclick: () => this.send() });
      this.try = make("button", { type: "button", text: "Rehearse on the last minutes", onclick: () => this.rehearse() });
      this.said = make("p", { class: "sva-outcome", role: "status", "data-testid": "rule-said", hidden: true });
      this.nameArm();
      this.panel.replaceChildren(
        make("div", { class: "sva-evidence-head" }, make("strong", { text: this.replaces === null ? "New rule" : `Change ${this.replaces}` }),
          make("span", { class: "sva-grow" }), make("button", { type: "button", "aria-label": "Close the editor", text: "✕", onclick: () => this.close() })),
        make("div", { class: "sva-region-parts" }, this.pictureSide(), this.fieldSide()));
    }

    pictureSide() {
      return make("div", {}, this.drawing.stage, make("p", { class: "sva-hint", id: "sva-rule-draw-hint", text: HINT }), this.curve.node);
    }

    fieldSide() {
      const numbers = make("div", { class: "sva-rule-numbers" }, ...NUMBERS.slice(0, 3).map(([key, text, , , , title]) => field(text, this.numbers[key], title)),
        field("Severity", this.severity));
      const more = make("details", { class: "sva-rule-more" }, make("summary", { text: "Name, schedule, when it is over" }),
        make("div", { class: "sva-rule-numbers" }, field("Name", this.name), field("Schedule", this.schedule), field("Clear (s)", this.numbers.clear_s)));
      return make("div", { class: "sva-region-side" }, field("What to watch for", this.when), this.words, this.hint,
        make("div", { class: "sva-rule-numbers" }, field("Watch", this.where), field("Zone", this.zone)),
        this.curve.control, numbers, this.targets, more,
        make("div", { class: "sva-region-buttons" }, this.arm, this.try), this.said);
    }

    nameArm() {
      this.arm.textContent = this.warned ? "Arm it all the same" : this.replaces === null ? "Arm this rule" : "Arm the changed rule";
    }

    get place() { return this.where.value === "own" ? "own" : "cameras"; }

    // The camera whose picture is drawn on and rehearsed.
    get seen() {
      if (this.where.value === "own") return "own";
      const chosen = this.chosen();
      return chosen[0] || (this.known.cameras[0] || {}).name || "own";
    }

    chosen() {
      if (this.where.value === "several") return this.rule.cameras;
      return this.where.value.startsWith("camera ") ? [this.where.value.slice(7)] : [];
    }

    // Sets what can be chosen, by what is there now; choices that still are there stay.
    refresh(zone) {
      const { cameras, targets, own, may_change, hint } = this.known;
      const places = [];
      if (cameras.length && may_change) {
        places.push(["all", "all cameras"], ...cameras.map(({ name }) => [`camera ${name}`, name]));
        if (this.rule.cameras.length > 1) places.push(["several", this.rule.cameras.join(", ")]);
      }
      if (this.replaces === null || this.firstPlace === "own" || !places.length) places.push(["own", own ? `this tab's stream (${own})` : "this tab's stream"]);
      this.choose(this.where, places, this.where.value || this.firstPlace);
      const camera = cameras.find(({ name }) => name === this.seen);
      const zones = [["", "the whole picture"], ...(camera ? camera.zones.map(({ name }) => [name, `zone ${name}`]) : [])];
      if (this.drawn) zones.push([DRAWN, "as drawn here"]);
      this.choose(this.zone, zones, zone ?? (this.zone.options.length ? this.zone.value : this.firstZone));
      this.hint.textContent = hint;
      this.showTargets(targets);
      this.drawing.draw();
    }

    choose(select, options, value) {
      const key = JSON.stringify(options);
      if (select.dataset.options !== key) {
        select.dataset.options = key;
        select.replaceChildren(...options.map(([one, text]) => make("option", { value: one, text })));
      }
      select.value = options.some(([one]) => one === value) ? value : options[0][0];
    }

    showTargets(targets) {
      const key = JSON.stringify([targets, this.place]);
      if (this.targets.dataset.shown === key) return;
      this.targets.dataset.shown = key;
      const legend = make("legend", { text: "Alerts go to" });
      if (this.place === "own") this.targets.replaceChildren(legend, make("span", { text: "this tab" }));
      else if (!targets.length) this.targets.replaceChildren(legend, make("span", { text: "this page and the timeline; no targets are configured" }));
      else this.targets.replaceChildren(legend, ...targets.map((target) => make("label", {}, make("input", { type: "checkbox", value: target,
        checked: this.rule.to.includes(target) }), ` ${target}`)), make("span", { class: "sva-from", text: "all where none is ticked" }));
    }

    shapes() {
      if (this.zone.value === DRAWN) return [{ kind: "zone", points: this.drawn }];
      const camera = this.known.cameras.find(({ name }) => name === this.seen);
      const named = camera && camera.zones.find(({ name }) => name === this.zone.value);
      return named ? [{ kind: "zone", points: named.points }] : [];
    }

    draft() {
      const number = (key) => this.numbers[key].value === "" ? undefined : Number(this.numbers[key].value);
      const zone = this.zone.value === DRAWN ? { polygon: this.drawn } : this.zone.value || null;
      const rule = { when: this.when.value.trim(), zone, sure: this.curve.sure, severity: this.severity.value,
        schedule: this.schedule.value.trim() || null, name: this.name.value.trim(), muted: this.rule.muted };
      for (const key of Object.keys(this.numbers)) if (number(key) !== undefined) rule[key] = number(key);
      if (this.place === "cameras") Object.assign(rule, { cameras: this.chosen(),
        to: [...this.targets.querySelectorAll("input:checked")].map(({ value }) => value) });
      return rule;
    }

    send() {
      connection.send({ rule: { do: "put", place: this.place, rule: this.draft(), replaces: this.replaces } });
    }

    rehearse() {
      this.stale = false;
      this.curve.node.classList.remove("stale");
      connection.send({ rule: { do: "rehearse", place: this.place, camera: this.seen === "own" ? "" : this.seen, rule: this.draft() } });
      this.asked = true;
      if (!this.warned) this.tell("");
    }

    // The numbers changed: the same curve is judged by them.
    judge() {
      if (!this.asked || this.judging) return;
      this.judging = setTimeout(() => {
        this.judging = null;
        const { sure, confirmations, hold_s, clear_s, cooldown_s } = this.draft();
        connection.send({ rule: { do: "judge", rule: { sure, confirmations, hold_s, clear_s, cooldown_s } } });
      }, 60);
    }

    // The words, the zone or the stream changed: the curve is of something else.
    outdate() {
      this.warned = false;
      this.nameArm();
      this.stale = true;
      this.curve.node.classList.add("stale");
    }

    look() { connection.send({ rules: true, picture: this.seen }); }

    tell(text, kind = "wait") {
      this.said.className = `sva-outcome ${kind}`;
      this.said.textContent = text;
      this.said.hidden = !text;
    }

    update(message) {
      this.known = message;
      if (!this.isOpen) return;
      this.refresh();
      if (message.picture && message.picture.of === this.seen) this.drawing.show(message.picture.jpeg);
      this.show(message.rehearsal);
    }

    show(found) {
      if (this.asked && found && !this.stale) this.curve.show(found);
    }

    answered(message) {
      if (!this.isOpen) return;
      if (message.wrong) this.tell(message.wrong, message.needs_rehearsal ? "warn" : "bad");
      if (message.needs_rehearsal) {
        this.warned = true;
        this.nameArm();
        this.rehearse();
      }
      if (message.do === "judge") this.show(message.rehearsal);
    }
  }

  sva.RuleEditor = RuleEditor;
})();
