"""A tokenizer read from `tokenizer.json` alone, without transformers, whose import takes longer than a small model's
loading. Any thread may use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from models.checkpoint.files import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PLAIN_CLASSES = frozenset({"Qwen2Tokenizer", "Qwen2TokenizerFast"})
_TOKEN_FLAGS = ("content", "special", "normalized", "lstrip", "rstrip", "single_word")


class TextTokenizer(Protocol):
    """What is used of a tokenizer: `FileTokenizer`, or transformers' own."""

    @property
    def eos_token_id(self) -> Any: ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> Any: ...

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any: ...

    def convert_tokens_to_ids(self, tokens: Any) -> Any: ...

    def get_vocab(self) -> dict[str, int]: ...

    def __len__(self) -> int: ...


class FileTokenizer:
    """The tokenizer of a folder for which `is_plain` holds: it gives the ids and texts that transformers gives."""

    def __init__(self, tokenizer: Tokenizer, eos_token: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._eos_token = eos_token

    @classmethod
    def of_folder(cls, folder: Path) -> FileTokenizer:
        """Read a folder's tokenizer. The library raises plain `Exception` for a damaged file."""
        from tokenizers import Tokenizer

        eos_token = read_json(folder / "tokenizer_config.json").get("eos_token")
        return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), eos_token)

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends a turn; `None` where the folder names none."""
        return None if self._eos_token is None else self._tokenizer.token_to_id(self._eos_token)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(
        self,
        token_ids: Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """Text of token ids. clean_up_tokenization_spaces: as transformers takes it; plain folders never clean up."""
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """Id of a token; `None` where it is unknown."""
        return self._tokenizer.token_to_id(token)

    def get_vocab(self) -> dict[str, int]:
        """Ids by token, added ones included."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size(with_added_tokens=True)


def is_plain(folder: Path) -> bool:
    """Whether `tokenizer.json` says all that there is to know about a folder's tokenizer.

    That is so for Qwen2's class where both files have the same added tokens and nothing changes a text before or after.
    """
    paths = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not all(path.is_file() for path in paths):
        return False
    stored, config = (read_json(path) for path in paths)
    if config.get("tokenizer_class") not in PLAIN_CLASSES or stored.get("post_processor") is not None:
        return False
    if config.get("add_prefix_space") or config.get("clean_up_tokenization_spaces"):
        return False
    declared, added = config.get("added_tokens_decoder"), stored.get("added_tokens")
    eos_token = config.get("eos_token")
    if not isinstance(declared, dict) or not isinstance(added, list) or not isinstance(eos_token, str | None):
        return False
    more = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    ids = {str(token.get("id")): _flags(token) for token in added}
    special = {content for content, is_special, *_ in ids.values() if is_special}
    named = [eos_token, config.get("pad_token"), *(more if isinstance(more, list) else more.values())]
    return ids == {key: _flags(token) for key, token in declared.items()} and set(named) - {None} <= special


def _flags(token: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(token.get(flag) for flag in _TOKEN_FLAGS)
