// The browser's own camera: shown by the browser itself, and sent to the model a few times a second.
(() => {
  const { connection } = sva;
  const LONG_SIDE_PX = 640;
  const MOST_BACKLOG_BYTES = 300000;

  const WORDS = {
    NotAllowedError: "The browser was not allowed to use the camera (permission denied). Allow the camera for this page " +
      "at the left of the address bar, then try again.",
    NotReadableError: "The camera is in use by another program, or it failed. Close what uses it, then try again.",
    AbortError: "The camera is in use by another program, or it failed. Close what uses it, then try again.",
    NotFoundError: "No camera was found. Plug one in, or choose another source.",
    OverconstrainedError: "The camera cannot give a usable picture. Choose another camera.",
    SecurityError: "The browser's settings forbid cameras on this page. Allow them, then try again.",
    TimeoutError: "The camera gave no picture within ten seconds. Plug it in again, or close what uses it.",
  };
  const NEEDS_HTTPS = "Browsers give a camera to pages over HTTPS or on this machine only, so HTTPS is needed here. Start " +
    "with --ssl-self-signed, or open the page as http://127.0.0.1 on the machine itself.";

  class Webcam {
    constructor(root) {
      this.video = root.querySelector("video");
      this.flipper = root.querySelector(".sva-flip");
      this.canvas = document.createElement("canvas");
      this.facing = "user";
      this.stream = null;
      this.encoding = false;
      this.lastSentMs = 0;
      this.flipper.addEventListener("click", () => this.flip());
      connection.on("pulse", (pulse) => this.update(pulse));
    }

    words(error) {
      return WORDS[error.name] || `The camera could not be opened: ${error.message || error.name}. Try another camera.`;
    }

    async ask() {
      if (!window.isSecureContext || !navigator.mediaDevices) throw new Error(NEEDS_HTTPS);
      const wanted = { video: { facingMode: this.facing, width: { ideal: 640 }, frameRate: { ideal: 30 } }, audio: false };
      let late = false;
      const timer = new Promise((_, reject) => setTimeout(() => {
        late = true;
        const error = new Error(WORDS.TimeoutError);
        reject(error);
      }, 10000));
      const asked = navigator.mediaDevices.getUserMedia(wanted);
      asked.then((stream) => late && stream.getTracks().forEach((track) => track.stop()), () => undefined);
      try {
        return await Promise.race([asked, timer]);
      } catch (error) {
        throw error instanceof DOMException ? new Error(this.words(error)) : error;
      }
    }

    // Returns "" if the camera runs, else what is wrong.
    async start() {
      try {
        await this.open();
        return "";
      } catch (error) {
        this.stop();
        return error.message;
      }
    }

    async test() {
      if (this.stream) return "The webcam works: it is running.";
      try {
        const stream = await this.ask();
        const settings = stream.getVideoTracks()[0].getSettings();
        stream.getTracks().forEach((track) => track.stop());
        return `The webcam works: ${settings.width} x ${settings.height} pixels, ` +
          `${Math.round(settings.frameRate || 0)} pictures a second.`;
      } catch (error) {
        return error.message;
      }
    }

    async open() {
      this.stop();
      this.stream = await this.ask();
      this.startedMs = performance.now();
      const track = this.stream.getVideoTracks()[0];
      track.addEventListener("ended", () => {
        this.stop();
        sva.say("The camera was lost: it was unplugged, or its permission was withdrawn.");
      });
      this.video.srcObject = this.stream;
      this.video.classList.toggle("mirrored", this.facing === "user");
      await this.video.play();
      const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
      this.flipper.hidden = cameras.length < 2;
      this.timer = setInterval(() => this.push(), 20);
    }

    stop() {
      clearInterval(this.timer);
      if (this.stream) this.stream.getTracks().forEach((track) => track.stop());
      this.stream = null;
      this.video.srcObject = null;
      this.flipper.hidden = true;
    }

    async flip() {
      this.facing = this.facing === "user" ? "environment" : "user";
      const wrong = await this.start();
      if (wrong) sva.say(wrong);
    }

    async update(pulse) {
      const wanted = pulse.watching && pulse.kind === "webcam";
      this.everyMs = 1000 / (pulse.push_fps || 8);
      this.paused = pulse.state === "PAUSED";
      if (!wanted && this.stream && performance.now() - (this.startedMs || 0) > 3000) this.stop();
      if (wanted && !this.stream && !this.reopening) {
        this.reopening = true; // the page was reloaded while its session continued
        const wrong = await this.start();
        if (wrong) {
          sva.say(wrong);
          connection.send({ stop: true });
        }
        this.reopening = false;
      }
    }

    push() {
      const now = performance.now();
      const pulse = sva.pulse;
      if (!pulse || !pulse.watching || pulse.kind !== "webcam" || this.paused || this.encoding) return;
      if (now - this.lastSentMs < this.everyMs || !this.video.videoWidth) return;
      if (connection.backlogBytes > MOST_BACKLOG_BYTES || !connection.ready) return;
      this.lastSentMs = now;
      this.encoding = true;
      const scale = Math.min(1, LONG_SIDE_PX / Math.max(this.video.videoWidth, this.video.videoHeight));
      this.canvas.width = Math.round(this.video.videoWidth * scale);
      this.canvas.height = Math.round(this.video.videoHeight * scale);
      this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
      this.canvas.toBlob(async (blob) => {
        if (blob) {
          const body = new Uint8Array(8 + blob.size);
          new DataView(body.buffer).setFloat64(0, now / 1000, true);
          body.set(new Uint8Array(await blob.arrayBuffer()), 8);
          connection.send(body.buffer);
        }
        this.encoding = false;
      }, "image/jpeg", 0.85);
    }
  }

  sva.Webcam = Webcam;
})();
