"""The rolling cache fulfils transformers' contract, evicts exactly, and rotates no key twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from models.checkpoint.fake import FakeSizes, make_checkpoint
from models.checkpoint.loader import Checkpoint
from models.session.cache import KeyTap, RollingCache, rotate

NUM_LAYERS = 2


def new_cache(checkpoint: Checkpoint, capacity: int = 4096) -> RollingCache:
    language = checkpoint.model.model.language_model
    return RollingCache(len(language.layers), language.rotary_emb, capacity)


def run(checkpoint: Checkpoint, tap: KeyTap, cache: RollingCache, ids: list[int]) -> torch.Tensor:
    with tap.feeding(cache):
        return checkpoint.model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0]


@pytest.fixture(autouse=True)
def _as_the_engine_runs():
    with torch.inference_mode():
        yield


@pytest.fixture
def tap(checkpoint: Checkpoint):
    tap = KeyTap(checkpoint.model)
    yield tap
    tap.remove()


def check_keys(cache: RollingCache, atol: float = 1e-5) -> None:
    """Check that every layer's keys are its unrotated keys, rotated once for their positions."""
    cos, sin = cache.angles(0, cache.length)
    for layer in cache.layers:
        torch.testing.assert_close(layer.keys.float(), rotate(layer.unrotated_keys, cos, sin), atol=atol, rtol=0)


def test_it_gives_what_a_dynamic_cache_gives_in_any_chunking(checkpoint: Checkpoint, tap: KeyTap) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 400, 90).tolist()
    plain = DynamicCache(config=checkpoint.model.config.get_text_config())
    whole = checkpoint.model(input_ids=torch.tensor([ids]), past_key_values=plain, use_cache=True).logits[0]
    rolling = new_cache(checkpoint)
    rows, at = [], 0
    while at < len(ids):
        size = int(rng.integers(1, 20))
        expected = at + len(ids[at : at + size])
        assert rolling.get_mask_sizes(expected - at, 0) == (expected, 0)
        rows.append(run(checkpoint, tap, rolling, ids[at : at + size]))
        at = expected
        assert rolling.get_seq_length() == at == rolling.length
    torch.testing.assert_close(torch.cat(rows), whole, atol=1e-5, rtol=0)
    for mine, theirs in zip(rolling.layers, plain.layers, strict=True):
        assert isinstance(theirs, DynamicLayer)
        torch.testing.assert_close(mine.keys, theirs.keys, atol=1e-5, rtol=0)
        torch.testing.assert_close(mine.values, theirs.values, atol=1e-5, rtol=0)
    check_keys(rolling)


def test_crop_takes_negative_counts_as_transformers_does(checkpoint: Checkpoint, tap: KeyTap) -> None:
    cache = new_cache(checkpoint)
    run(checkpoint, tap, cache, list(range(30)))
    assert cache.is_croppable and not cache.is_compileable and cache.get_max_length() == -1
    cache.crop(-12)
    assert cache.get_seq_length() == 18 and cache.layers[1].keys.shape[2] == 18
    with pytest.raises(ValueError, match="negative"):
        cache.crop(5)
    again = run(checkpoint, tap, cache, list(range(18, 30)))
    fresh = run(checkpoint, tap, new_cache(checkpoint), list(range(30)))[18:]
    torch.testing.assert_close(again, fresh, atol=1e-5, rtol=0)


def test_reset_empties_it_for_another_stream(checkpoint: Checkpoint, tap: KeyTap) -> None:
    cache = new_cache(checkpoint)
    run(checkpoint, tap, cache, [1, 2, 3])
    cache.reset()
    assert cache.length == 0
    torch.testing.assert_close(
        run(checkpoint, tap, cache, [7, 8]), run(checkpoint, tap, new_cache(checkpoint), [7, 8]), atol=1e-6, rtol=0
    )


def test_a_fork_leaves_not_a_bit_behind(checkpoint: Checkpoint, tap: KeyTap) -> None:
    cache = new_cache(checkpoint)
    run(checkpoint, tap, cache, list(range(40)))
    before = [(layer.keys.clone(), layer.values.clone(), layer.unrotated_keys.clone()) for layer in cache.layers]
    run(checkpoint, tap, cache, list(range(100, 400)))
    cache.truncate(40)
    for layer, (keys, values, unrotated) in zip(cache.layers, before, strict=True):
        assert torch.equal(layer.keys, keys) and torch.equal(layer.values, values)
        assert torch.equal(layer.unrotated_keys, unrotated)


def test_survivors_move_by_their_own_distance(checkpoint: Checkpoint, tap: KeyTap) -> None:
    cache = new_cache(checkpoint)
    run(checkpoint, tap, cache, list(range(60)))
    keep = np.array([0, 1, 2, 10, 11, 30, 31, 32, 59], dtype=np.int64)
    before = [(layer.values.clone(), layer.unrotated_keys.clone()) for layer in cache.layers]
    cache.keep(keep)
    assert cache.length == len(keep)
    check_keys(cache)
    for layer, (values, unrotated) in zip(cache.layers, before, strict=True):
        assert torch.equal(layer.values, values[:, :, keep])
        assert torch.equal(layer.unrotated_keys, unrotated[:, :, keep])
    run(checkpoint, tap, cache, [5, 6, 7])
    check_keys(cache)


