// The page's voice: plays what is said, and records a spoken question, which goes to this server only.
(() => {
  const HOLD_MS = 400; // a press that lasts longer is push to talk, a shorter one switches the microphone on or off
  const BLOCK = 2048;
  const TAKER = `registerProcessor("sva-taker", class extends AudioWorkletProcessor {
    process([input]) { if (input[0]) this.port.postMessage(input[0].slice()); return true; }
  });`;
  const WORDS = {
    NotAllowedError: "The browser was not allowed to use the microphone (permission denied). Allow it for this page at the " +
      "left of the address bar, then try again.",
    NotFoundError: "No microphone was found. Plug one in.",
    NotReadableError: "The microphone is in use by another program, or it failed. Close what uses it, then try again.",
  };
  const NEEDS_HTTPS = "Browsers give a microphone to pages over HTTPS or on this machine only, so HTTPS is needed here. " +
    "Start with --ssl-self-signed, or open the page as http://127.0.0.1 on the machine itself.";

  // Sound in the order in which it came, each clause at the end of the one before.
  class Player {
    constructor() {
      this.context = null;
      this.nextS = 0;
      this.playing = new Map();
      this.turn = Promise.resolve();
      this.cuts = 0;
    }

    open() {
      this.context ||= new AudioContext();
      return this.context.resume();
    }

    play(wav) {
      const cuts = this.cuts;
      this.turn = this.turn.then(async () => {
        if (!this.context) return;
        const buffer = await this.context.decodeAudioData(wav);
        if (cuts !== this.cuts) return;
        const source = this.context.createBufferSource();
        source.buffer = buffer;
        source.connect(this.context.destination);
        const at = Math.max(this.context.currentTime, this.nextS);
        this.nextS = at + buffer.duration;
        const clause = { at, seconds: buffer.duration };
        this.playing.set(source, clause);
        source.onended = () => this.playing.delete(source);
        source.start(at);
        sva.voiceLog.push(clause);
      }, () => undefined);
    }

    cut() {
      this.cuts += 1;
      this.nextS = 0;
      for (const [source, clause] of this.playing) {
        source.stop();
        clause.seconds = Math.min(clause.seconds, Math.max(0, this.context.currentTime - clause.at));
      }
      this.playing.clear();
    }
  }

  class Microphone {
    constructor(onSound, onLevel) {
      this.onSound = onSound;
      this.onLevel = onLevel;
    }

    async open() {
      if (!window.isSecureContext || !navigator.mediaDevices) throw new Error(NEEDS_HTTPS);
      const wanted = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
      try {
        this.stream = await navigator.mediaDevices.getUserMedia({ audio: wanted, video: false });
      } catch (error) {
        throw new Error(WORDS[error.name] || `The microphone could not be opened: ${error.message || error.name}.`);
      }
      this.context = new AudioContext();
      await this.context.resume();
      const source = this.context.createMediaStreamSource(this.stream);
      const script = URL.createObjectURL(new Blob([TAKER], { type: "text/javascript" }));
      await this.context.audioWorklet.addModule(script);
      URL.revokeObjectURL(script);
      this.taker = new AudioWorkletNode(this.context, "sva-taker", { numberOfOutputs: 0 });
      const block = new Float32Array(BLOCK);
      let filled = 0;
      this.taker.port.onmessage = (event) => {
        block.set(event.data, filled);
        filled += event.data.length;
        if (filled + event.data.length <= BLOCK) return;
        this.take(block.subarray(0, filled));
        filled = 0;
      };
      source.connect(this.taker);
      return Math.round(this.context.sampleRate);
    }

    take(samples) {
      const pcm = new Int16Array(samples.length);
      let peak = 0;
      for (let n = 0; n < samples.length; n += 1) {
        const value = Math.max(-1, Math.min(1, samples[n]));
        peak = Math.max(peak, Math.abs(value));
        pcm[n] = value * 32767;
      }
      this.onLevel(peak);
      this.onSound(pcm.buffer);
    }

    close() {
      if (this.taker) this.taker.disconnect();
      if (this.stream) this.stream.getTracks().forEach((track) => track.stop());
      if (this.context) this.context.close();
      this.taker = this.stream = this.context = null;
    }
  }

  class Voice {
    constructor(root) {
      for (const name of ["mic", "level", "aloud", "hearing", "spoken"]) this[name] = root.querySelector(`.sva-${name}`);
      this.player = new Player();
      this.microphone = new Microphone((sound) => this.socket && this.socket.send(sound), (peak) => { this.level.value = peak; });
      this.listening = false;
      this.aloud.addEventListener("click", () => this.setAloud(this.aloud.getAttribute("aria-pressed") !== "true"));
      this.mic.addEventListener("pointerdown", (event) => {
        this.mic.setPointerCapture(event.pointerId);
        this.press();
      });
      this.mic.addEventListener("pointerup", () => this.release());
      this.mic.addEventListener("click", (event) => event.detail === 0 && (this.listening ? this.stop() : this.start())); // a key
      document.addEventListener("keydown", (event) => event.key === "F2" && !event.repeat && this.press());
      document.addEventListener("keyup", (event) => event.key === "F2" && this.release());
    }

    press() {
      this.pressedMs = performance.now();
      this.began = !this.listening;
      if (this.began) this.start();
    }

    release() {
      if (!this.began || performance.now() - this.pressedMs > HOLD_MS) this.stop();
    }

    // The connection is opened by the first press.
    connect() {
      if (this.socket && this.socket.readyState <= WebSocket.OPEN) return this.opened;
      const url = new URL(sva.connection.socket ? sva.connection.socket.url : location.href);
      url.pathname = url.pathname.replace(/\/sva\/ws$/, "/sva/voice");
      const socket = this.socket = new WebSocket(url);
      socket.binaryType = "arraybuffer";
      socket.onmessage = (event) => this.receive(event.data);
      socket.onclose = () => {
        if (this.socket !== socket) return;
        this.player.cut();
        this.showAloud(false);
        if (this.listening) this.stop();
      };
      this.opened = new Promise((resolve, reject) => {
        socket.onopen = () => {
          socket.send(JSON.stringify({ token: sva.connection.token }));
          resolve();
        };
        socket.onerror = () => reject(new Error("The server cannot be reached. Reload the page."));
      });
      return this.opened;
    }

    async setAloud(on) {
      try {
        if (on) await this.player.open();
        await this.connect();
        this.socket.send(JSON.stringify({ aloud: on }));
      } catch (error) {
        this.say(error.message);
      }
    }

    async start() {
      if (this.listening) return;
      this.listening = true;
      this.mic.setAttribute("aria-pressed", "true");
      this.mic.textContent = "Listening…";
      this.say("");
      try {
        await this.connect();
        const rate = await this.microphone.open();
        this.player.cut();
        this.socket.send(JSON.stringify({ listen: rate }));
        this.level.hidden = false;
        if (!this.listening) this.finish(); // released while the browser asked for permission
      } catch (error) {
        this.finish();
        this.say(error.message);
      }
    }

    stop() {
      if (!this.listening) return;
      if (this.microphone.stream) {
        this.say("…");
        setTimeout(() => { // the last block is still on its way
          if (this.socket && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ heard: true }));
          this.finish();
        }, 150);
      } else this.listening = false;
    }

    finish() {
      this.listening = false;
      this.microphone.close();
      this.level.hidden = true;
      this.mic.setAttribute("aria-pressed", "false");
      this.mic.textContent = "Speak a question";
    }

    say(text) {
      this.hearing.textContent = text;
    }

    showAloud(on) {
      this.aloud.setAttribute("aria-pressed", String(on));
      this.aloud.textContent = on ? "Mute" : "Unmute";
      if (!on) this.spoken.hidden = true;
    }

    receive(data) {
      if (data instanceof ArrayBuffer) {
        this.player.play(data);
        return;
      }
      const message = JSON.parse(data);
      if (message.type === "aloud") this.showAloud(message.on);
      if (message.type === "cut") this.player.cut();
      if (message.type === "caption") {
        this.spoken.textContent = message.text;
        this.spoken.hidden = !message.text;
        this.spoken.dataset.kind = message.kind;
      }
      if (message.type === "transcript") this.write(message.text, message.whole);
      if (message.type === "deaf" || message.type === "full") {
        this.say(message.text);
        if (this.listening) message.type === "full" ? this.stop() : this.finish();
      }
    }

    // The words go into the question box, where they can be corrected before they are sent.
    write(text, whole) {
      const box = document.querySelector("#sva-question textarea");
      if (!box) return;
      if (text) {
        Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(box, text);
        box.dispatchEvent(new Event("input", { bubbles: true }));
      }
      this.say(!whole ? text : text ? "Correct it if need be, then press Enter." : "No words were heard.");
      if (whole && text) box.focus();
    }
  }

  sva.voiceLog = []; // when each clause began and how long it was heard, for whoever wants to know what was played
  sva.mountVoice = (root) => { sva.voice = new Voice(root); };
})();
