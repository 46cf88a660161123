// Ties the parts together: the status bar, the feed's links, and what Gradio's events need of the page.
(() => {
  const { connection, make } = sva;
  const KEY = "streaming-video-assistant";
  let trigger = () => undefined;

  // A tab keeps its session when it is reloaded; other tabs have their own.
  sva.savedToken = () => {
    try { return sessionStorage.getItem(KEY) || ""; } catch { return ""; }
  };

  sva.begin = (token) => {
    if (!token) return;
    try { sessionStorage.setItem(KEY, token); } catch { /* without storage, a reload starts a new session */ }
    connection.open(token);
  };

  sva.say = (text) => {
    const box = document.querySelector(".sva-say");
    if (!box) return;
    box.textContent = text;
    box.hidden = !text;
  };

  const ago = (seconds) => {
    if (seconds < 10) return `${seconds.toFixed(1)} s`;
    return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
  };

  const STATE_WORDS = { IDLE: "nothing is watched", QUEUED: "waiting for a place" };

  class Status {
    constructor(root) {
      this.root = root.querySelector(".sva-status");
      for (const name of ["title", "state", "rec", "newest", "model", "place"]) this[name] = root.querySelector(`.sva-${name}`);
      connection.on("pulse", (pulse) => this.update(pulse));
      connection.on("lost", () => this.show("state", "DISCONNECTED"));
      setInterval(() => this.tick(), 250);
    }

    show(name, text) {
      if (this[name].textContent !== text) this[name].textContent = text;
      this[name].hidden = !text;
    }

    update(pulse) {
      this.root.dataset.state = pulse.state;
      this.show("title", pulse.title || "No source");
      this.show("state", pulse.state);
      this.state.title = pulse.reason || STATE_WORDS[pulse.state] || "";
      this.model.dataset.state = pulse.model.state;
      this.show("rec", pulse.recording ? "RECORDING" : "");
      this.showModel(pulse.model);
      this.show("place", pulse.place ? `All places are taken. You are number ${pulse.place} in the queue; ` +
        "this starts by itself." : pulse.state === "FAILED" || pulse.state === "RECONNECTING" ? pulse.reason : "");
      this.tick();
    }

    // While the model loads, its current step and progress are shown here and in the banner.
    showModel(model) {
      const waiting = model.state === "loading", known = model.share !== null && model.share !== undefined;
      const share = known ? `${Math.floor(100 * model.share)} %` : "";
      this.show("model", waiting ? [model.text, share, `${model.seconds.toFixed(0)} s`].filter(Boolean).join(" · ") : model.text);
      const bar = document.querySelector(".sva-about progress");
      if (!bar) return;
      if (known) bar.value = model.share;
      else bar.removeAttribute("value");
      bar.nextElementSibling.textContent = share;
    }

    tick() {
      const pulse = sva.pulse;
      const known = pulse && pulse.watching && pulse.age_s !== null && pulse.age_s !== undefined;
      const age = known ? pulse.age_s + (performance.now() - sva.pulseAtMs) / 1000 : 0;
      this.show("newest", known ? `newest frame seen ${ago(age)} ago` : "");
    }
  }

  // Links in the feed open the frames behind a time or an item; they can do nothing else.
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest('a[href*="#sva-"]');
    if (!link) return;
    event.preventDefault();
    const [, kind, value] = link.getAttribute("href").match(/#sva-(event|moment)-([\d.]+)$/) || [];
    if (kind === "event") connection.send({ evidence: Number(value) });
    if (kind === "moment") connection.send({ moment: Number(value) });
  }, true);

  // Screen readers get a message's text, not its markup.
  const nameMessages = (log) => {
    for (const message of log.querySelectorAll("[data-testid=bot], [data-testid=user]")) {
      const words = message.textContent.replace(/\s+/g, " ").trim();
      if (message.getAttribute("aria-label") !== words) message.setAttribute("aria-label", words);
      const line = message.querySelector(".sva-line");
      if (message.querySelector(".sva-divider")) {
        message.setAttribute("role", "separator");
        continue;
      }
      message.setAttribute("role", "article");
      message.dataset.kind = line ? line.className.match(/sva-(?!line)(\w+)/)[1] : "question";
      const at = message.querySelector(".sva-at");
      if (at) message.dataset.time = at.textContent;
    }
  };
  // The first words of an answer come with a pulse, sooner than the feed is fetched, and stand until it is.
  const MOST_SAID = 20, said = new Map();
  const showFirstWords = (feed) => {
    for (const waiting of said.size ? feed.querySelectorAll(".sva-text:has(> .sva-wait)") : []) {
      const link = waiting.closest(".sva-line").querySelector(".sva-at").getAttribute("href");
      const words = said.get(link);
      if (!words) continue;
      const cursor = document.createElement("span");
      cursor.className = "sva-cursor";
      cursor.textContent = "\u258d";
      waiting.replaceChildren(words, cursor);
    }
  };
  const watchFeed = (feed) => {
    let asked = false;
    nameMessages(feed);
    new MutationObserver(() => {
      showFirstWords(feed);
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => { asked = false; nameMessages(feed); });
    }).observe(feed, { childList: true, subtree: true, characterData: true });
  };

  connection.on("pulse", (pulse) => {
    if (!sva.pulse) svaQuiet(); // the page has loaded
    sva.pulse = pulse;
    sva.pulseAtMs = performance.now();
  });
  connection.on("say", (message) => sva.say(message.text));
  connection.on("gone", () => sva.say("This page's session has ended. Reload the page to start a new one."));

  // The feed takes the height that the banner and the question box leave; both can change their size.
  const watchHeight = (name) => {
    const part = document.querySelector(`#sva-${name}`);
    if (part) new ResizeObserver(() =>
      document.documentElement.style.setProperty(`--sva-${name}-px`, `${part.offsetHeight}px`)).observe(part);
  };

  sva.mountStatus = (root) => { sva.status = new Status(root); };

  sva.mountViewer = (root, fire) => {
    trigger = fire;
    sva.picture = new sva.Picture(root);
    sva.timeline = new sva.Timeline(root);
    sva.evidence = new sva.Evidence(root);
    sva.webcam = new sva.Webcam(root);
    let version = -1, state = "", feed = null;
    connection.on("pulse", (pulse) => {
      if (!feed && (feed = document.querySelector("#sva-feed"))) {
        watchFeed(feed);
        watchHeight("banner");
        watchHeight("question");
        watchHeight("voice");
        watchHeight("raised");
        const box = document.querySelector("#sva-question textarea"); // Gradio does not connect its label
        if (box) box.setAttribute("aria-label", "Question");
      }
      for (const answer of pulse.said) said.set(`#sva-event-${answer.id}`, answer.text);
      while (said.size > MOST_SAID) said.delete(said.keys().next().value);
      if (feed) showFirstWords(feed);
      if (pulse.feed !== version) {
        version = pulse.feed;
        trigger("fresh", { version });
      }
      const now = [pulse.watching, pulse.state === "PAUSED", pulse.kind, Boolean(pulse.duration_s), pulse.place > 0,
        pulse.model.state, pulse.shared, pulse.open > 0, pulse.run, pulse.state === "FAILED"].join();
      if (now !== state) {
        state = now;
        trigger("changed", { state });
      }
    });
  };

  sva.mountGrid = (root, fire) => { sva.grid = new sva.Grid(root, fire); };
})();
