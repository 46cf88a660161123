"""Convert text to token ids and back for one checkpoint. Any thread may encode; a `Detokenizer` belongs to one turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from models.errors import SessionError
from models.prompt import PromptFormat

if TYPE_CHECKING:
    from models.checkpoint.file_tokenizer import TextTokenizer
    from models.checkpoint.loader import Checkpoint

YES_WORDS = ("Yes", "yes", "YES")
NO_WORDS = ("No", "no", "NO")
_UNFINISHED = "\ufffd"
_FEW_TOKENS = 4096
_MOST_KEPT_PIECES = 4096
"""Tokenized pieces that are kept: every shown time of a session, in tenths of a second, and what else it repeats."""
_MOST_KEPT_CHARACTERS = 400
"""Longest piece that is kept: a question with its instruction; longer text seldom comes twice."""


class StreamTokenizer:
    """A checkpoint's tokenizer together with the pieces of its prompt format."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.prompt: PromptFormat = checkpoint.prompt
        self._tokenizer = checkpoint.tokenizer
        self._folder = checkpoint.folder
        self._encoded = lru_cache(_MOST_KEPT_PIECES)(self._encode)

    @property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer; raises `SessionError` for a checkpoint without one."""
        if self._tokenizer is None:
            raise SessionError(f"{self._folder}: has no tokenizer, so no text can be read or said; add tokenizer.json")
        return self._tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of the prompt that begins and ends at special tokens or at a picture.

        Short pieces are tokenized once: a session repeats its wrappers and checks, frame after frame.
        """
        return list(self._encoded(text) if len(text) <= _MOST_KEPT_CHARACTERS else self._encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def frame_head(self, time_s: float) -> list[int]:
        """Token ids before a frame's visual tokens. time_s: the time shown to the model."""
        return self.encode(self.prompt.frame_head(time_s))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False)) if text else ()

    @cached_property
    def frame_tail(self) -> list[int]:
        """Token ids after a frame's visual tokens."""
        return self.encode(self.prompt.frame_tail)

    @cached_property
    def opening(self) -> list[int]:
        """Token ids of `<|im_start|>assistant` and its newline."""
        return self.encode(self.prompt.opening("assistant"))

    @cached_property
    def closing(self) -> list[int]:
        """Token ids of `<|im_end|>` and its newline."""
        return self.encode(self.prompt.closing)

    @cached_property
    def assistant(self) -> list[int]:
        """Token ids of the word that follows `<|im_start|>` when the assistant speaks."""
        return self.encode("assistant")

    @cached_property
    def capitals_begin_sentences(self) -> bool:
        """Whether a capital always begins a sentence: true for a small vocabulary, which has no names such as
        YouTube."""
        return len(self.tokenizer) <= _FEW_TOKENS

    @cached_property
    def yes_no(self) -> tuple[list[int], list[int]]:
        """First token ids of the spellings of yes, and of no.

        Where a word is one token, as in Qwen2's vocabulary, that is the whole word. A token that could begin either is
        left out.
        """
        yes, no = self._first_tokens(YES_WORDS), self._first_tokens(NO_WORDS)
        both = yes & no
        if yes <= both or no <= both:
            raise SessionError(
                "the tokenizer gives yes and no the same first token; a yes/no check needs Qwen2's kind of tokenizer"
            )
        return sorted(yes - both), sorted(no - both)

    def _first_tokens(self, words: Iterable[str]) -> set[int]:
        return {self.encode(space + word)[0] for word in words for space in ("", " ")}


class Detokenizer:
    """Converts the ids of one turn to text piece by piece; a character split over several tokens is held back until
    complete.

    With a small checkpoint's vocabulary, in which a capital begins a sentence, a space is inserted before a capital
    right after a word: the model began a second sentence without ending the first ("NothingOne.").
    """

    def __init__(self, codec: StreamTokenizer) -> None:
        self._codec = codec
        self._ids: list[int] = []
        self._start = 0
        self._shown = ""
        self._last = ""

    def push(self, token: int) -> str:
        """The text that the next token adds; empty while a character is incomplete."""
        piece = self._decoded(token)
        if (
            self._codec.capitals_begin_sentences
            and piece[:1].isupper()
            and (self._last.islower() or self._last in tuple(".!?"))
        ):
            piece = " " + piece
        self._last = piece[-1:] or self._last
        return piece

    def _decoded(self, token: int) -> str:
        self._ids.append(token)
        text = self._codec.decode(self._ids[self._start :])
        if text.endswith(_UNFINISHED):
            return ""
        piece = text[len(self._shown) :]
        if piece[-1:].isspace():
            # Byte-level tokens join exactly at spaces, so decoding may start again here, which keeps long turns cheap.
            self._start, self._shown = len(self._ids), ""
        else:
            self._shown = text
        return piece

    def rest(self) -> str:
        """The text left at the end of the turn: an incomplete character."""
        return self._codec.decode(self._ids[self._start :])[len(self._shown) :]
