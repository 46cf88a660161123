// The tab's one WebSocket: it receives pictures and states; it sends acknowledgements, requests and webcam frames.
(() => {
  const RETRY_MS = [250, 500, 1000, 2000, 4000];

  class Connection {
    constructor() {
      this.token = null;
      this.socket = null;
      this.attempt = 0;
      this.listeners = {};
      this.ready = false;
      document.addEventListener("visibilitychange", () => this.send({ shown: !document.hidden }));
    }

    on(type, listener) {
      (this.listeners[type] ||= []).push(listener);
    }

    tell(type, data) {
      for (const listener of this.listeners[type] || []) listener(data);
    }

    open(token) {
      if (this.token === token && this.socket && this.socket.readyState <= WebSocket.OPEN) return;
      this.token = token;
      this.close();
      const root = (window.gradio_config && window.gradio_config.root) || location.origin + location.pathname;
      const base = new URL(root.replace(/\/$/, "") + "/sva/ws", location.origin);
      base.protocol = location.protocol === "https:" ? "wss:" : "ws:";
      base.host = location.host;
      const socket = new WebSocket(base);
      socket.binaryType = "arraybuffer";
      this.socket = socket;
      socket.onopen = () => socket.send(JSON.stringify({ token, shown: !document.hidden }));
      socket.onmessage = (event) => this.receive(event.data);
      socket.onclose = () => {
        if (this.socket !== socket) return;
        this.ready = false;
        this.tell("lost", null);
        const wait = RETRY_MS[Math.min(this.attempt++, RETRY_MS.length - 1)];
        setTimeout(() => this.socket === socket && this.token && this.open(this.token), wait);
      };
    }

    close() {
      const socket = this.socket;
      this.socket = null;
      this.ready = false;
      if (socket) socket.close();
    }

    receive(data) {
      if (data instanceof ArrayBuffer) {
        const view = new DataView(data);
        this.tell("picture", { mediaS: view.getFloat64(0, true), number: view.getUint32(8, true), jpeg: data.slice(12) });
        return;
      }
      const message = JSON.parse(data);
      if (message.type === "gone") {
        this.token = null;
        this.close();
      } else {
        this.ready = true;
        this.attempt = 0;
      }
      this.tell(message.type, message);
    }

    send(message) {
      if (this.socket && this.socket.readyState === WebSocket.OPEN) {
        this.socket.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
        return true;
      }
      return false;
    }

    get backlogBytes() {
      return this.socket ? this.socket.bufferedAmount : 0;
    }
  }

  const sva = (window.sva = { connection: new Connection(), pulse: null, pulseAtMs: 0 });

  sva.time = (seconds) => {
    const sign = seconds < 0 ? "-" : "";
    const tenths = Math.round(Math.abs(seconds) * 10);
    const whole = Math.floor(tenths / 10);
    const two = (value) => String(value).padStart(2, "0");
    const hours = Math.floor(whole / 3600);
    const head = hours ? `${hours}:${two(Math.floor(whole / 60) % 60)}` : two(Math.floor(whole / 60));
    return `${sign}${head}:${two(whole % 60)}.${tenths % 10}`;
  };

  sva.bits = (text) => {
    const raw = atob(text || "");
    const bits = new Uint8Array(raw.length * 8);
    for (let i = 0; i < bits.length; i++) bits[i] = (raw.charCodeAt(i >> 3) >> (7 - (i & 7))) & 1;
    return bits;
  };

  sva.make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") node.textContent = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  };

  // Outlines kept cells in one colour and refreshed ones in another, over a picture of any size.
  sva.drawCells = (canvas, width, height, rows, cols, kept, refreshed) => {
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (!rows || !cols) return;
    const cellW = width / cols, cellH = height / rows;
    context.lineWidth = Math.max(1, width / 480);
    for (let cell = 0; cell < rows * cols; cell++) {
      if (!kept[cell]) continue;
      const renewed = refreshed[cell];
      context.fillStyle = renewed ? "rgba(96,165,250,0.22)" : "rgba(251,191,36,0.26)";
      context.strokeStyle = renewed ? "rgba(96,165,250,0.8)" : "rgba(251,191,36,0.9)";
      const x = (cell % cols) * cellW, y = Math.floor(cell / cols) * cellH;
      context.fillRect(x, y, cellW, cellH);
      context.strokeRect(x + 0.5, y + 0.5, cellW - 1, cellH - 1);
    }
  };
})();
