"""The forward pass of plain functions equals transformers' modules, and shares the weights with them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import VideoLlama3ForConditionalGeneration
from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3Config, VideoLlama3VisionConfig

from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.checkpoint.types import SpecialIds
from models.engine import Engine
from models.network.decoder import Segment
from models.network.network import Network, VisionEncoder
from models.network.reference import ReferenceEncoder, ReferenceNetwork
from models.network.slots import Slot
from models.network.tower import FrameBatch
from streaming.difffp.live import CellGrid
from tests.models.streams import frame, moving, picture, small_settings

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(autouse=True)
def _as_the_engine_runs():
    with torch.inference_mode():
        yield


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Sizes of a random model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int | None = None
    tied: bool = True
    act: str = "silu"
    vision_act: str = "gelu_pytorch_tanh"
    vision_heads: int = 2


SIZES = [
    ModelSizes(32, 2, 4, 2),
    ModelSizes(48, 3, 4, 4, tied=False, act="gelu"),
    ModelSizes(40, 1, 8, 1, head_dim=16, vision_act="gelu", vision_heads=3),
    ModelSizes(64, 4, 4, 2, act="gelu_pytorch_tanh", vision_act="quick_gelu"),
]


def random_model(sizes: ModelSizes, seed: int = 0) -> VideoLlama3ForConditionalGeneration:
    """A model with random weights, biases and norms included."""
    extra: dict[str, Any] = {} if sizes.head_dim is None else {"head_dim": sizes.head_dim}
    text = Qwen2Config(
        vocab_size=128,
        hidden_size=sizes.hidden,
        intermediate_size=3 * sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        hidden_act=sizes.act,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=sizes.tied,
        **extra,
    )
    vision = VideoLlama3VisionConfig(
        hidden_size=8 * sizes.vision_heads,
        intermediate_size=40,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.vision_heads,
        hidden_act=sizes.vision_act,
        patch_size=14,
    )
    config = VideoLlama3Config(text_config=text, vision_config=vision, tie_word_embeddings=sizes.tied)
    with torch.inference_mode(mode=False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VideoLlama3ForConditionalGeneration(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1) / 2, std=0.2)
    return model.requires_grad_(False).eval()


def close(found: torch.Tensor, expected: torch.Tensor, relative: float = 1e-5) -> None:
    """Check that the largest difference is within a share of the largest value."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= relative * float(expected.abs().max())


@pytest.mark.parametrize("sizes", SIZES)
def test_the_language_model_equals_transformers_in_any_chunking(sizes: ModelSizes) -> None:
    model = random_model(sizes)
    ids = torch.randint(0, 128, (70,), generator=torch.Generator().manual_seed(1)).tolist()
    expected = model(input_ids=torch.tensor([ids])).logits[0]
    network = Network(model)
    slot, rows = network.new_slot(100), []
    for part in (ids[:30], ids[30:31], ids[31:70]):
        rows.append(network.logits([Segment(slot, network.embed(part), tuple(range(len(part))))])[0])
    close(torch.cat(rows), expected)
    again = network.new_slot(100)
    (nothing,) = network.logits([Segment(again, network.embed(ids[:69]), ())])
    (last,) = network.logits([Segment(again, network.embed(ids[69:]), (0,))])
    assert nothing.shape == (0, 128)
    close(last, expected[-1:])
    close(model(input_ids=torch.tensor([ids])).logits[0], expected, 0.0)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("merge", [1, 2, 3, 4])
