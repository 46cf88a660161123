"""`python app.py train`: train a small checkpoint stage by stage from a plan in YAML; can stop and resume at any
step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint.files import refuse_unknown

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint
    from models.training.loop import Trainer
    from models.training.losses import Example
    from models.training.stage_plans import RowBatches
    from models.training.stores import Batches, Store

PLAN_PATH = Path(__file__).parent / "embedded.yaml"


@dataclass(frozen=True, slots=True)
class Plan:
    """A training plan as read from YAML."""

    seed: int
    batch_size: int
    new_per_batch: int
    stages: tuple[tuple[Any, Any], ...]
    """Pairs of `TrainingStage` and `Mixture`, or of `TrainingStage` and the `PaperStage` it belongs to."""


def read_plan(path: Path) -> Plan:
    """Read a plan, or a folder of stages such as `stages/`; unknown keys are errors."""
    import yaml

    from models.training import stage_plans
    from models.training.data import Mixture
    from models.training.stage import TrainingStage

    if path.is_dir():
        stages_of_paper = tuple((one.stage, one) for one in stage_plans.read_stages(path))
        return Plan(stage_plans.SEED, stage_plans.BATCH_SIZE, stage_plans.NEW_PER_BATCH, stages_of_paper)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    refuse_unknown(values, {"seed", "batch_size", "new_per_batch", "stages"}, str(path))
    stages = []
    for entry in values["stages"]:
        entry = dict(entry)
        given = entry.pop("mixture", {})
        mixture: dict[str, Any] = {key: _frozen(value) for key, value in given.items()}
        refuse_unknown(mixture, {field.name for field in fields(Mixture)}, f"mixture of {entry.get('name')}")
        refuse_unknown(entry, {field.name for field in fields(TrainingStage)}, f"stage {entry.get('name')}")
        stages.append((TrainingStage(**entry), Mixture(**mixture)))
    return Plan(values["seed"], values["batch_size"], values["new_per_batch"], tuple(stages))


def _frozen(value: Any) -> Any:
    """The value with all lists converted to tuples, at any depth."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def with_footage(plan: Plan, footage: Path | None) -> Plan:
    """The plan with the footage folder set in every mixture that uses pictures of real things."""
    from models.training.data import Mixture

    if footage is None:
        return plan
    stages = [
        (stage, replace(mixture, footage=str(footage)) if isinstance(mixture, Mixture) else mixture)
        for stage, mixture in plan.stages
    ]
    return replace(plan, stages=tuple(stages))


def train(
    folder: Path,
    plan_path: Path = PLAN_PATH,
    *,
    footage: Path | None = None,
    minutes: float | None = None,
    threads: int = 1,
    workers: int = 1,
    device: str = "cpu",
    bf16: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> Path:
    """Train in `folder` until the plan is done or `minutes` have passed. Returns the checkpoint folder.

    A second call resumes at the step where the first one stopped, with the same batches. The folder holds the log of
    the losses, and their curves as `loss.png`. footage: folder of labelled photographs and cut-outs (docs/footage.md),
    for stages with `named_share`. device: a torch device, such as "cuda". bf16: products in bfloat16, which GPUs and
    CPUs with AVX-512 BF16 or AMX do faster. On a GPU the scenes of a batch go through the model together. progress:
    show a bar.
    """
    import torch
    from torch.utils.data import DataLoader

    from models.training.curves import draw_curves
    from models.training.loop import Trainer

    plan = with_footage(read_plan(plan_path), footage)
    stop_at_s = None if minutes is None else time.monotonic() + minutes * 60
    checkpoint = _checkpoint(folder / "model", plan.seed, device)
    torch.set_num_threads(threads)  # after loading, which sets the threads for live use
    model, special = checkpoint.model, checkpoint.special
    model.requires_grad_(True)
    for number, (stage, _mixture) in enumerate(plan.stages):
        done = folder / f"{stage.name}.done"
        if done.is_file():
            continue
        model.train()
        trainer = Trainer(model, folder, stage, (special.im_start, special.stream_start), bf16=bf16)
        say(f"stage {stage.name}: step {trainer.step} of {stage.num_steps}")
        batches = _batches(checkpoint, plan, number, folder / "scenes" / stage.name)
        loader: DataLoader[Any] = DataLoader(
            batches,  # type: ignore[arg-type]  # a map-style data set by its two methods
            batch_size=None,
            sampler=range(trainer.step, stage.num_steps),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            collate_fn=_as_is,
            worker_init_fn=_one_thread,
        )
        complete = _run(trainer, loader, stop_at_s, progress)
        draw_curves(folder / "log.jsonl", folder / "loss.png")
        if not complete:
            say(f"stopped at step {trainer.step} of stage {stage.name}; run again to continue")
            return folder / "model"
        done.touch()
    say("the plan is done")
    return folder / "model"


def _batches(checkpoint: Checkpoint, plan: Plan, number: int, folder: Path) -> Batches[Any] | RowBatches:
    """The batches of a stage; rendered examples are cached in `folder`."""
    from models.training.data import Mixture, SceneMaker
    from models.training.stage_plans import RowBatches
    from models.training.stores import Batches, SceneStore, StillStore

    stage, mixture = plan.stages[number]
    seed = plan.seed + number
    if not isinstance(mixture, Mixture):
        return RowBatches(checkpoint, mixture, folder, seed, plan.batch_size, plan.new_per_batch)
    store: Store[Example]
    if mixture.stills:
        store = StillStore(checkpoint, mixture, seed)
    else:
        store = SceneStore(folder, SceneMaker(checkpoint, mixture, seed))
    sizes = mixture.batch_size or plan.batch_size, mixture.new_per_batch or plan.new_per_batch
    return Batches(store, plan.seed, *sizes, stage.num_steps)


def _run(trainer: Trainer, loader: Iterable[Any], stop_at_s: float | None, progress: bool) -> bool:
    """Run one stage, with a progress bar where wanted."""
    from tqdm import tqdm

    stage = trainer.stage
    with tqdm(total=stage.num_steps, initial=trainer.step, desc=stage.name, unit="step", disable=not progress) as bar:

        def told(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update(step - bar.n)

        return trainer.run(iter(loader), stop_at_s=stop_at_s, on_step=told)


def _checkpoint(folder: Path, seed: int, device: str) -> Checkpoint:
    """The checkpoint to train, through the loader of live use; a new one where the folder holds none."""
    from models.checkpoint.loader import load_checkpoint
    from models.groundtruth.scenes import CORPUS
    from models.training.blueprint import EMBEDDED_SIZES, new_model

    if not (folder / "model.safetensors").is_file():
        new_model(folder, CORPUS(), EMBEDDED_SIZES, seed).save_pretrained(folder)
    return load_checkpoint(folder, device=device, dtype="float32", progress=False)


def _as_is(batch: Sequence[Any]) -> Sequence[Any]:
    return batch


def _one_thread(_worker: int) -> None:
    import torch

    torch.set_num_threads(1)
