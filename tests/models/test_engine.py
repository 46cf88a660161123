"""The engine advances many sessions side by side, and an error in one job stays in that job."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint.loader import Checkpoint
from models.engine import Engine
from models.errors import LogitsError, SessionError, SettingsError
from models.network.reference import ReferenceNetwork
from models.session.session import Session
from models.session.steps import Encode, Forward, Job, Output, StepGenerator, as_steps
from models.session.token_sampling import SamplingSettings, TokenSampler
from models.session.tokenizer import StreamTokenizer
from tests.models.streams import Script, check_whole, frame, moving, noting, picture, read, small_settings, watch

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "prompts.json").read_text(encoding="utf-8"))


@as_steps
def life(session: Session, seed: int, heard: list[Any]) -> StepGenerator[None]:
    """A stream with remarks, questions and checks, as one job."""
    for seen in moving(12 + seed):
        shifted = replace(seen, image=picture(seen.index * (seed + 1), seed=seed))
        sight = yield from session.see(shifted, speak_above=-1e9)
        heard.append((sight.score, sight.log_p_assistant, sight.num_tokens))
        if seen.index % 4 == seed:
            heard.append((yield from session.comment()).token_ids)
        if seen.index == 5 + seed:
            heard.append(((yield from session.check("Is it so?")).log_odds,))
            heard.append((yield from session.answer("What is it?")).token_ids)


def test_sessions_interleaved_equal_sessions_apart(checkpoint: Checkpoint) -> None:
    apart: list[list[Any]] = []
    for seed in range(3):
        engine = Engine(checkpoint)
        apart.append([])
        engine.run(life(engine.open_session(small_settings()), seed, apart[-1]))
        engine.close()
    engine = Engine(checkpoint)
    together: list[list[Any]] = [[], [], []]
    sessions = [engine.open_session(small_settings()) for _ in range(3)]
    jobs: list[Job[Any]] = [Job(life(session, seed, together[seed])) for seed, session in enumerate(sessions)]
    waiting = engine.step(jobs)
    assert len(waiting) == 3
    while waiting:
        waiting = engine.step(waiting)
    for mine, theirs in zip(together, apart, strict=True):
        assert mine == [said if isinstance(said[0], int) else pytest.approx(said, abs=1e-4) for said in theirs]
    assert all(len(heard) > 12 for heard in together)
    for session in sessions:
        check_whole(session)
    engine.close()


def passes_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """The kind and the rows of each pass that the engine runs from now on."""
    passes: list[tuple[str, list[int]]] = []
    forward, encode = engine._forward, engine._encode

    def forwarded(requests: Sequence[Forward]) -> Any:
        passes.append(("forward", [request.num_rows for request in requests]))
        return forward(requests)

    def encoded(requests: Sequence[Encode]) -> Any:
        passes.append(("encode", [len(request.patches) for request in requests]))
        return encode(requests)

    monkeypatch.setattr(engine, "_forward", forwarded)
    monkeypatch.setattr(engine, "_encode", encoded)
    return passes


def test_a_step_is_one_batch_of_frames_and_one_pass_for_all(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = passes_of(engine, monkeypatch)
    jobs = [Job(engine.open_session(small_settings()).see(frame(picture(step), 0, 0.0))) for step in range(3)]
    rest: list[Job[Any]] = engine.step(jobs)
    assert [kind for kind, _ in passes] == ["forward"], "the system turn"
    assert not engine.step(rest) and [kind for kind, _ in passes] == ["forward", "encode", "forward"]
    assert [len(rows) for _, rows in passes] == [3, 3, 3] and passes[1][1] == [64] * 3
    assert all(job.done and job.result is not None for job in jobs)


def test_nobody_waits_for_more_steps_than_there_are_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefills fill the passes, and a single token comes last among the jobs."""
    passes = passes_of(engine, monkeypatch)
    monkeypatch.setattr("models.engine.pass_tokens", lambda device: 40)
    num_others = 4

    @as_steps
    def asking(size: int, answered: list[int]) -> StepGenerator[None]:
        slot = engine._runtime.new_cache(4096)
        for _ in range(12):
            yield Forward(slot, torch.zeros(size, 32), "last")
            answered.append(len(passes))

    counts: list[list[int]] = [[] for _ in range(num_others + 1)]
    sizes = [40, 30, 40, 35, 1]
    jobs: list[Job[Any]] = [Job(asking(size, answered)) for size, answered in zip(sizes, counts, strict=True)]
    rest = jobs
    while rest:
        rest = engine.step(rest)
    assert all(sum(rows) <= 40 for _, rows in passes)
    for answered in counts:
        assert max(np.diff([0, *answered])) <= num_others + 1


