"""Train small byte-level BPE tokenizers like Qwen2's, for checkpoints made in this project: the embedded one and
fakes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.prompt import IM_END

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"


def write_tokenizer(
    folder: Path,
    sentences: Iterable[str],
    special_tokens: Sequence[str],
    *,
    vocab_size: int,
    phrases: Sequence[str] = (),
) -> PreTrainedTokenizerBase:
    """Learn merges from `sentences`, write the tokenizer's files to `folder` in the released layout, and load it.

    Any text can be encoded. `special_tokens` get the ids after the learnt vocabulary of at most `vocab_size`, in their
    order; `phrases` follow: plain texts that are always encoded as one token.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=1,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special_tokens])
    tokenizer.add_tokens([AddedToken(phrase, special=False, normalized=False) for phrase in phrases])
    tokenizer.model.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    all_added = (*special_tokens, *phrases)
    added = {str(tokenizer.token_to_id(token)): _added(token, token in special_tokens) for token in all_added}
    values = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": 32768,
        "added_tokens_decoder": added,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    loaded: PreTrainedTokenizerBase = Qwen2Tokenizer.from_pretrained(str(folder), local_files_only=True)
    return loaded


def _added(token: str, special: bool) -> dict[str, str | bool]:
    plain = dict.fromkeys(("normalized", "lstrip", "rstrip", "single_word"), False)
    return {"content": token, "special": special, **plain}
