"""Errors do not keep tensors alive, and stage timings include the asynchronous work of a device."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.checkpoint.devices import wait_for
from models.checkpoint.loader import Checkpoint
from models.engine import Engine
from models.session.steps import Job, StepGenerator, as_steps
from tests.models.streams import frame, picture, small_settings, watch


def run_out(patched: pytest.MonkeyPatch, held: list[weakref.ref[Any]]) -> None:
    """Make a layer run out of memory while it holds something large."""

    def failing(weights: object, layer: object, hidden: torch.Tensor) -> torch.Tensor:
        activations = hidden * 2
        held.extend([weakref.ref(activations), weakref.ref(hidden)])
        raise torch.OutOfMemoryError("CUDA out of memory")

    patched.setattr("models.network.decoder.mlp", failing)


def test_an_error_that_somebody_keeps_keeps_no_activations(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 2)
    held: list[weakref.ref[Any]] = []
    job = Job(session.answer("What is it?", [picture(3)]))
    with monkeypatch.context() as patched:
        run_out(patched, held)
        while not job.done:
            engine.step([job])
    gc.collect()
    assert isinstance(job.error, torch.OutOfMemoryError)
    assert "in failing" in "".join(job.error.__notes__), "where it came from can be told"
    assert held and all(reference() is None for reference in held)
    assert engine.run(session.answer("What is it?")).token_ids


def test_an_error_of_another_error_keeps_nothing_either(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 1)
    held: list[weakref.ref[Any]] = []

    @as_steps
    def translated() -> StepGenerator[None]:
        large = torch.zeros(1000)
        held.append(weakref.ref(large))
        try:
            yield from session.comment()
        except torch.OutOfMemoryError as error:
            raise ValueError("no room") from error

    job = Job(translated())
    with monkeypatch.context() as patched:
        run_out(patched, held)
        while not job.done:
            engine.step([job])
    gc.collect()
    assert isinstance(job.error, ValueError) and isinstance(job.error.__cause__, torch.OutOfMemoryError)
    assert len(held) == 3 and all(reference() is None for reference in held)


class _Device:
    """Returns from launches at once and works while somebody waits: 30 ms for a pass, 20 for a picture."""

    def __init__(self) -> None:
        self.now_ms = self.pending_ms = 0.0

    def launch(self, takes_ms: float) -> None:
        self.pending_ms += takes_ms

    def wait(self, device: torch.device) -> None:
        self.now_ms, self.pending_ms = self.now_ms + self.pending_ms, 0.0

    def now_s(self) -> float:
        return self.now_ms / 1e3


def test_stage_times_are_those_of_the_work_and_not_of_its_launch(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = _Device()
    monkeypatch.setattr("models.session.runtime.wait_for", device.wait)
    engine = Engine(checkpoint, now=device.now_s)
    session = engine.open_session(small_settings(), system="")
    logits, encode_batch = engine._network.logits, engine._network.encoder.encode_batch

    def launched(takes_ms: float, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(given: Any) -> Any:
            device.launch(takes_ms)
            return work(given)

        return run

    monkeypatch.setattr(engine._network, "logits", launched(30.0, logits))
    monkeypatch.setattr(engine._network.encoder, "encode_batch", launched(20.0, encode_batch))
    sight = engine.run(session.see(frame(picture(0), 0, 0.0)))
    engine.close()
    assert sight.timings == pytest.approx({"prune": 0.0, "encode": 20.0, "prefill": 30.0, "total": 50.0})


def test_only_devices_that_work_by_themselves_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    wait_for(torch.device("cpu"))
    wait_for(torch.device("cuda:1"))
    assert waited == [torch.device("cuda:1")]
