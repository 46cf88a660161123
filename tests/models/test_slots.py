"""A slot evicts exactly and rotates no key twice, and transformers can write to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from models.checkpoint.fake import FakeSizes, make_checkpoint
from models.checkpoint.loader import Checkpoint
from models.network.decoder import Segment
from models.network.network import Network
from models.network.reference import KeyTap, ReferenceCache
from models.network.rotary import RotaryTable, rotate
from models.network.slots import Slot, SlotShape

NUM_LAYERS = 2


def new_slot(checkpoint: Checkpoint, capacity: int = 4096) -> Slot:
    return Network(checkpoint.model).new_slot(capacity)


def run(checkpoint: Checkpoint, slot: Slot, ids: list[int]) -> torch.Tensor:
    network = Network(checkpoint.model)
    return network.logits([Segment(slot, network.embed(ids), tuple(range(len(ids))))])[0]


@pytest.fixture(autouse=True)
def _as_the_engine_runs():
    with torch.inference_mode():
        yield


def check_keys(slot: Slot, atol: float = 1e-5) -> None:
    """Check that every layer's keys are its unrotated keys, rotated once for their positions."""
    cos, sin = slot.rotary.span(0, slot.length)
    for layer in slot.layers:
        torch.testing.assert_close(layer.keys.float(), rotate(layer.unrotated_keys, cos, sin), atol=atol, rtol=0)


def test_it_holds_what_a_dynamic_cache_holds_in_any_chunking(checkpoint: Checkpoint) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 400, 90).tolist()
    plain = DynamicCache(config=checkpoint.model.config.get_text_config())
    whole = checkpoint.model(input_ids=torch.tensor([ids]), past_key_values=plain, use_cache=True).logits[0]
    slot, rows, at = new_slot(checkpoint), [], 0
    while at < len(ids):
        part = ids[at : at + int(rng.integers(1, 20))]
        rows.append(run(checkpoint, slot, part))
        at += len(part)
        assert slot.length == at
    torch.testing.assert_close(torch.cat(rows), whole, atol=1e-5, rtol=0)
    for mine, theirs in zip(slot.layers, plain.layers, strict=True):
        assert isinstance(theirs, DynamicLayer)
        assert theirs.keys is not None and theirs.values is not None
        torch.testing.assert_close(mine.keys, theirs.keys[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(mine.values, theirs.values[0], atol=1e-5, rtol=0)
    check_keys(slot)


def test_transformers_writes_to_a_slot_through_its_own_kind_of_cache(checkpoint: Checkpoint) -> None:
    slot, same = new_slot(checkpoint), new_slot(checkpoint)
    tap = KeyTap(checkpoint.model)
    for ids in (list(range(30)), [7], [8, 9]):
        cache = ReferenceCache(slot)
        assert cache.get_mask_sizes(len(ids), 0) == (slot.length + len(ids), 0)
        with tap.feeding(cache):
            rows = checkpoint.model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0]
        assert slot.length == same.length, "a pass counts when it is committed"
        cache.commit()
        torch.testing.assert_close(rows, run(checkpoint, same, ids), atol=1e-5, rtol=0)
        assert cache.get_seq_length() == slot.length == same.length
    tap.remove()
    for mine, theirs in zip(slot.layers, same.layers, strict=True):
        for name in ("keys", "unrotated_keys", "values"):
            torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), atol=1e-5, rtol=0)
    cache = ReferenceCache(slot)
    assert cache.is_croppable and not cache.is_compileable and cache.get_max_length() == -1
    cache.crop(-12)
    cache.commit()
    assert slot.length == 21
    with pytest.raises(ValueError, match="negative"):
        cache.crop(5)


def test_keys_without_their_tap_are_refused(checkpoint: Checkpoint) -> None:
    cache = ReferenceCache(new_slot(checkpoint))
    with pytest.raises(RuntimeError, match=r"tap\.feeding"):
        checkpoint.model(input_ids=torch.tensor([[1, 2]]), past_key_values=cache, use_cache=True)


def test_a_pass_of_transformers_that_feeds_some_layers_alone_is_found_out(checkpoint: Checkpoint) -> None:
    slot = new_slot(checkpoint)
    cache = ReferenceCache(slot)
    cache.layers[1].length = 3
    with pytest.raises(RuntimeError, match="only some layers"):
        cache.commit()
    assert slot.length == 0


def test_emptied_it_serves_another_stream(checkpoint: Checkpoint) -> None:
    slot = new_slot(checkpoint)
    run(checkpoint, slot, [1, 2, 3])
    slot.truncate(0)
    torch.testing.assert_close(
        run(checkpoint, slot, [7, 8]), run(checkpoint, new_slot(checkpoint), [7, 8]), atol=1e-6, rtol=0
    )


def test_a_fork_leaves_not_a_bit_behind(checkpoint: Checkpoint) -> None:
    slot = new_slot(checkpoint)
    run(checkpoint, slot, list(range(40)))
    before = [(layer.keys.clone(), layer.values.clone(), layer.unrotated_keys.clone()) for layer in slot.layers]
    run(checkpoint, slot, list(range(100, 400)))
    slot.truncate(40)
    for layer, (keys, values, unrotated) in zip(slot.layers, before, strict=True):
        assert torch.equal(layer.keys, keys) and torch.equal(layer.values, values)
        assert torch.equal(layer.unrotated_keys, unrotated)