def test_the_vision_tower_equals_transformers(sizes: ModelSizes, merge: int) -> None:
    model = random_model(sizes)
    grids = [CellGrid(rows=2, cols=3, merge=merge), CellGrid(rows=1, cols=1, merge=merge), CellGrid(rows=2, cols=3)]
    generator = torch.Generator().manual_seed(2)
    batch = [
        FrameBatch(torch.randn(count * grid.num_patches, 588, generator=generator), grid, count)
        for grid, count in zip(grids, (3, 1, 1), strict=True)
    ]
    expected = ReferenceEncoder(model).encode_batch(batch)
    encoder = VisionEncoder.of(model)
    for found, wanted, pictures in zip(encoder.encode_batch(batch), expected, batch, strict=True):
        close(found, wanted)
        close(encoder.encode(pictures.patches, pictures.grid, pictures.num_frames), wanted)


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_golden_streams_give_the_same_with_both(name: str) -> None:
    with torch.inference_mode(mode=False):
        checkpoint = load_checkpoint(GOLDEN / name, device="cpu", special=SpecialIds(200, 201, 202, 203, 204))
    tensors = load_file(GOLDEN / name / "stream_exact.safetensors")
    network, reference = Network(checkpoint.model), ReferenceNetwork(checkpoint.model)
    ids = tensors["input_ids"].tolist()
    rows = [net.logits([segment(net, net.new_slot(4096), ids)])[0] for net in (network, reference)]
    reference.close()
    close(rows[0], rows[1])


def segment(network: Any, slot: Slot, ids: list[int], *branches: list[int]) -> Segment:
    """Ids with all rows wanted, and branches after them."""
    rows = [*ids, *(token for branch in branches for token in branch)]
    return Segment(slot, network.embed(rows), tuple(range(len(rows))), tuple(map(len, branches)))


@pytest.mark.parametrize("num_sessions", [1, 2, 3, 5, 8, 16])
def test_a_packed_pass_equals_passes_apart(checkpoint: Checkpoint, num_sessions: int) -> None:
    network, generator = Network(checkpoint.model), torch.Generator().manual_seed(num_sessions)

    def ids(count: int) -> list[int]:
        return torch.randint(0, 400, (count,), generator=generator).tolist()

    pasts = [ids(int(torch.randint(0, 90, (), generator=generator))) for _ in range(num_sessions)]
    news = [ids(1 if number % 3 else 1 + 5 * number) for number in range(num_sessions)]
    rows: list[list[torch.Tensor]] = []
    for is_packed in (True, False):
        slots = [network.new_slot(300) for _ in range(num_sessions)]
        for slot, past in zip(slots, pasts, strict=True):
            if past:
                network.logits([segment(network, slot, past)])
        segments = [segment(network, slot, new) for slot, new in zip(slots, news, strict=True)]
        rows.append(network.logits(segments) if is_packed else [network.logits([one])[0] for one in segments])
        assert [slot.length for slot in slots] == [len(p) + len(n) for p, n in zip(pasts, news, strict=True)]
    for packed, apart in zip(*rows, strict=True):
        close(packed, apart)
        assert packed.argmax(-1).tolist() == apart.argmax(-1).tolist()


def test_branches_are_blind_to_each_other_and_forgotten(checkpoint: Checkpoint) -> None:
    network, reference = Network(checkpoint.model), ReferenceNetwork(checkpoint.model)
    past, trunk, branches = list(range(50, 90)), [3, 4, 5], [[9], [10, 11, 12, 13], [14, 15]]
    slot, other = network.new_slot(200), network.new_slot(200)
    network.logits([segment(network, slot, past)])
    network.logits([segment(network, other, past)])
    (together,) = network.logits([segment(network, slot, trunk, *branches)])
    trunk_rows, *parts = together.split([3, 1, 4, 2])
    close(trunk_rows, network.logits([segment(network, other, trunk)])[0])
    assert slot.length == other.length == 43
    for rows, branch in zip(parts, branches, strict=True):
        close(rows, network.logits([segment(network, other, branch)])[0])
        other.truncate(43)
    (alone,) = network.logits([segment(network, slot, [], *branches)])
    close(alone, together[3:])
    close(reference.logits([segment(reference, other, [], *branches)])[0], together[3:])
    reference.close()


