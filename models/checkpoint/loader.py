"""Checkpoints: find, check and load VideoLLaMA 3 weights with tokenizer, template and settings.

Safetensors only, no remote code, no pickles. Every setting comes from the checkpoint's own files. `describe_checkpoint`
reads headers only; torch and transformers are imported where weights are loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint.file_tokenizer import FileTokenizer, TextTokenizer, is_plain
from models.checkpoint.files import read_json
from models.checkpoint.layouts import Layout, build_config, image_token_id, layout_of, patch_size_of, stored_config
from models.checkpoint.progress import LoadingSteps, OnLoading, told_download
from models.checkpoint.settings import StreamSettings
from models.checkpoint.threads import use_threads
from models.checkpoint.types import SpecialIds
from models.checkpoint.weights import LoadedWeights, TensorHeader, has_output_head, load_weights, read_headers
from models.errors import CheckpointDamaged, CheckpointError, CheckpointNotFound, PromptError
from models.prompt import IM_END, IM_START, STREAM_END, STREAM_START, PromptFormat

if TYPE_CHECKING:
    import torch
    from transformers import VideoLlama3ForConditionalGeneration

    from models.vision import VisionSettings

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent.parent / "embedded"
LIBRARIES = ("importing torch", "importing transformers")
HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Defaults of the released image processor class where the file has no value (OpenAI's CLIP)."""
HALF = (0.5, 0.5, 0.5)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Checkpoint:
    """A loaded checkpoint. Its model belongs to the thread of the engine that receives it."""

    name: str
    folder: Path
    layout: Layout
    weights: LoadedWeights
    tokenizer: TextTokenizer | None
    """`None` for reference cases that consist of token ids."""
    prompt: PromptFormat
    vision: VisionSettings
    special: SpecialIds
    stop: frozenset[int]
    """Token ids that end a generated turn."""
    stream: StreamSettings
    device: torch.device
    dtype: torch.dtype

    @property
    def model(self) -> VideoLlama3ForConditionalGeneration:
        """transformers' model, in evaluation mode with gradients off; its class is imported on first use."""
        return self.weights.model


@dataclass(frozen=True, slots=True)
class CheckpointSummary:
    """What a checkpoint's files say, read without loading weights."""

    name: str
    folder: Path | None
    layout: Layout | None
    num_parameters: int
    size_bytes: int
    dtype: str
    problem: str | None
    """Why the checkpoint would not load, as far as its headers show; `None` where nothing is wrong."""


def load_checkpoint(
    name_or_path: str | Path = EMBEDDED,
    *,
    device: str = "auto",
    dtype: str = "auto",
    progress: bool = True,
    special: SpecialIds | None = None,
    threads: int | None = None,
    on_loading: OnLoading | None = None,
) -> Checkpoint:
    """Load a checkpoint from a folder, by hub name, or the embedded one.

    device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`,
    `bfloat16` or `float16`. special: token ids for a folder without a tokenizer; without them such a folder is refused.
    threads: CPU threads for torch from now on; `None` for a number that suits the model. on_loading: called with the
    progress. Raises `CheckpointNotFound`, `CheckpointDamaged` or another `CheckpointError`.
    """
    folder = find_checkpoint(name_or_path, progress=progress, on_loading=on_loading)
    config = read_json(folder / "config.json")
    layout = layout_of(config)
    headers = read_headers(folder)
    plain = stored_config(config)
    libraries = LIBRARIES if plain is None else LIBRARIES[:1]
    steps = LoadingSteps(on_loading, libraries, sum(header.num_bytes for header in headers.values()))
    _import_libraries(steps, libraries)
    from models.vision import VisionSettings

    full_config = partial(build_config, config, has_output_head=has_output_head(headers, layout))
    built = plain or full_config()
    stream = StreamSettings.of_checkpoint(folder)
    vision = VisionSettings(**vision_values(folder, layout, patch_size_of(built)))
    tokenizer = _load_tokenizer(folder)
    special = _special_ids(tokenizer, config) if tokenizer is not None else special
    if special is None:
        raise CheckpointDamaged(
            f"{folder}: has neither tokenizer.json nor vocab.json with merges.txt; copy them beside the weights"
        )
    torch_device, torch_dtype = _placement(device, dtype)
    steps.next("reading the weights")
    weights = load_weights(built, folder, layout, headers, torch_device, torch_dtype, steps.read, full_config)
    use_threads(sum(header.num_values for header in headers.values()), torch_device.type, threads)
    return Checkpoint(
        name=str(name_or_path),
        folder=folder,
        layout=layout,
        weights=weights,
        tokenizer=tokenizer,
        prompt=load_prompt(folder, layout),
        vision=replace(vision, border_px=stream.border_px),
        special=special,
        stop=_stop_ids(folder, tokenizer, special),
        stream=stream,
        device=torch_device,
        dtype=torch_dtype,
    )


