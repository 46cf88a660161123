"""Tests a source: opens it, waits for one picture, and describes what was found or what is wrong.

`probe` blocks up to the source's time limits; any thread may call it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streaming.errors import StreamingError
from streaming.types import Frame, NoticeKind, SourceInfo

if TYPE_CHECKING:
    from streaming.sources.base import SourceOptions


@dataclass(frozen=True, slots=True)
class SourceProbe:
    """Result of testing a source."""

    ok: bool
    text: str
    """One or two sentences to show."""


def probe(
    spec: str,
    *,
    name: str | None = None,
    guard: Callable[[SourceOptions], SourceOptions] | None = None,
    options: SourceOptions | None = None,
) -> SourceProbe:
    """Open `spec` and read its first picture. A `StreamingError` is returned as text, not raised.

    guard: restricts the options of a source that a viewer named. options: with the time limits.
    """
    from streaming.open_source import open_source
    from streaming.sources.base import RetryPolicy, SourceOptions

    options = replace(options or SourceOptions(), retry=RetryPolicy(max_retries=0))
    reason = ""
    if guard is not None:
        options = guard(options)
    try:
        with open_source(spec, options=options) as source:
            info = source.open()
            shown = name or info.name
            for item in source.frames():
                if isinstance(item, Frame):
                    height_px, width_px = item.image.shape[:2]
                    return SourceProbe(True, f"{shown} works: {_described(width_px, height_px, info)}.")
                if item.kind is NoticeKind.ENDED and item.details.get("broken"):
                    reason = f" ({item.reason})"
    except StreamingError as error:
        return SourceProbe(False, str(error))
    shown = name or "The source"
    return SourceProbe(
        False, f"{shown}: it opened, but no picture came{reason}. Check that it holds video, or try again."
    )


def _described(width_px: int, height_px: int, info: SourceInfo) -> str:
    parts = [f"{width_px} x {height_px} pixels", info.codec]
    if info.fps_declared:
        parts.append(f"{info.fps_declared:.4g} pictures a second")
    length_s = info.duration_s_declared
    parts.append("live" if info.is_live else f"{length_s:.1f} s long" if length_s else "")
    if info.unwatched:
        parts.append(f"picture tracks that are not watched: {', '.join(info.unwatched)}")
    return ", ".join(part for part in parts if part)