@pytest.mark.parametrize("tied", [True, False])
def test_no_weight_is_in_memory_twice(tied: bool) -> None:
    model = random_model(ModelSizes(32, 2, 4, 2, tied=tied))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network, again = Network(model), Network(model)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in model.parameters()}
    assert sum(storages.values()) == sum(tensor.nbytes for tensor in model.parameters())
    for first, second in zip(network._decoder.layers, again._decoder.layers, strict=True):
        assert first.qkv.data_ptr() == second.qkv.data_ptr() and first.gate_up.data_ptr() in storages
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_model_that_was_taken_over_is_trained_saved_and_copied_as_ever(tmp_path: Path) -> None:
    model = random_model(ModelSizes(32, 2, 4, 2))
    network, slot_ids = Network(model), [1, 2, 3]
    with torch.inference_mode(mode=False):
        model.requires_grad_(True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(input_ids=torch.tensor([slot_ids]), labels=torch.tensor([slot_ids])).loss.backward()
        optimizer.step()
        copied = copy.deepcopy(model)
        model.save_pretrained(tmp_path)
    expected = model(input_ids=torch.tensor([slot_ids])).logits[0]
    close(network.logits([segment(network, network.new_slot(8), slot_ids)])[0], expected)
    for one in (copied, VideoLlama3ForConditionalGeneration.from_pretrained(tmp_path, local_files_only=True).eval()):
        close(one(input_ids=torch.tensor([slot_ids])).logits[0], expected, 1e-6)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < 1.1 * sum(tensor.nbytes for tensor in model.parameters()) + 20_000


def test_a_session_is_the_same_on_transformers_own_modules(checkpoint: Checkpoint) -> None:
    """A stream with evictions, checks and answers, on both networks."""
    heard: list[list[Any]] = []
    for network in (None, ReferenceNetwork(checkpoint.model)):
        engine = Engine(checkpoint, network=network)
        session = engine.open_session(small_settings())
        heard.append([])
        for seen in moving(40):
            sight = engine.run(session.see(seen, speak_above=-1e9))
            heard[-1].append((sight.num_tokens, pytest.approx(sight.score, abs=1e-4)))
            heard[-1].append(pytest.approx(sight.log_p_assistant, abs=1e-3))
            if seen.index % 9 == 4:
                heard[-1] += [check.yes for check in engine.run(session.check_all(["Is it?", "Is it red?", "No?"]))]
                heard[-1].append(engine.run(session.answer("What is it?")).token_ids)
        assert session.usage.num_evictions > 0
        engine.close()
    assert heard[0] == heard[1]


def test_many_checks_in_one_pass_are_each_as_if_alone(engine: Engine) -> None:
    session = engine.open_session(small_settings())
    engine.run(session.see(frame(picture(0), 0, 0.0)))
    questions = [f"Is it {word}?" for word in ("red", "a very large and blue circle on the left", "so", "no", "4")]
    passes: list[int] = []
    forward = engine._forward

    def counted(requests: Any) -> Any:
        passes.append(sum(request.num_rows for request in requests))
        return forward(requests)

    engine._forward = counted  # type: ignore[method-assign]
    before = session.usage
    together = engine.run(session.check_all(questions))
    (num_rows,) = passes
    alone = [engine.run(session.check(question)) for question in questions]
    num_alike = len(engine._runtime.codec.encode("<|im_start|>user\nIs it"))
    assert num_rows <= sum(passes[1:]) - (len(questions) - 1) * num_alike, "what they all begin with is computed once"
    assert [check.yes for check in together] == [check.yes for check in alone]
    assert [check.log_odds for check in together] == pytest.approx([check.log_odds for check in alone], abs=1e-4)
    assert engine.run(session.check_all([])) == [] and session.usage == before
    many = engine.run(session.check_all(questions * 8))
    assert [check.log_odds for check in many] == pytest.approx([check.log_odds for check in alone] * 8, abs=1e-4)
    assert session.usage == before
