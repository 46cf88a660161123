"""The language of synthetic scenes in one place: remarks, questions, instructions, and the corpus of all of them."""

from __future__ import annotations

from collections.abc import Iterator

from models.groundtruth.instructions import Instruction, all_instructions, instructions
from models.groundtruth.questions import TrueAnswer, clip_and_image, picture_of, questions, which_image
from models.groundtruth.remarks import Remark, all_remarks, named_remarks, parse, remark_of, remarks
from models.groundtruth.wording import all_answers, all_questions


def CORPUS() -> Iterator[str]:  # noqa: N802 (the name its users know)
    """Sample sentences that contain every word of remarks, questions, answers and instructions."""
    yield from all_remarks()
    yield from named_remarks()
    yield from all_questions()
    yield from all_answers()
    yield from all_instructions()


__all__ = [
    "CORPUS",
    "TrueAnswer",
    "Instruction",
    "Remark",
    "all_remarks",
    "clip_and_image",
    "instructions",
    "parse",
    "picture_of",
    "questions",
    "remark_of",
    "remarks",
    "which_image",
]