def find_checkpoint(
    name_or_path: str | Path = EMBEDDED,
    *,
    progress: bool = True,
    download: bool = True,
    on_loading: OnLoading | None = None,
) -> Path:
    """The folder of a checkpoint; a hub name is downloaded, as far as HF_HUB_OFFLINE and HF_TOKEN allow."""
    name = str(name_or_path)
    if name == EMBEDDED:
        return _checked_folder(EMBEDDED_FOLDER)
    path = Path(name).expanduser()
    if path.is_dir():
        return _checked_folder(path)
    if path.is_file():
        raise CheckpointNotFound(f"{name}: is a file; a checkpoint is a folder with config.json and its safetensors")
    if not _is_hub_name(name):
        raise CheckpointNotFound(
            f"{name}: no such folder; give a checkpoint's folder, a hub name like owner/name, or {EMBEDDED}"
        )
    return _checked_folder(_from_hub(name, progress, download, on_loading))


def describe_checkpoint(name_or_path: str | Path = EMBEDDED) -> CheckpointSummary:
    """Describe what would load and from where; reads headers only and downloads nothing."""
    name = str(name_or_path)
    folder: Path | None = None
    layout: Layout | None = None
    headers: dict[str, TensorHeader] = {}
    problem = None
    try:
        folder = find_checkpoint(name, progress=False, download=False)
        layout = layout_of(read_json(folder / "config.json"))
        headers = read_headers(folder)
    except CheckpointError as error:
        problem = str(error)
    return CheckpointSummary(
        name=name,
        folder=folder,
        layout=layout,
        num_parameters=sum(header.num_values for header in headers.values()),
        size_bytes=sum(header.num_bytes for header in headers.values()),
        dtype=", ".join(sorted({header.dtype for header in headers.values()})),
        problem=problem,
    )


def vision_values(folder: Path, layout: Layout, patch_px: int) -> dict[str, Any]:
    """Keyword arguments for `VisionSettings`, from the preprocessor and processor configurations.

    A folder without the file gets 0.5 for mean and std, as the published weights were trained with; a missing value in
    the file gets the default of its layout's class.
    """
    path = folder / "preprocessor_config.json"
    values = read_json(path) if path.is_file() else {"image_mean": HALF, "image_std": HALF}
    mean, std = (CLIP_MEAN, CLIP_STD) if layout == "released" else (HALF, HALF)
    found: dict[str, Any] = {
        "mean": _triple(values.get("image_mean", mean), path),
        "std": _triple(values.get("image_std", std), path),
        "patch_px": patch_px,
    }
    if values.get("patch_size", patch_px) != patch_px:
        raise CheckpointDamaged(
            f"{path}: patch_size {values['patch_size']!r}, but config.json's vision model has {patch_px}; the files do "
            "not belong together, copy them again"
        )
    found |= _budgets(values, patch_px)
    processor_path = folder / "processor_config.json"
    processor = read_json(processor_path) if processor_path.is_file() else {}
    for key, name in (("image_merge_size", "image_merge"), ("video_merge_size", "video_merge")):
        if isinstance(processor.get(key), int):
            found[name] = processor[key]
    return found


def load_prompt(folder: Path, layout: Layout) -> PromptFormat:
    """The folder's first chat template that renders the stream format."""
    problem: PromptError | None = None
    for template in _templates(folder):
        prompt = PromptFormat(template=template)
        try:
            prompt = replace(prompt, default_system=_default_system(prompt))
            prompt.check_pieces()
            return prompt
        except PromptError as error:
            problem = problem or error
    if problem is not None and layout == "released":
        raise problem
    if problem is not None:
        logger.warning("%s: its chat template has no stream format (%s); using the released one", folder, problem)
    return PromptFormat.built_in()


def _checked_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise CheckpointNotFound(
            f"{folder}: has no config.json; a checkpoint is a folder with config.json and its safetensors"
        )
    return folder


