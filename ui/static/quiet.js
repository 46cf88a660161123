// Gradio's loading indicator (6.31) keeps counting in every animation frame, for ever, after it is hidden. It uses the
// requestAnimationFrame that it found while it was loaded, so that function is slowed down once the page has loaded.
(() => {
  const EVERY_MS = 1000;
  const own = window.requestAnimationFrame;
  let isSlow = false;
  const kept = (callback) => (isSlow ? setTimeout(() => own(callback), EVERY_MS) : own(callback));
  window.requestAnimationFrame = kept;
  window.svaQuiet = () => {
    isSlow = true;
    if (window.requestAnimationFrame === kept) window.requestAnimationFrame = own;
  };
})();
