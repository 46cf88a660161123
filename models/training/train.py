"""`python app.py train`: a small checkpoint, stage by stage, from a plan in YAML; stops and resumes anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import SettingsError

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint

PLAN_PATH = Path(__file__).parent / "embedded.yaml"


@dataclass(frozen=True, slots=True)
class Plan:
    """A training plan as read from YAML."""

    seed: int
    batch_size: int
    new_per_batch: int
    stages: tuple[tuple[Any, Any], ...]
    """Pairs of `Stage` and `Mixture`."""


def read_plan(path: Path) -> Plan:
    """Read a plan; unknown keys are errors."""
    import yaml

    from models.training.data import Mixture
    from models.training.loop import Stage

    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    _refuse_unknown(values, {"seed", "batch_size", "new_per_batch", "stages"}, str(path))
    stages = []
    for entry in values["stages"]:
        entry = dict(entry)
        given = entry.pop("mixture", {})
        mixture: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
        _refuse_unknown(mixture, {field.name for field in fields(Mixture)}, f"mixture of {entry.get('name')}")
        _refuse_unknown(entry, {field.name for field in fields(Stage)}, f"stage {entry.get('name')}")
        stages.append((Stage(**entry), Mixture(**mixture)))
    return Plan(values["seed"], values["batch_size"], values["new_per_batch"], tuple(stages))


def train(
    folder: Path,
    plan_path: Path = PLAN_PATH,
    *,
    minutes: float | None = None,
    threads: int = 1,
    workers: int = 1,
    say: Callable[[str], None] = print,
) -> Path:
    """Train in `folder` until the plan is done or `minutes` have passed. Returns the checkpoint folder.

    A second call goes on at the step where the first one stopped, with the same batches.
    """
    import torch
    from torch.utils.data import DataLoader

    from models.training.data import Batches, SceneMaker, SceneStore
    from models.training.loop import Trainer

    plan = read_plan(plan_path)
    torch.set_num_threads(threads)
    stop_at_s = None if minutes is None else time.monotonic() + minutes * 60
    checkpoint = _checkpoint(folder / "model", plan.seed)
    model, special = checkpoint.model, checkpoint.special
    model.requires_grad_(True)
    for number, (stage, mixture) in enumerate(plan.stages):
        done = folder / f"{stage.name}.done"
        if done.is_file():
            continue
        model.train()
        trainer = Trainer(model, folder, stage, (special.im_start, special.stream_start))
        say(f"stage {stage.name}: step {trainer.step} of {stage.num_steps}")
        maker = SceneMaker(checkpoint, mixture, plan.seed + number)
        store = SceneStore(folder / "scenes" / stage.name, maker)
        batches = Batches(store, plan.seed, plan.batch_size, plan.new_per_batch, stage.num_steps)
        loader: DataLoader[Any] = DataLoader(
            batches,  # type: ignore[arg-type]  # a map-style data set by its two methods
            batch_size=None,
            sampler=range(trainer.step, stage.num_steps),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            collate_fn=_as_is,
            worker_init_fn=_one_thread,
        )
        if not trainer.run(iter(loader), stop_at_s=stop_at_s):
            say(f"stopped at step {trainer.step} of stage {stage.name}; run again to go on")
            return folder / "model"
        done.touch()
    say("the plan is done")
    return folder / "model"


def _checkpoint(folder: Path, seed: int) -> Checkpoint:
    """The checkpoint to train, through the loader that live use has; a new one where the folder holds none."""
    from models.checkpoint import load_checkpoint
    from models.training.blueprint import Sizes, new_model
    from models.training.scenes import CORPUS

    if not (folder / "model.safetensors").is_file():
        new_model(folder, CORPUS(), Sizes(), seed).save_pretrained(folder)
    return load_checkpoint(folder, device="cpu", dtype="float32", progress=False)


def _as_is(batch: Sequence[Any]) -> Sequence[Any]:
    return batch


def _one_thread(_worker: int) -> None:
    import torch

    torch.set_num_threads(1)


def _refuse_unknown(values: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(values) - known)
    if unknown:
        raise SettingsError(f"{where}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
