// Gradio's sign of a page that is loading counts on at every frame after it went, on each page and for ever (Gradio 6.31).
// It keeps the requestAnimationFrame that it found while it was loaded; that one becomes slow once the page is there.
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