def test_two_requests_for_one_slot_do_not_share_a_pass(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, slot = passes_of(engine, monkeypatch), engine._runtime.new_cache(64)

    @as_steps
    def once() -> StepGenerator[None]:
        yield Forward(slot, torch.zeros(3, 32))

    rest: list[Job[Any]] = [Job(once()), Job(once())]
    while rest:
        rest = engine.step(rest)
    assert [rows for _, rows in passes] == [[3], [3]] and slot.length == 6


def test_an_error_in_one_request_of_a_pass_does_not_harm_the_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One session's slot has no memory left; another's numbers overflow. The third answers as if alone."""
    sessions = [engine.open_session(small_settings()) for _ in range(3)]
    twin = engine.open_session(small_settings())
    for session in [*sessions, twin]:
        watch(engine, session, 2)
    full, broken, good = sessions
    before = [session.context.cache.length for session in sessions]

    def no_room(num_tokens: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    jobs: list[Job[Any]] = [Job(session.check("Is it so?")) for session in sessions]
    monkeypatch.setattr(full.context.cache, "make_room", no_room)
    with torch.inference_mode():
        for states in broken.context.cache.states:
            states[:, 0] *= math.nan
    rest = jobs
    while rest:
        rest = engine.step(rest)
    assert isinstance(jobs[0].error, torch.OutOfMemoryError) and isinstance(jobs[1].error, LogitsError)
    assert jobs[2].outcome().log_odds == pytest.approx(engine.run(twin.check("Is it so?")).log_odds, abs=1e-4)
    assert [session.context.cache.length for session in sessions] == before
    check_whole(good)


def test_an_error_stays_in_its_job(engine: Engine) -> None:
    good, bad = (engine.open_session(small_settings()) for _ in range(2))

    @as_steps
    def broken() -> StepGenerator[None]:
        yield from bad.see(frame(picture(0), 0, 0.0))
        raise ValueError("a bug of this job")

    jobs: list[Job[Any]] = [Job(good.see(frame(picture(0), 0, 0.0))), Job(broken())]
    waiting = engine.step(jobs)
    while waiting:
        waiting = engine.step(waiting)
    assert jobs[0].error is None and jobs[0].outcome().appended
    with pytest.raises(ValueError, match="a bug of this job"):
        jobs[1].outcome()
    assert engine.run(bad.see(frame(picture(3), 1, 1.0))).appended


def test_a_failed_forward_pass_leaves_its_cache_as_it_was(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = engine._runtime.new_cache(256)
    embeddings = torch.zeros(5, 32)

    @as_steps
    def twice() -> StepGenerator[int]:
        yield Forward(cache, embeddings)
        try:
            yield Forward(cache, embeddings)
        except RuntimeError:
            return cache.length
        return -1

    job = Job(twice())
    engine.step([job])
    calls = 0

    def failing(*given: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("out of memory")
        return torch.zeros(())

    monkeypatch.setattr("models.network.decoder.mlp", failing)
    engine.step([job])
    assert str(job.error) == "out of memory" and calls == 2
    assert cache.length == 5


def test_text_comes_in_pieces(engine: Engine, checkpoint: Checkpoint) -> None:
    text = "A red circle enters 你好."
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, text))
    engine.run(session.see(frame(picture(0), 0, 0.0)))
    pieces: list[str] = []
    said = engine.run(session.comment(max_tokens=60), on_piece=pieces.append)
    assert "".join(pieces) == said.text == text
    assert len(pieces) > 5 and "\ufffd" not in "".join(pieces)
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, text))
    job = Job(session.answer("What is it?", max_tokens=60))
    taken: list[list[str]] = []
    while engine.step([job]):
        taken.append(job.take_pieces())
    assert sum(map(len, taken)) + len(job.take_pieces()) == len(job.pieces)


def test_our_clock_times_the_first_token(checkpoint: Checkpoint) -> None:
    ticks = iter(range(10_000))
    engine = Engine(checkpoint, now=lambda: float(next(ticks)))
    session = engine.open_session(small_settings(), sampler=Script(checkpoint, "A red circle."))
    sight = engine.run(session.see(frame(picture(0), 0, 0.0)))
    assert set(sight.timings) == {"prune", "encode", "prefill", "total"}
    assert sight.timings["total"] >= sight.timings["prefill"] > 0
    before = next(ticks)
    said = engine.run(session.comment())
    assert said.first_token_at is not None and before < said.first_token_at < next(ticks) - 2
    engine.close()


@pytest.mark.parametrize(
    ("name", "num_images", "times"),
    [("image sequence", 2, None), ("video then text", 0, [0.0, 1.0, 2.0])],
)
def test_asking_about_pictures_uses_the_published_formats(
    engine: Engine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, name: str, num_images: int, times: Any
) -> None:
    case = next(case for case in GOLDEN if case["name"] == name)
    question = case["messages"][0]["content"][-1]["text"]
    opened: list[Session] = []
    open_session = engine.open_session

    def scripted(*args: Any, **options: Any) -> Session:
        opened.append(open_session(*args, **{**options, "sampler": Script(checkpoint, "One.")}))
        return opened[-1]

    monkeypatch.setattr(engine, "open_session", scripted)
    images = [picture(step, (60, 80)) for step in range(num_images)]
    clips = [([picture(step, (60, 80)) for step in range(len(times))], times)] if times else []
    assert engine.run(engine.ask(question, images, clips)).text == "One."
    assert read(opened[0], checkpoint) == case["rendered"] + "One.<|im_end|>\n"
    num_tokens = sum(span.num_visual for span in opened[0].context.ledger)
    if num_images:
        assert num_tokens == num_images * checkpoint.vision.fit_grid(80, 60, merge=1).num_cells
    else:
        cells = checkpoint.vision.fit_grid(80, 60, merge=2).num_cells
        assert cells + 2 <= num_tokens < 3 * cells, "the published DiffFP drops what does not change"


def test_asking_without_pictures_is_plain_conversation(engine: Engine, checkpoint: Checkpoint) -> None:
    outputs: list[Output] = []
    engine.run(noting(engine.ask("How many circles are there?", max_tokens=1, system="Be brief."), outputs))
    prompt = checkpoint.prompt
    text = prompt.system("Be brief.") + prompt.turn("user", "How many circles are there?") + prompt.opening()
    ids = StreamTokenizer(checkpoint).encode(text)
    with torch.inference_mode():
        expected = checkpoint.model(input_ids=torch.tensor([ids])).logits[0, -1]
    torch.testing.assert_close(outputs[1].logits[0], expected, atol=1e-4, rtol=0)


def test_a_clip_with_no_frames_is_refused(engine: Engine) -> None:
    with pytest.raises(SessionError, match="at least one frame"):
        engine.run(engine.ask("What?", clips=[([], [])]))


def test_a_closed_engine_gives_the_model_back(checkpoint: Checkpoint) -> None:
    projections = [layer.self_attn.k_proj for layer in checkpoint.model.model.language_model.layers]
    for num_hooks in (0, 1):
        engine = Engine(checkpoint, network=ReferenceNetwork(checkpoint.model) if num_hooks else None)
        assert {len(projection._forward_hooks) for projection in projections} == {num_hooks}
        engine.close()
        assert {len(projection._forward_hooks) for projection in projections} == {0}


def test_greedy_takes_the_likeliest_and_says_how_likely() -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    choice = TokenSampler().choose(logits, [])
    assert choice.token == int(logits.argmax())
    assert choice.logprob == pytest.approx(float(logits[0].log_softmax(-1).max()))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_barred_is_never_taken(temperature: float) -> None:
    logits = torch.zeros(1, 20)
    logits[0, 3], logits[0, 4], logits[0, 5] = 90.0, 80.0, 40.0
    choice = TokenSampler(SamplingSettings(temperature=temperature)).choose(logits, [], barred={3, 4})
    assert choice.token == 5
    assert choice.logprob == pytest.approx(-50.0, abs=1e-3), "how likely the model itself thought it"
    assert logits[0, 3] == 90.0


def test_sampling_goes_through_the_processors() -> None:
    logits = torch.zeros(1, 20)
    logits[0, 3], logits[0, 4] = 5.0, 4.9
    assert TokenSampler(SamplingSettings(repetition_penalty=2.0)).choose(logits, [3]).token == 4
    assert TokenSampler(SamplingSettings(no_repeat_ngram=1)).choose(logits, [3]).token == 4
    nucleus = TokenSampler(SamplingSettings(temperature=1.0, top_k=2, seed=1))
    drawn = [nucleus.choose(logits, []).token for _ in range(40)]
    assert set(drawn) == {3, 4}
    again = TokenSampler(SamplingSettings(temperature=1.0, top_k=2, seed=1))
    assert [again.choose(logits, []).token for _ in range(40)] == drawn
    narrow = TokenSampler(SamplingSettings(temperature=1.0, top_p=0.3))
    assert {narrow.choose(logits, []).token for _ in range(20)} == {3}


@pytest.mark.parametrize(
    "values", [{"temperature": -1}, {"top_p": 0}, {"top_k": -1}, {"repetition_penalty": 0}, {"no_repeat_ngram": -1}]
)
def test_sampling_settings_are_checked(values: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        SamplingSettings(**values)  # type: ignore[arg-type]


def test_steps_can_be_driven_by_hand(engine: Engine) -> None:
    """Run steps as a runner does that intercepts them: requests come out, outputs go in."""
    session = engine.open_session(small_settings())
    steps = session.see(frame(np.zeros((112, 112, 3), dtype=np.uint8), 0, 0.0))
    with torch.inference_mode():
        request = next(steps)
        while True:
            assert isinstance(request, Forward | Encode)
            (reply,) = engine.serve([request])
            assert not isinstance(reply, Exception)
            try:
                request = steps.send(reply)
            except StopIteration as stop:
                assert stop.value.appended
                return
