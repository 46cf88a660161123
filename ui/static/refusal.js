// What the app refuses (ui/guard.py) is shown with its reason: Gradio alone would say that there was an error.
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
})();
