// Alerts first: the latest ones above the feed with their picture, clip and buttons; a count of unseen ones in the page's
// title; and notifications of the browser, once a person pressed for them. Texts are set as text alone.
(() => {
  const { connection, make } = sva;
  const SHOWN = 2;
  const KEY = "sva-notify";
  const two = (value) => String(value).padStart(2, "0");
  const clock = (wall_s) => {
    const at = new Date(1000 * wall_s);
    return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  };
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const stored = (value) => {
    try {
      if (value !== undefined) localStorage.setItem(KEY, value);
      return localStorage.getItem(KEY);
    } catch { return value ?? null; } // without storage it lasts until the page is left
  };

  class Card {
    constructor(alert) {
      const button = (text, click) => make("button", { type: "button", text, "aria-label": `${text}: ${alert.text}`, onclick: click });
      this.image = make("img", { alt: "" });
      this.badge = make("span", { class: "sva-badge", text: alert.severity });
      this.when = make("span", { class: "sva-when" });
      this.state = make("span", { class: "sva-raised-state" });
      this.said = make("p", { class: "sva-raised-wrong", hidden: true });
      this.video = make("video", { controls: true, muted: true, playsinline: true, hidden: true, "aria-label": "Clip of this alert" });
      this.play = button("Play the clip", () => connection.send({ alert: { do: "clip", key: this.alert.key } }));
      const mark = (verdict) => connection.send({ alert: { do: "mark", key: this.alert.key, verdict: this.alert.verdict === verdict ? null : verdict } });
      this.right = button("Confirm", () => mark("right"));
      this.wrong = button("Wrong", () => mark("wrong"));
      this.mute = button("Mute the rule", () => connection.send({ rule: { do: "mute", place: this.alert.place, name: this.alert.rule, muted: true } }));
      this.hide = make("button", { type: "button", text: "✕", "aria-label": `Take away: ${alert.text}`, onclick: () => this.away() });
      this.buttons = make("div", { class: "sva-raised-buttons" }, this.right, this.wrong, this.play, this.mute);
      this.node = make("li", { class: "sva-raised-card", "data-severity": alert.severity, title: alert.reason }, this.image,
        make("div", { class: "sva-raised-words" }, make("div", { class: "sva-raised-head" }, this.badge, this.when, make("span", { class: "sva-grow" }), this.hide),
          make("strong", { text: alert.text }), this.state, this.buttons, this.said), this.video);
    }

    show(alert, message) {
      this.alert = alert;
      if (alert.jpeg) this.image.src = "data:image/jpeg;base64," + alert.jpeg;
      this.image.hidden = !this.image.src;
      set(this.when, `${clock(alert.wall_s)} · ${alert.camera}`);
      set(this.state, alert.goes_on ? "goes on" : alert.over);
      this.node.classList.toggle("goes-on", alert.goes_on);
      this.play.hidden = !alert.clip || alert.clip === "lost";
      this.play.disabled = alert.clip === "recording";
      this.play.title = alert.clip === "recording" ? "It is still being recorded." : "";
      for (const [node, verdict] of [[this.right, "right"], [this.wrong, "wrong"]]) {
        node.setAttribute("aria-pressed", String(alert.verdict === verdict));
        node.disabled = alert.place === "cameras" && !message.may_change;
      }
      const isMuted = message.muted.some(([place, name]) => place === alert.place && name === alert.rule);
      this.mute.hidden = !alert.rule;
      this.mute.disabled = isMuted || (alert.place === "cameras" && !message.may_change);
      set(this.mute, isMuted ? "Rule is muted" : "Mute the rule");
    }

    answered(message) {
      this.said.hidden = !message.wrong;
      set(this.said, message.wrong || "");
      if (!message.address) return;
      this.video.hidden = false;
      if (this.video.getAttribute("src") !== message.address) this.video.src = message.address;
      this.video.play().catch(() => undefined);
    }
  }

  class Raised {
    constructor(root) {
      this.root = root;
      this.panel = root.querySelector(".sva-raised");
      this.list = root.querySelector(".sva-raised-list");
      this.more = root.querySelector(".sva-raised-more");
      this.count = root.querySelector(".sva-raised-count");
      this.cards = new Map();
      this.gone = new Set();
      this.unseen = new Set();
      this.known = null;
      this.title = document.title;
      this.notify = root.querySelector(".sva-raised-notify");
      this.said = root.querySelector(".sva-raised-said");
      this.notify.addEventListener("click", async () => {
        const text = await sva.notices.toggle();
        this.said.hidden = false;
        set(this.said, text);
        this.arrange();
      });
      this.more.addEventListener("click", () => { this.all = !this.all; this.arrange(); });
      connection.on("alerts", (message) => this.update(message));
      connection.on("alerted", (message) => { const card = this.cards.get(message.key); if (card) card.answered(message); });
      new IntersectionObserver((entries) => { this.inSight = entries.at(-1).isIntersecting; this.look(); }).observe(this.panel);
      document.addEventListener("visibilitychange", () => this.look());
    }

    update(message) {
      this.message = message;
      const fresh = this.known === null ? [] : message.alerts.filter(({ key }) => !this.known.has(key));
      this.known = new Set(message.alerts.map(({ key }) => key));
      for (const [key, card] of this.cards) if (!this.known.has(key)) { card.node.remove(); this.cards.delete(key); }
      for (const alert of message.alerts) {
        if (!this.cards.has(alert.key)) {
          const card = new Card(alert);
          card.away = () => { this.gone.add(alert.key); this.arrange(); };
          this.cards.set(alert.key, card);
        }
        this.cards.get(alert.key).show(alert, message);
      }
      for (const alert of fresh) {
        this.unseen.add(alert.key);
        sva.notices.tell(alert);
      }
      this.arrange();
      this.look();
    }

    arrange() {
      const here = this.message.alerts.filter(({ key }) => !this.gone.has(key));
      this.panel.hidden = !here.length;
      sva.notices.label(this.notify);
      set(this.count, String(here.length));
      this.more.hidden = here.length <= SHOWN;
      set(this.more, this.all ? "Show the latest" : `Show all ${here.length}`);
      const shown = here.slice(0, this.all ? here.length : SHOWN).map(({ key }) => this.cards.get(key).node);
      if (shown.length !== this.list.children.length || shown.some((node, at) => node !== this.list.children[at])) this.list.replaceChildren(...shown);
    }

    // What is in sight of a visible page is seen.
    look() {
      if (this.inSight && !document.hidden) this.unseen.clear();
      const count = this.unseen.size;
      document.title = count ? `(${count}) ${this.title}` : this.title;
    }
  }

  // Notifications of the browser: asked for on a press alone.
  class Notices {
    get isOn() { return "Notification" in window && Notification.permission === "granted" && stored() === "on"; }

    label(button) {
      button.setAttribute("aria-pressed", String(this.isOn));
      set(button, this.isOn ? "Notifications are on" : "Notify me");
    }

    async toggle() {
      if (this.isOn) { stored("off"); return "No more notifications in this browser."; }
      if (!("Notification" in window)) return "This browser gives notifications to encrypted pages, or to those of this machine, alone; open the page so.";
      const answer = Notification.permission === "default" ? await Notification.requestPermission() : Notification.permission;
      if (answer !== "granted") return "The browser forbids this page to notify; allow it in the settings of the page, beside its address.";
      stored("on");
      return "Alerts are shown by this browser while the page is open and not in front.";
    }

    tell(alert) {
      if (!this.isOn || (!document.hidden && document.hasFocus())) return;
      try {
        const notice = new Notification(alert.text, { body: `${alert.camera} · ${clock(alert.wall_s)}`, tag: alert.key });
        notice.onclick = () => { window.focus(); notice.close(); };
      } catch { /* browsers of phones show notifications of installed pages alone; the title still counts */ }
    }
  }

  sva.notices = new Notices();
  sva.mountRaised = (root) => { sva.raised = new Raised(root); };
})();