def test_one_layer_after_eviction_is_as_if_the_evicted_had_never_been(tmp_path) -> None:
    """In a single layer a key depends on its own token only, so recomputing must give the same logits."""
    from models.checkpoint.loader import load_checkpoint

    checkpoint = load_checkpoint(make_checkpoint(tmp_path / "one", sizes=FakeSizes(layers=1)), device="cpu")
    tap = KeyTap(checkpoint.model)
    cache = new_cache(checkpoint)
    run(checkpoint, tap, cache, list(range(50)))
    cache.keep(np.r_[0:5, 20:28, 41:50])
    after = run(checkpoint, tap, cache, [77, 78])
    survivors = [*range(5), *range(20, 28), *range(41, 50)]
    fresh = run(checkpoint, tap, new_cache(checkpoint), [*survivors, 77, 78])[-2:]
    torch.testing.assert_close(after, fresh, atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", [[3, 2], [0, 60], [-1, 4]])
def test_nonsense_positions_are_refused(checkpoint: Checkpoint, tap: KeyTap, positions: list[int]) -> None:
    cache = new_cache(checkpoint)
    run(checkpoint, tap, cache, list(range(10)))
    with pytest.raises(ValueError, match="positions to keep"):
        cache.keep(np.array(positions))


def test_keeping_nothing_and_keeping_all(checkpoint: Checkpoint, tap: KeyTap) -> None:
    cache = new_cache(checkpoint)
    run(checkpoint, tap, cache, list(range(10)))
    keys = cache.layers[0].keys.clone()
    cache.keep(np.arange(10))
    assert torch.equal(cache.layers[0].keys, keys)
    cache.keep(np.zeros(0, dtype=np.int64))
    assert cache.length == 0


def test_keys_without_their_tap_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(RuntimeError, match="KeyTap"):
        checkpoint.model(input_ids=torch.tensor([[1, 2]]), past_key_values=new_cache(checkpoint), use_cache=True)


def test_buffers_double_up_to_the_capacity_and_then_grow_by_need(checkpoint: Checkpoint, tap: KeyTap) -> None:
    cache = new_cache(checkpoint, capacity=600)
    sizes = []
    for _ in range(8):
        run(checkpoint, tap, cache, list(range(100)))
        sizes.append(cache.layers[0]._buffers[0].shape[2])
    assert sizes == [256, 256, 512, 512, 512, 600, 956, 956]
    check_keys(cache)


def tiny_cache(num_layers: int, head_dim: int = 8) -> RollingCache:
    inverse = 1.0 / (10_000.0 ** (torch.arange(0, head_dim, 2).float() / head_dim))
    angles = torch.arange(2_100)[:, None] * torch.cat([inverse, inverse])
    cos, sin = angles.cos()[None], angles.sin()[None]

    def rotary(sample: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return cos[:, positions[0]].to(sample.dtype), sin[:, positions[0]].to(sample.dtype)

    return RollingCache(num_layers, rotary, 256)


def append(cache: RollingCache, generator: torch.Generator, count: int, dtype: torch.dtype) -> None:
    start = cache.length
    for layer in cache.layers:
        unrotated = torch.randn(1, 1, count, 8, generator=generator).to(dtype)
        layer.stash(unrotated)
        layer.update(unrotated, unrotated)
        cos, sin = cache.angles(start, start + count)
        layer.keys[:, :, start:] = rotate(unrotated, cos, sin).to(dtype)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_a_key_that_moves_two_thousand_times_is_rotated_once(dtype: torch.dtype, atol: float) -> None:
    """Rotating rotated keys again would give large errors in bfloat16 by then."""
    cache = tiny_cache(NUM_LAYERS)
    append(cache, torch.Generator().manual_seed(0), 2_006, dtype)
    last = [layer.unrotated_keys[:, :, -1:].clone() for layer in cache.layers]
    for length in range(2_006, 7, -1):
        cache.keep(np.r_[0:6, 7:length])
    check_keys(cache, atol)
    assert cache.length == 7
    for layer, key in zip(cache.layers, last, strict=True):
        assert torch.equal(layer.unrotated_keys[:, :, 6:], key)


def test_keys_are_right_after_a_hundred_thousand_evicted_units() -> None:
    """One unit at a time after four pinned tokens; one layer, because layers are compacted independently."""
    generator = torch.Generator().manual_seed(0)
    cache = tiny_cache(1)
    with torch.inference_mode():
        append(cache, generator, 8, torch.float32)
        for _ in range(2_500):
            append(cache, generator, 40, torch.float32)
            for length in range(48, 8, -1):
                cache.keep(np.r_[0:4, 5:length])
        check_keys(cache)
