// The Rules tab: every rule with how it stands, and the editor. Words of people and of the model are set as text alone.
(() => {
  const { connection, make } = sva;
  const ARMED = "Armed from the next picture on, until the program ends. To keep it, copy the YAML into your configuration.";
  const REMOVED = "Removed until the program ends; the configuration file is unchanged.";
  const two = (value) => String(value).padStart(2, "0");
  const clock = (wall_s) => {
    const at = new Date(1000 * wall_s), day = at.toDateString() === new Date().toDateString() ? "" : `${at.getMonth() + 1}-${at.getDate()} `;
    return `${day}${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  };
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const standing = (rule) => rule.muted ? "muted" : rule.holds ? "holds now" : rule.watched_on.length ? "armed" : rule.awaited_on.length ? "arming" : "waits";
  const WHY = {
    muted: "It is watched for, and events say what it would have raised.", "holds now": "What it says is the case now.",
    armed: "It is watched for.", arming: "It is watched for from the next picture on.", waits: "No stream that it is meant for is watched.",
  };

  class Row {
    constructor(tab, rule) {
      const button = (text, label, click) => make("button", { type: "button", text, "aria-label": `${label} ${rule.name}`, onclick: click });
      const order = (values) => connection.send({ rule: { place: this.rule.place, name: this.rule.name, ...values } });
      this.state = make("span", { class: "sva-rule-state" });
      this.words = make("strong", { class: "sva-rule-when" });
      this.facts = make("span", { class: "sva-rule-facts" });
      this.fired = make("span", { class: "sva-rule-fired" });
      this.right = make("span", { class: "sva-rule-right" });
      this.odds = make("meter", { min: 0, max: 1, "aria-label": "Probability now" });
      this.mute = button("Mute", "Mute", () => order({ do: "mute", muted: !this.rule.muted }));
      this.test = button("Send a test alert", "Send a test alert of", () => { tab.tested = this.rule.name; order({ do: "test" }); });
      this.edit = button("Change", "Change", () => tab.edit(this.rule));
      this.drop = button("Remove", "Remove", () => order({ do: "remove" }));
      this.tests = make("ul", { class: "sva-rule-tests", "data-testid": "rule-tests" });
      this.node = make("li", {},
        make("div", { class: "sva-rule-row" }, this.state, make("div", { class: "sva-rule-what" }, this.words, this.facts),
          make("div", { class: "sva-rule-seen" }, this.fired, this.right, this.odds),
          make("div", { class: "sva-region-buttons" }, this.test, this.mute, this.edit, this.drop)), this.tests);
      this.tab = tab;
    }

    show(rule, message) {
      this.rule = rule;
      const state = standing(rule);
      set(this.state, state);
      this.state.dataset.state = state;
      this.state.title = WHY[state];
      set(this.words, rule.when);
      set(this.facts, this.describe(rule));
      set(this.fired, rule.fired_s ? `last alert ${clock(rule.fired_s)}${rule.num_fired > 1 ? `, ${rule.num_fired} so far` : ""}` : "no alert yet");
      const marked = rule.num_right + rule.num_wrong;
      set(this.right, marked ? `${rule.num_right} of ${marked} marked right` : "");
      this.odds.hidden = rule.probability === null;
      this.odds.value = rule.probability ?? 0;
      this.odds.high = rule.sure;
      this.odds.title = rule.probability === null ? "" : `Probability now: ${rule.probability.toFixed(2)}`;
      set(this.mute, rule.muted ? "Unmute" : "Mute");
      this.mute.setAttribute("aria-label", `${rule.muted ? "Unmute" : "Mute"} ${rule.name}`);
      for (const button of [this.mute, this.edit, this.drop]) button.disabled = !rule.may_change;
      this.test.hidden = rule.place === "own" || !message.targets.length;
      this.test.disabled = !rule.may_change;
      const tests = this.tab.tested === rule.name && rule.place === "cameras" ? message.tests : [];
      const key = JSON.stringify(tests);
      if (key === this.testsShown) return;
      this.testsShown = key;
      this.tests.replaceChildren(...tests.filter(({ phase }) => phase === "started").map((test) => make("li", { "data-state": test.state },
        make("b", { text: test.target }), ` ${test.state}${test.said ? `: ${test.said}` : ""}`)));
    }

    describe(rule) {
      const where = rule.place === "own" ? "this tab's stream" : rule.cameras.length ? rule.cameras.join(", ") : "all cameras";
      const zone = rule.zone ? typeof rule.zone === "string" ? `zone ${rule.zone}` : "a zone of its own" : "";
      const to = rule.place === "own" ? "" : rule.to.length ? `to ${rule.to.join(", ")}` : "";
      const made = rule.place === "cameras" && !rule.configured ? "made here" : "";
      const named = rule.name === rule.when ? "" : rule.name;
      return [named, where, zone, rule.severity, `sure ${rule.sure}`, rule.hold_s ? `holds ${rule.hold_s} s` : "", rule.schedule || "", to, made]
        .filter(Boolean).join(" · ");
    }
  }

  class Rules {
    constructor(root) {
      const part = (name) => root.querySelector(`.sva-${name}`);
      this.list = part("rule-list");
      this.none = root.querySelector("[data-testid=no-rules]");
      this.said = root.querySelector("[data-testid=rules-said]");
      this.count = part("rules-count");
      this.kept = part("rules-kept");
      this.yaml = part("yaml");
      this.rows = new Map();
      this.tested = null;
      this.editor = new sva.RuleEditor(part("rule-editor"), () => { this.dismissed = true; });
      this.notify = part("rule-notify");
      this.notify.addEventListener("click", async () => {
        this.tell(await sva.notices.toggle(), "wait");
        sva.notices.label(this.notify);
      });
      sva.notices.label(this.notify);
      part("rule-new").addEventListener("click", () => this.edit(null));
      part("rule-copy").addEventListener("click", () => sva.copyText(this.yaml, (text, kind) => this.tell(text, kind)));
      part("rule-yaml").addEventListener("click", () => {
        this.kept.hidden = !this.kept.hidden;
        if (!this.kept.hidden) this.askYaml();
      });
      connection.on("rules", (message) => this.update(message));
      connection.on("ruled", (message) => this.answered(message));
      let told = false;
      const tell = () => { told = connection.send({ rules: this.seen || false, picture: this.editor.isOpen ? this.editor.seen : "" }); };
      new IntersectionObserver((entries) => {
        this.seen = entries.at(-1).isIntersecting;
        tell();
      }).observe(root);
      connection.on("lost", () => { told = false; });
      connection.on("pulse", () => { if (!told) tell(); });
    }

    edit(rule) {
      this.editor.open(rule, rule ? rule.place : "cameras", rule ? "" : this.example);
      this.editor.look();
      this.tell("");
      this.editor.panel.scrollIntoView({ block: "nearest" });
    }

    // The words of a rule that is ready: the small model can judge few.
    get example() { return this.message && !this.message.hint ? "a person in view" : "the view is covered"; }

    update(message) {
      this.message = message;
      this.editor.update(message);
      const keys = message.rules.map((rule) => `${rule.place} ${rule.name}`);
      for (const [key, row] of this.rows) if (!keys.includes(key)) { row.node.remove(); this.rows.delete(key); }
      message.rules.forEach((rule, at) => {
        if (!this.rows.has(keys[at])) this.rows.set(keys[at], new Row(this, rule));
        const row = this.rows.get(keys[at]);
        row.show(rule, message);
        if (this.list.children[at] !== row.node) this.list.insertBefore(row.node, this.list.children[at] || null);
      });
      this.none.hidden = message.rules.length > 0 || !this.editor.isOpen;
      const muted = message.rules.filter((rule) => rule.muted).length;
      set(this.count, message.rules.length ? `${message.rules.length}${muted ? `, ${muted} muted` : ""}` : "");
      if (!message.rules.length && !this.editor.isOpen && !this.dismissed) {
        this.editor.open(null, "cameras", this.example);
        this.editor.look();
        this.none.hidden = false;
      }
    }

    tell(text, kind = "good") {
      this.said.className = `sva-outcome ${kind}`;
      this.said.textContent = text;
      this.said.hidden = !text;
    }

    askYaml() {
      const hasCameras = this.message && this.message.cameras.length > 0;
      connection.send({ rule: { do: "yaml", place: hasCameras ? "cameras" : "own" } });
    }

    answered(message) {
      if (["rehearse", "judge"].includes(message.do) || (message.do === "put" && message.wrong)) {
        this.editor.answered(message);
        return;
      }
      if (message.wrong) this.tell(message.wrong, "bad");
      else if (message.do === "put") {
        this.editor.close();
        this.tell(ARMED);
      } else if (message.do === "remove") this.tell(REMOVED);
      else if (message.do === "test") this.tell("");
      else if (message.do === "yaml") this.yaml.textContent = message.yaml;
      if (message.do !== "yaml" && !this.kept.hidden) this.askYaml();
    }
  }

  sva.mountRules = (root) => { sva.rules = new Rules(root); };
})();
