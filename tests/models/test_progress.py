"""The reported progress of loading a checkpoint."""

from __future__ import annotations

from pathlib import Path

from models.checkpoint.loader import load_checkpoint
from models.checkpoint.progress import Loading, LoadingSteps, told_download
from models.checkpoint.weights import read_headers

MIB = 2**20


def test_every_step_and_every_byte_of_the_weights_is_told(released_folder: Path) -> None:
    told: list[Loading] = []
    load_checkpoint(released_folder, device="cpu", on_loading=told.append)
    shares = [loading.share or 0.0 for loading in told]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0
    assert len(told) == 3 + len(read_headers(released_folder)), "two libraries, the weights, each tensor"
    assert told[0].doing == "importing torch" and told[-1].doing.startswith("reading the weights, ")


def test_large_weights_are_most_of_it_and_small_ones_are_not() -> None:
    for num_bytes, least, most in ((10 * MIB, 0.5, 0.8), (4300 * MIB, 0.05, 0.1)):
        told: list[Loading] = []
        steps = LoadingSteps(told.append, ("a", "b", "c"), num_bytes)
        for name in ("a", "b", "c", "weights"):
            steps.next(name)
        assert least < (told[-1].share or 0.0) < most
        steps.read(num_bytes)
        assert told[-1].share == 1.0


def test_a_download_is_told_by_its_bytes_though_its_bar_is_off() -> None:
    told: list[Loading] = []
    bar = told_download(told.append)(desc="Reconstructing (incomplete total...)", total=0, unit="B", disable=True)
    bar.update(MIB)
    bar.total = 4 * MIB
    bar.update(MIB)
    told_download(told.append)(desc="Fetching 3 files", total=3, disable=True).update(1)
    assert told == [Loading("downloading, 1 MiB", None), Loading("downloading, 2 of 4 MiB", 0.5)]
