"""What the page's handlers share: finding a request's session, queue settings, banner and result. Any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.safe import literal

if TYPE_CHECKING:
    from assistant.viewers.backend import Backend
    from assistant.viewers.viewer_session import ViewerSession

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Settings of handlers that return at once: they skip Gradio's queue, so no tab waits for another."""
SLOW: dict[str, Any] = {"concurrency_limit": 16, "show_progress": "hidden", "api_visibility": "private"}


def viewer_of(backend: Backend, request: gr.Request) -> ViewerSession:
    """The viewer's session that a request belongs to."""
    return backend.registry.of(request.session_hash or "")


def banner(backend: Backend, viewer: ViewerSession | None = None) -> str:
    """The banner: which model is watching, what it knows and does not know; folded once something is watched."""
    about, news = backend.model.about(), backend.model.news()
    if news.state == "failed":
        return f'<div class="sva-about failed" role="alert"><strong>{literal(news.text)}</strong></div>'
    is_watching = backend.views is not None or (viewer is not None and viewer.stream is not None)
    doing_now = "is being loaded" if news.state == "loading" else "is watching" if is_watching else "is ready"
    title = about.title.replace("is watching", doing_now)
    loading = '<progress aria-label="Loading the model" max="1"></progress> <span class="sva-loading"></span>'
    doing = f" {loading}" if news.state == "loading" else ""
    other = f"<p>{literal(about.other)}</p>" if about.other else ""
    is_open = "" if viewer is not None and viewer.stream is not None else " open"
    return (
        f'<details class="sva-about"{is_open}><summary><strong>{literal(title)}</strong>'
        f"{doing}</summary>"
        f"<p>{literal(about.can)} <b>{literal(about.cannot)}</b></p>{other}</details>"
    )


def result_html(ok: bool | None, text: str) -> str:
    """The result of testing a source, or what is wrong with it. ok: None while the test runs."""
    kind = "wait" if ok is None else "good" if ok else "bad"
    return f'<p class="sva-outcome {kind}" role="status" data-testid="result">{literal(text)}</p>'