def _is_hub_name(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(
        part[:1].isalnum() and all(character.isalnum() or character in "._-" for character in part) for part in parts
    )


def _import_libraries(steps: LoadingSteps, libraries: Sequence[str]) -> None:
    """Import torch, and transformers where it is needed: the longest part of loading a small checkpoint."""
    steps.next(libraries[0])
    import torch  # noqa: F401

    for name in libraries[1:]:
        steps.next(name)
        import transformers.models.video_llama_3.configuration_video_llama_3  # noqa: F401


def _from_hub(name: str, progress: bool, download: bool, on_loading: OnLoading | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not progress:
        disable_progress_bars()
    try:
        bar = told_download(on_loading) if on_loading is not None else None
        return Path(snapshot_download(name, allow_patterns=HUB_PATTERNS, local_files_only=not download, tqdm_class=bar))
    except Exception as error:  # the hub's client raises errors of its own, of requests, of httpx and of the system
        reason = _hub_reason(error)
        where = "the hub" if download else "this machine"
        raise CheckpointNotFound(
            f"{name}: no such folder, and not available from {where} ({reason}); check the name, the network and "
            "HF_TOKEN, or download it elsewhere and give its folder"
        ) from error


def _hub_reason(error: Exception) -> str:
    """A short reason why the hub returned nothing."""
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.errors import LocalEntryNotFoundError

    if is_offline_mode():
        return "HF_HUB_OFFLINE is set, and it was not downloaded before"
    if isinstance(error, LocalEntryNotFoundError):
        return "it was not downloaded before"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _load_tokenizer(folder: Path) -> TextTokenizer | None:
    is_one_file = (folder / "tokenizer.json").is_file()
    if not is_one_file and not all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        return None
    try:
        if is_plain(folder):
            return FileTokenizer.of_folder(folder)
        return _transformers_tokenizer(folder, is_one_file=is_one_file)
    except Exception as error:  # tokenizers raises plain Exception for a damaged file
        raise CheckpointDamaged(f"{folder}: its tokenizer cannot be read ({error}); copy its files again") from error


def _transformers_tokenizer(folder: Path, *, is_one_file: bool) -> TextTokenizer:
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    kind: type[TokenizersBackend] = TokenizersBackend if is_one_file else Qwen2Tokenizer
    tokenizer: TextTokenizer = kind.from_pretrained(str(folder), local_files_only=True)
    return tokenizer


def _special_ids(tokenizer: TextTokenizer, config: dict[str, Any]) -> SpecialIds:
    found = {}
    tokens = {"stream_start": STREAM_START, "stream_end": STREAM_END, "im_start": IM_START, "im_end": IM_END}
    for name, token in tokens.items():
        ids = tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1:
            raise CheckpointError(
                f"the tokenizer has no token {token}; live sessions need it: choose a checkpoint trained on streams"
            )
        found[name] = int(ids[0])
    return SpecialIds(image=image_token_id(config), **found)


def _stop_ids(folder: Path, tokenizer: TextTokenizer | None, special: SpecialIds) -> frozenset[int]:
    ids = {special.im_end, special.im_start, special.stream_start, special.stream_end, special.image}
    path = folder / "generation_config.json"
    declared = read_json(path).get("eos_token_id") if path.is_file() else None
    ids.update([declared] if isinstance(declared, int) else declared or [])
    eos = getattr(tokenizer, "eos_token_id", None)
    return frozenset(ids if eos is None else ids | {eos})


def _templates(folder: Path) -> list[str]:
    """The folder's chat templates: the processor's first, because the tokenizer's may render text only."""
    found: list[Any] = []
    for name in ("chat_template.json", "chat_template.jinja", "processor_config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and path.suffix == ".jinja":
            found.append(path.read_text(encoding="utf-8"))
        elif path.is_file():
            found.append(read_json(path).get("chat_template"))
    return [template for template in found if isinstance(template, str)]


def _default_system(prompt: PromptFormat) -> str:
    rendered = prompt.render([{"role": "user", "content": "Probe."}])
    opening = prompt.opening("system")
    if not rendered.startswith(opening):
        return prompt.default_system
    return rendered.removeprefix(opening).partition(IM_END)[0]


def _triple(values: Any, path: Path) -> tuple[float, float, float]:
    numbers = [values] * 3 if isinstance(values, int | float) else list(values)
    if len(numbers) != 3 or not all(isinstance(number, int | float) for number in numbers):
        raise CheckpointDamaged(f"{path}: image_mean or image_std is {values!r}; give three numbers, one a channel")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _budgets(values: dict[str, Any], patch_px: int) -> dict[str, int]:
    """Token budgets; the native layout gives them in pixels of a picture with merge size 1."""
    found = {name: int(values[name]) for name in ("min_tokens", "max_tokens") if isinstance(values.get(name), int)}
    size = values.get("size")
    size = size if isinstance(size, dict) else {}
    area = patch_px**2
    in_pixels = {"min_tokens": ("shortest_edge", "min_pixels"), "max_tokens": ("longest_edge", "max_pixels")}
    for name, (key, old_key) in in_pixels.items():
        pixels = size.get(key, values.get(old_key))
        if name not in found and isinstance(pixels, int):
            found[name] = max(1, -(-pixels // area) if name == "min_tokens" else pixels // area)
    return found


def _placement(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch_device = torch.device(device)
    except RuntimeError as error:
        raise CheckpointError(f"device {device!r}: auto, cpu, cuda, cuda:N or mps") from error
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (torch_device.index or 0) >= present.get(torch_device.type, 0):
        raise CheckpointError(f"device {device!r}: torch finds no such device here; use cpu, or install torch for it")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype == "auto":
        dtype = "bfloat16" if torch_device.type == "cuda" else "float32"
    if dtype not in dtypes:
        raise CheckpointError(f"dtype {dtype!r}: auto, {', '.join(dtypes)}")
    if dtype == "float16":
        logger.warning(
            "dtype float16: values above 65,504 overflow it, and the published weights were trained in bfloat16, whose "
            "range is larger; use bfloat16, or float32 where the device has none"
        )
    return torch_device, dtypes[dtype]