def test_survivors_move_by_their_own_distance(checkpoint: Checkpoint) -> None:
    slot = new_slot(checkpoint)
    run(checkpoint, slot, list(range(60)))
    keep = np.array([0, 1, 2, 10, 11, 30, 31, 32, 59], dtype=np.int64)
    before = [(layer.values.clone(), layer.unrotated_keys.clone()) for layer in slot.layers]
    addresses = [states.data_ptr() for states in slot.states]
    slot.keep(keep)
    assert slot.length == len(keep)
    check_keys(slot)
    for layer, (values, unrotated) in zip(slot.layers, before, strict=True):
        assert torch.equal(layer.values, values[:, keep])
        assert torch.equal(layer.unrotated_keys, unrotated[:, keep])
    run(checkpoint, slot, [5, 6, 7])
    check_keys(slot)
    assert [states.data_ptr() for states in slot.states] == addresses, "compacted where it lies"


def test_one_layer_after_eviction_is_as_if_the_evicted_had_never_been(tmp_path) -> None:
    """In a single layer a key depends on its own token only, so recomputing must give the same logits."""
    from models.checkpoint.loader import load_checkpoint

    checkpoint = load_checkpoint(make_checkpoint(tmp_path / "one", sizes=FakeSizes(layers=1)), device="cpu")
    slot = new_slot(checkpoint)
    run(checkpoint, slot, list(range(50)))
    slot.keep(np.r_[0:5, 20:28, 41:50])
    after = run(checkpoint, slot, [77, 78])
    survivors = [*range(5), *range(20, 28), *range(41, 50)]
    fresh = run(checkpoint, new_slot(checkpoint), [*survivors, 77, 78])[-2:]
    torch.testing.assert_close(after, fresh, atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", [[3, 2], [0, 60], [-1, 4]])
def test_nonsense_positions_are_refused(checkpoint: Checkpoint, positions: list[int]) -> None:
    slot = new_slot(checkpoint)
    run(checkpoint, slot, list(range(10)))
    with pytest.raises(ValueError, match="positions to keep"):
        slot.keep(np.array(positions))


def test_keeping_nothing_and_keeping_all(checkpoint: Checkpoint) -> None:
    slot = new_slot(checkpoint)
    run(checkpoint, slot, list(range(10)))
    keys = slot.layers[0].keys.clone()
    slot.keep(np.arange(10))
    assert torch.equal(slot.layers[0].keys, keys)
    slot.keep(np.zeros(0, dtype=np.int64))
    assert slot.length == 0


def test_it_has_its_whole_capacity_from_the_first_token_on_and_stays_where_it_is(checkpoint: Checkpoint) -> None:
    slot = new_slot(checkpoint, capacity=600)
    assert slot.num_bytes == 0
    run(checkpoint, slot, [1])
    addresses = [states.data_ptr() for states in slot.states]
    assert slot.num_bytes == 600 * slot.shape.bytes_per_token
    for _ in range(5):
        run(checkpoint, slot, list(range(100)))
    assert [states.data_ptr() for states in slot.states] == addresses
    run(checkpoint, slot, list(range(100)))
    assert slot.room == slot.length == 601, "more than the capacity by what is needed"
    slot.set_capacity(900)
    assert slot.room == 900 and slot.length == 601
    check_keys(slot)
    run(checkpoint, slot, [4, 5])
    check_keys(slot)


def tiny_slot(num_layers: int, dtype: torch.dtype, head_dim: int = 8) -> Slot:
    inverse = 1.0 / (10_000.0 ** (torch.arange(0, head_dim, 2).float() / head_dim))

    def frequencies(sample: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = positions[..., None] * torch.cat([inverse, inverse])
        return angles.cos(), angles.sin()

    device = torch.device("cpu")
    return Slot(SlotShape(num_layers, 1, head_dim, dtype, device), RotaryTable(frequencies, device), 256)


def append(slot: Slot, generator: torch.Generator, count: int) -> None:
    start, stop = slot.length, slot.length + count
    slot.make_room(stop)
    cos, sin = slot.rotary.span(start, stop)
    for states in slot.states:
        unrotated = torch.randn(1, count, 8, generator=generator).to(states.dtype)
        states[:, start:stop] = unrotated
        states[:1, start:stop] = rotate(unrotated, cos, sin)
    slot.length = stop


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_a_key_that_moves_two_thousand_times_is_rotated_once(dtype: torch.dtype, atol: float) -> None:
    """Rotating rotated keys again would give large errors in bfloat16 by then."""
    slot = tiny_slot(NUM_LAYERS, dtype)
    append(slot, torch.Generator().manual_seed(0), 2_006)
    last = [layer.unrotated_keys[:, -1:].clone() for layer in slot.layers]
    for length in range(2_006, 7, -1):
        slot.keep(np.r_[0:6, 7:length])
    check_keys(slot, atol)
    assert slot.length == 7
    for layer, key in zip(slot.layers, last, strict=True):
        assert torch.equal(layer.unrotated_keys[:, 6:], key)


def test_keys_are_right_after_a_hundred_thousand_evicted_units() -> None:
    """One unit at a time after four pinned tokens; one layer, because layers are compacted independently."""
    generator = torch.Generator().manual_seed(0)
    slot = tiny_slot(1, torch.float32)
    append(slot, generator, 8)
    for _ in range(2_500):
        append(slot, generator, 40)
        for length in range(48, 8, -1):
            slot.keep(np.r_[0:4, 5:length])
    check_keys(slot)
