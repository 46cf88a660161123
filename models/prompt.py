"""The interleaved video-text format: the strings that VideoLLaMA 3 was trained on, for frames, turns and clips.

Pure functions of strings; any thread may call them. A session never renders a whole conversation: it appends pieces.
`PromptFormat` takes those pieces from a checkpoint's own chat template and checks once that the joined pieces equal the
whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import PromptError

IMAGE_TOKEN = "<image>"
STREAM_START = "<|stream_start|>"
STREAM_END = "<|stream_end|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"

DEFAULT_SYSTEM = (
    "You are VideoLLaMA3 created by Alibaba DAMO Academy, a helpful assistant to help people "
    "understand images and videos."
)

TEMPLATE_PATH = Path(__file__).parent / "embedded" / "chat_template.jinja"

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """The pieces of one checkpoint's format. Frames and turns are complete units, cut at special tokens only.

    Cutting at special tokens makes piecewise tokenization equal tokenization of the whole string.
    """

    template: str
    """Jinja source, as the checkpoint ships it."""
    default_system: str = DEFAULT_SYSTEM

    def render(
        self, messages: Sequence[Message], *, add_system_prompt: bool = True, add_generation_prompt: bool = False
    ) -> str:
        """Render a whole conversation with the checkpoint's template, one `<image>` per picture.

        Raises `PromptError` where the template refuses the conversation.
        """
        from jinja2 import TemplateError

        try:
            rendered: str = _compiled(self.template).render(
                messages=[dict(message) for message in messages],
                add_system_prompt=add_system_prompt,
                add_generation_prompt=add_generation_prompt,
                image_token=IMAGE_TOKEN,
            )
            return rendered
        except TemplateError as error:
            raise PromptError(
                f"the chat template refused the conversation: {error}; a template must render system, user, assistant "
                "and stream turns; use the checkpoint's own chat_template.json"
            ) from error

    def system(self, text: str | None = None) -> str:
        """The system turn; `None` gives the checkpoint's default."""
        return self.turn("system", self.default_system if text is None else text)

    def turn(self, role: str, text: str) -> str:
        """One complete turn, including its final newline."""
        return f"{self.opening(role)}{_plain(text)}{self.closing}"

    def opening(self, role: str = "assistant") -> str:
        """The tokens before a turn's text: `<|im_start|>`, the role and a newline."""
        return f"{IM_START}{role}\n"

    @property
    def closing(self) -> str:
        """The end token of a turn and its newline."""
        return f"{IM_END}\n"

    def frame_head(self, time_s: float) -> str:
        """The text before a frame's image tokens. `time_s` is the time shown to the model, in seconds."""
        return f"{STREAM_START}stream\nTime {shown_time(time_s)}s: "

    @property
    def frame_tail(self) -> str:
        """The text after a frame's image tokens. No newline follows it."""
        return f"\n{STREAM_END}"

    def clip(self, times_s: Sequence[float]) -> str:
        """A clip inside a user turn, one `<image>` per frame."""
        return ",".join(f"Time {shown_time(time_s)}s:{IMAGE_TOKEN}" for time_s in times_s) + "\n"

    def image(self) -> str:
        """A still image inside a user turn."""
        return f"{IMAGE_TOKEN}\n"

    def check_pieces(self) -> None:
        """Check on a sample conversation that the joined pieces equal the template's output; raises `PromptError` with
        the difference."""
        messages: list[Message] = [
            {"role": "system", "content": "Probe."},
            {"role": "stream", "content": [{"type": "image", "timestamp": 3.04}]},
            {"role": "assistant", "content": "One."},
            {"role": "user", "content": "Two?"},
            {"role": "stream", "content": [{"type": "image", "timestamp": 10.55}]},
        ]
        whole = self.render(messages)
        pieces = (
            self.turn("system", "Probe.")
            + self.frame_head(3.04)
            + IMAGE_TOKEN
            + self.frame_tail
            + self.turn("assistant", "One.")
            + self.turn("user", "Two?")
            + self.frame_head(10.55)
            + IMAGE_TOKEN
            + self.frame_tail
        )
        if whole != pieces:
            at = next(
                (i for i, (a, b) in enumerate(zip(whole, pieces, strict=False)) if a != b), min(len(whole), len(pieces))
            )
            raise PromptError(
                f"the chat template gives {whole[at : at + 40]!r} where the stream format has "
                f"{pieces[at : at + 40]!r}; live sessions need the stream format of VideoLLaMA 3; take the template "
                "that the released checkpoints ship"
            )

    @classmethod
    def built_in(cls) -> PromptFormat:
        """The format of the released checkpoints, from the template in this project."""
        return cls(template=TEMPLATE_PATH.read_text(encoding="utf-8"))


def shown_time(time_s: float) -> str:
    """A time in seconds as the format writes it, with one decimal: 2.04 → `2.0`, 10.55 → `10.6`."""
    return str(round(float(time_s), 1))


def _plain(text: str) -> str:
    """Turn text with the format's own markers escaped, so that no user text opens or closes a turn."""
    for marker in (IMAGE_TOKEN, STREAM_START, STREAM_END, IM_START, IM_END):
        text = text.replace(marker, marker.replace("<", "< "))
    return text


def _compiled(source: str) -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _raise_exception
    return environment.from_string(source)


def _raise_exception(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
