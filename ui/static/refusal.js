// Shows the reason for a request that ui/guard.py refused; Gradio would only say that there was an error.
(() => {
  const own = window.fetch;
  const show = (reason) => {
    let bar = document.getElementById("sva-refusal");
    if (!bar) {
      bar = document.createElement("div");
      bar.id = "sva-refusal";
      bar.setAttribute("role", "alert");
      (document.body || document.documentElement).appendChild(bar);
    }
    bar.textContent = `Refused. ${reason}`;
  };
  window.fetch = async (...given) => {
    const answer = await own.apply(window, given);
    if (answer.status === 403 && answer.headers.get("x-refusal")) answer.clone().text().then(show, () => {});
    return answer;
  };
  // If the page's own scripts and styles are refused, nothing else can show the reason, so it is asked for here.
  let isAsked = false;
  const ask = (event) => {
    if (isAsked || !["SCRIPT", "LINK"].includes(event.target.tagName)) return;
    isAsked = true;
    window.fetch(location.href, { method: "POST" }).catch(() => {});
  };
  window.addEventListener("error", ask, true);
})();
