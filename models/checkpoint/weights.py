"""Safetensors of a checkpoint folder: read headers, check them against the model, load without a second copy in
memory."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint.layouts import Layout, is_ignorable, native_key
from models.checkpoint.shapes import parameter_shapes
from models.errors import CheckpointDamaged, CheckpointError, CheckpointNotFound

if TYPE_CHECKING:
    import torch
    from transformers import VideoLlama3ForConditionalGeneration
    from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3Config

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
OUTPUT_HEAD = "lm_head.weight"
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_NAMED_AT_MOST = 4


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """A stored tensor's shape and type, from its file's header."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    """Name of the type in safetensors: F32, BF16, …"""

    @property
    def num_values(self) -> int:
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        return self.num_values * _BYTES.get(self.dtype, 1)


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """Every tensor of a folder by its stored name, from one file or shards; raises `CheckpointDamaged` naming the file.

    A file shorter than its header says, such as a truncated download, counts as damaged.
    """
    headers: dict[str, TensorHeader] = {}
    for path in _files(folder):
        headers |= _header_of(path)
    return headers


def has_output_head(headers: Mapping[str, TensorHeader], layout: Layout) -> bool:
    """Whether the weights hold a separate output embedding."""
    return any(native_key(key, layout) == OUTPUT_HEAD for key in headers)


class LoadedWeights:
    """A model's tensors and configuration. transformers' class is imported and built only where `model` is used."""

    def __init__(
        self,
        config: Any,
        tensors: Mapping[str, torch.Tensor],
        device: torch.device,
        full_config: Callable[[], VideoLlama3Config] | None = None,
    ) -> None:
        """config: transformers' configuration, or a folder's own values in its place, and then `full_config` gives
        transformers'. tensors: by their names in transformers' class, tied ones left out."""
        self.config = config
        self._full_config = full_config or (lambda: config)
        self._tensors = dict(tensors)
        self._device = device
        self._model: VideoLlama3ForConditionalGeneration | None = None

    @classmethod
    def of(cls, model: VideoLlama3ForConditionalGeneration, device: torch.device) -> LoadedWeights:
        """The weights of a model that is there already."""
        weights = cls(model.config, {}, device)
        weights._model = model
        return weights

    @property
    def model(self) -> VideoLlama3ForConditionalGeneration:
        """The model, in evaluation mode with gradients off; it shares its memory with the tensors."""
        if self._model is None:
            import torch

            with torch.inference_mode(mode=False):
                self._model = _empty_model(self._full_config())
                self._model.load_state_dict(self._tensors, strict=False, assign=True)
                self._model.tie_weights()
                fill_buffers(self._model, self._device)
                self._model.requires_grad_(False).eval()
        return self._model

    def named_parameters(self) -> Iterable[tuple[str, torch.Tensor]]:
        """Each parameter with its name in transformers' class, tied ones once."""
        return self._tensors.items() if self._model is None else self._model.named_parameters()

    @property
    def language(self) -> Any:
        """Configuration of the language model."""
        return self.config.text_config

    @property
    def vision(self) -> Any:
        """Configuration of the vision tower."""
        return self.config.vision_config

    @property
    def head_dim(self) -> int:
        """Size of one attention head of the language model."""
        language = self.language
        return int(getattr(language, "head_dim", None) or language.hidden_size // language.num_attention_heads)

    @property
    def num_values(self) -> int:
        """Number of parameters."""
        return sum(tensor.numel() for _, tensor in self.named_parameters())


def load_weights(
    config: Any,
    folder: Path,
    layout: Layout,
    headers: Mapping[str, TensorHeader],
    device: torch.device,
    dtype: torch.dtype,
    on_bytes: Callable[[int], None] = lambda num_bytes: None,
    full_config: Callable[[], VideoLlama3Config] | None = None,
) -> LoadedWeights:
    """Load a folder's weights on `device` in `dtype`, tensor by tensor.

    on_bytes: called with the stored size of each. config and full_config: as `LoadedWeights` takes them.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    stored = _stored(config, full_config or (lambda: config), folder, layout, headers)
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted({headers[key].file for key in stored.values()}):
        try:
            # Outside of inference mode, in which tensors could not become parameters later.
            with torch.inference_mode(mode=False), safe_open(str(path), "pt", device=str(device)) as file:
                for name, key in stored.items():
                    if headers[key].file == path:
                        tensors[name] = file.get_tensor(key).to(dtype)
                        on_bytes(headers[key].num_bytes)
        except (SafetensorError, OSError) as error:
            raise CheckpointDamaged(f"{path}: cannot be read ({error}); download the file again") from error
    return LoadedWeights(config, tensors, device, full_config)


def _stored(
    config: Any,
    full_config: Callable[[], VideoLlama3Config],
    folder: Path,
    layout: Layout,
    headers: Mapping[str, TensorHeader],
) -> dict[str, str]:
    """The stored tensor for each of the model's parameters; raises `CheckpointDamaged` where they do not fit.

    Where the shapes that the configuration gives are not exactly those of the files, transformers' class is asked.
    """
    tied = bool(config.tie_word_embeddings)
    with suppress(CheckpointDamaged, ArithmeticError, TypeError):
        shapes = parameter_shapes(config)
        if shapes is not None:
            return _matched(shapes, headers, layout, tied)
    try:
        model = _empty_model(full_config())
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointDamaged(f"{folder}: config.json describes no consistent model ({error})") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if tied:
        wanted.pop(OUTPUT_HEAD)
    return _matched(wanted, headers, layout, tied)


def _empty_model(config: VideoLlama3Config) -> VideoLlama3ForConditionalGeneration:
    import torch
    from transformers.models.video_llama_3.modeling_video_llama_3 import VideoLlama3ForConditionalGeneration

    with torch.device("meta"):
        return VideoLlama3ForConditionalGeneration(config)


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX_FILE
    if index.is_file():
        return _shards(index)
    single = folder / SINGLE_FILE
    if single.is_file():
        return [single]
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder / pickles[0]}: a pickle can run code and is never loaded; convert the weights to safetensors"
        )
    raise CheckpointNotFound(f"{folder}: has neither {SINGLE_FILE} nor {INDEX_FILE}; copy the weights into the folder")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointDamaged(f"{index}: is not an index of shards ({error}); download the file again") from error
    paths = [index.parent / str(name) for name in names]
    for path in paths:
        if path.parent != index.parent:
            raise CheckpointDamaged(f"{index}: names a shard outside its folder, {path}; download the file again")
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise CheckpointDamaged(
            f"{index.parent}: shards are missing: {_listed(missing)}; download them again into the folder"
        )
    return paths


def _header_of(path: Path) -> dict[str, TensorHeader]:
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > path.stat().st_size:
                raise ValueError("its header is cut short")
            header: dict[str, Any] = json.loads(file.read(size))
        header.pop("__metadata__", None)
        found = {
            key: TensorHeader(path, tuple(int(side) for side in entry["shape"]), str(entry["dtype"]))
            for key, entry in header.items()
        }
        promised = 8 + size + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        if path.stat().st_size < promised:
            raise ValueError(f"it has {path.stat().st_size} bytes where its header promises {promised}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointDamaged(f"{path}: is not a whole safetensors file ({error}); download it again") from error
    return found


def _matched(
    wanted: Mapping[str, tuple[int, ...]], headers: Mapping[str, TensorHeader], layout: Layout, tied: bool
) -> dict[str, str]:
    """The stored tensor for each tensor of the model; raises `CheckpointDamaged` naming those that do not fit."""
    stored = {native_key(key, layout): key for key in headers if not is_ignorable(key)}
    if tied:
        stored.pop(OUTPUT_HEAD, None)
    problems = []
    missing = sorted(set(wanted) - set(stored))
    if missing:
        problems.append(f"missing: {_listed(missing)}")
    unexpected = sorted(stored[name] for name in set(stored) - set(wanted))
    if unexpected:
        problems.append(f"unexpected: {_listed(unexpected)}")
    shapes = [
        f"{stored[name]} is {list(headers[stored[name]].shape)}, config.json asks for {list(shape)}"
        for name, shape in sorted(wanted.items())
        if name in stored and headers[stored[name]].shape != shape
    ]
    if shapes:
        problems.append(f"wrong shapes: {_listed(shapes)}")
    kinds = [key for key in stored.values() if headers[key].dtype not in _FLOATS]
    if kinds:
        problems.append(f"not plain floating point: {_listed(sorted(kinds))}")
    if problems:
        folder = next(iter(headers.values())).file.parent if headers else "the folder"
        raise CheckpointDamaged(
            f"{folder}: the weights do not fit config.json; {'; '.join(problems)}; copy both from one place"
        )
    return stored


def fill_buffers(model: torch.nn.Module, device: torch.device) -> None:
    """Compute the rotary frequencies, which no file stores, for buffers that the meta device left empty."""
    for module in model.modules():
        if any(buffer.is_meta for _, buffer in module.named_buffers(recurse=False)):
            fresh = type(module)(module.config).to(device)
            for name, buffer in fresh.named_buffers(recurse=False):
                setattr(module, name, buffer)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
