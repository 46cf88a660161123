"""Training examples: scenes rendered from seeds, pruned, and given remarks and questions by a mixture. Data workers run
this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoint.loader import Checkpoint
from models.eviction import WindowSettings
from models.groundtruth.instructions import judged
from models.groundtruth.questions_before import BEFORE
from models.groundtruth.remarks import DIRECTIONS
from models.session.tokenizer import StreamTokenizer
from models.training.attached import asked_with_pictures
from models.training.cell_targets import CELL_SIZES, UNSURE, cell_labels
from models.training.copy_targets import Spelling, with_copies
from models.training.evidence_targets import Words, with_looks, with_matches
from models.training.examples import ExampleBuilder, StreamExample, Turn
from models.training.history_targets import HISTORY_SIZES, token_labels
from models.training.movers import NAMED_YES_NO, Movers, kinds_of
from models.training.noisy_remarks import following, mistimed, omitted
from streaming.difffp.live import CellGrid
from streaming.scenes.photographs import photographs_in
from streaming.scenes.scenario import EventKind, Family, SceneSettings
from streaming.scenes.scenery import COLOURS, SHAPES, USUAL_GROUNDS, Ground
from streaming.scenes.source import Scene

FIRST_TRAINING_SEED = 1_000_000
"""Smaller seeds are reserved for evaluation and never trained on."""
VIEW_SIZES = ((224, 140), (224, 140), (196, 112), (168, 112), (140, 140), (112, 168), (280, 160))
SIDES = ("left", "centre", "right")
_PRESENT = (*COLOURS, *SHAPES)
_EDGES = (*SIDES, "top", "bottom")
STATE_SIZES = (
    *(len(EventKind) + 1, 4, *[2] * 6, *[2] * len(_PRESENT), 2, 2, 2),
    *(len(COLOURS), len(SHAPES), len(_EDGES), len(DIRECTIONS), len(COLOURS)),
)
"""Number of answers to each question about the scene's state."""
_VIEW = slice(8 + len(_PRESENT), 11 + len(_PRESENT))
_EVENT = slice(11 + len(_PRESENT), None)
_DRAWS_OF_A_QUESTION = 12
"""Most kinds and moments that are tried for one question."""
_TOLD_KINDS = (*BEFORE, "is_there", "is_covered", "is_dark", "is_blurred")
"""Kinds of questions that remarks alone can answer."""
_ASKED_OFTENER = {"what_at": 5.0, "count_entered": 3.0}
"""Factors on the probability of kinds that are learnt last, for questions on forks."""
_QUIET_H264_SHARE = 0.35
_BRIEF_S = (3.0, 8.0)
"""Shortest and longest scene that ends with a question about attached pictures, which is independent of the scene."""
_NEAR_S = 8.0
"""In windows that evict early, questions rest on events of this many last seconds."""


def first_scene_seed(seed: int) -> int:
    """The first scene's seed for a training seed; different training seeds are ten million scenes apart."""
    return FIRST_TRAINING_SEED + seed * 10_000_000


@dataclass(frozen=True, slots=True)
class Mixture:
    """The distribution from which a training stage draws its scenes."""

    families: tuple[str, ...] = ("shapes", "motion")
    duration_s: tuple[float, float] = (12.0, 24.0)
    questions_per_scene: float = 2.0
    """Mean number of questions in scenes with questions."""
    asked_share: float = 1.0
    """Share of scenes with questions."""
    asides_per_scene: float = 0.0
    """Mean number of questions on forks of a scene, which leave no trace in it."""
    judged_per_scene: float = 0.0
    """Mean number of questions whether a standing instruction allows a remark, also on forks."""
    quiet_share: float = 0.0
    """Share of scenes without any event that deserves a remark, but with more distractions than usual."""
    question_kinds: tuple[str, ...] = ()
    """Kinds of questions to ask; empty for all."""
    attached_share: float = 0.0
    """Share of scenes that end with a question about pictures or a clip."""
    h264_share: float = 0.0
    """Share of scenes whose pictures are encoded with H.264 and decoded again."""
    batch_size: int | None = None
    """Examples per step; `None` for the plan's number."""
    new_per_batch: int | None = None
    """New examples per step; `None` for the plan's number."""
    told_share: float = 0.0
    """Share of scenes without pictures, which consist of remarks and questions that the remarks answer."""
    stills: bool = False
    """Whether to draw unrelated still pictures for the encoder alone, instead of scenes."""
    instructed_share: float = 0.0
    """Share of scenes with a standing instruction."""
    reticent_share: float = 0.0
    """Share of scenes in which half of the remarks are left out, and those on the view are replaced by wrong ones as
    often, so that answers rest on what was seen."""
    mistimed_share: float = 0.0
    """Share of the remarks in scenes without pictures that come one sampled frame early or late, as live remarks
    sometimes do, so that questions about a second still find them."""
    noise_sigma: tuple[float, float] = (0.0, 4.0)
    evicted_share: float = 0.1
    """Share of scenes with a window so small that eviction removes parts of them."""
    fps: tuple[float, ...] = (2.0,)
    scene: dict[str, Any] = field(default_factory=dict)
    """Further scene settings."""
    close_share: float = 0.75
    """Share of still lifes that are close-ups of one plain shape."""
    grounds: tuple[str, ...] = ()
    """Kinds of background; empty for the usual ones."""
    named_share: float = 0.0
    """With `stills`: share of the groups that are photographs and cut-outs of real things, asked for their names."""
    movers_share: float = 0.0
    """Share of scenes with real things, cut out of the `footage` folder, on its photographs."""
    footage: str = ""
    """Folder of labelled photographs and cut-outs for `named_share` and `movers_share`."""
    held_sources: tuple[str, ...] = ()
    """Sources in that folder that are held out entirely, in addition to a tenth of the others."""
    view_sizes: tuple[tuple[int, int], ...] = ()
    """Widths and heights of the views; empty for the usual ones."""
    photographs: str = ""
    """Folder of photographs for backgrounds of the kind photo."""

    @property
    def ground_kinds(self) -> tuple[Ground, ...]:
        """`grounds` in the form of scene settings."""
        return tuple(Ground(name) for name in self.grounds) or USUAL_GROUNDS

    @property
    def photograph_files(self) -> tuple[str, ...]:
        """`photographs` in the form of scene settings."""
        return photographs_in(Path(self.photographs)) if self.photographs else ()


@dataclass(frozen=True, slots=True)
class TrainingScene:
    """One example with the labels of the auxiliary heads."""

    stream: StreamExample
    cell_labels: np.ndarray
    """int8 `[num_frames, num_cells, 11]` by `cell_targets.CELL_SIZES`."""
    state_labels: np.ndarray
    """int8 `[num_frames, 28]` by `STATE_SIZES`: what has just happened (0 for nothing); number of things in view; for
    left, centre and right whether a thing is there and whether one moves there; for each colour and each shape whether
    it is in view; whether the view is covered, dark, blurred; and of the thing to which something has just happened,
    the colour, shape, side, direction and new colour. `UNSURE` where the truth is uncertain."""
    token_labels: np.ndarray
    """int8 `[num_visual, 4]` by `history_targets.HISTORY_SIZES`, for each visual token of the stream."""
    number: int = -1
    """Number of the example in its mixture."""


class SceneMaker:
    """Makes example number i of a mixture; the same i always gives the same example."""

    def __init__(self, checkpoint: Checkpoint, mixture: Mixture, seed: int) -> None:
        self._codec = StreamTokenizer(checkpoint)
        self._words = Words.of(self._codec)
        self._spelling = Spelling.of(self._codec, checkpoint.special)
        self._special = checkpoint.special
        self._settings = checkpoint.stream
        self._vision = checkpoint.vision
        self._mixture = mixture
        self._seed = seed
        self._first_seed = first_scene_seed(seed)
        self._photographs = mixture.photograph_files
        share, held = mixture.movers_share, mixture.held_sources
        self._movers = Movers(mixture.footage, share, held) if share else None

    def make(self, index: int) -> TrainingScene:
        """Render, prune and label one scene."""
        mixture = self._mixture
        rng = np.random.default_rng([self._seed, index])
        if mixture.told_share and rng.random() < mixture.told_share:
            return self._told(rng, index)
        fps = float(rng.choice(mixture.fps))
        quiet = rng.random() < mixture.quiet_share
        with_pictures = rng.random() < mixture.attached_share
        settings = self._scene_settings(rng, fps, quiet=quiet, brief=with_pictures)
        scene = Scene(self._first_seed + index, settings)
        times = np.arange(rng.uniform(0, 1 / fps), scene.duration_s, 1 / fps)
        pictures = [(float(time_s), scene.frame(float(time_s))) for time_s in times]
        if rng.random() < max(mixture.h264_share, _QUIET_H264_SHARE * quiet):
            pictures = self._encoded(pictures, fps, int(rng.integers(22, 36)), int(rng.integers(8, 60)))
        grid = self._grid(pictures[0][1])
        instruction, turns = self._remarks(scene, rng)
        evicted = rng.random() < mixture.evicted_share
        builder = self._builder(rng, scene.duration_s, grid, evicted)
        if rng.random() < mixture.asked_share:
            turns += self._questions(scene, rng, times, builder.shown_offset_s - float(times[0]), evicted)
        turns.sort(key=lambda turn: turn.time_s)
        asides = self._asides(scene, rng, times, builder.shown_offset_s - float(times[0]), evicted=evicted)
        seed = self._first_seed + 5_000_000 + 4 * index
        pictured = asked_with_pictures(scene, rng, seed) if with_pictures else None
        turns += [pictured.turn] if pictured else []
        example = builder.build(pictures, grid, turns, instruction=instruction, asides=asides)
        labels = [
            cell_labels(scene.scenario, pictures[number][0], frame, grid)
            for number, frame in zip(example.frame_numbers, example.frames, strict=True)
        ]
        posed = [*asides, *(pictured.turn.further if pictured else ())]
        posed = posed[len(posed) - len(example.asides.after) :]  # evictions removed some of the first
        attached = pictured.labels(example) if pictured else []
        cells, image = np.stack(labels), self._special.image
        example = with_looks(example, cells, [turn.look for turn in posed], image, attached)
        example = with_matches(example, cells, [turn.alone for turn in posed], self._words, image, attached)
        example = with_copies(example, self._spelling)
        states = np.stack([self._state(scene, pictures[number][0], fps) for number in example.frame_numbers])
        return TrainingScene(example, cells, states, self._histories(scene, times, example, fps), index)

    def _told(self, rng: np.random.Generator, index: int) -> TrainingScene:
        """A scene of remarks without pictures, up to its first cut, because remarks do not tell what is in view after a
        cut."""
        fps = float(rng.choice(self._mixture.fps))
        settings = replace(self._scene_settings(rng, fps), opening=0)
        scene = Scene(self._first_seed + index, settings)
        times = np.arange(rng.uniform(0, 1 / fps), scene.duration_s, 1 / fps)
        cuts = [event.time_s for event in scene.truth if event.kind is EventKind.CUT]
        times = times[times < min(cuts, default=scene.duration_s) - 1.0] if cuts and cuts[0] > 4.0 else times
        _, turns = self._remarks(scene, rng)
        turns = [replace(turn, unsaid=False, instead=None) for turn in turns if turn.time_s <= times[-1]]
        turns, moved = mistimed(turns, times, self._mixture.mistimed_share, rng)
        builder = self._builder(rng, scene.duration_s, CellGrid(rows=1, cols=1, merge=2, patch_px=14), evicted=False)
        asides = self._asides(scene, rng, times, builder.shown_offset_s - float(times[0]), kinds=_TOLD_KINDS)
        asides = [aside for aside in (following(aside, moved) for aside in asides) if aside is not None]
        speak = np.array([turn.time_s for turn in turns])
        heard = np.zeros(len(times), dtype=bool)
        for later in (0, 1):
            heard[(np.searchsorted(times, speak) + later).clip(max=len(times) - 1)] = True
        heard |= rng.random(len(times)) < rng.uniform(0.1, 0.5)
        heard[-1] = True
        example = builder.tell(times[heard].tolist(), turns, begin_s=float(times[0]), asides=asides)
        cells = np.zeros((0, 1, len(CELL_SIZES)), dtype=np.int8)
        example = with_matches(example, cells, [turn.alone for turn in asides], self._words, self._special.image)
        example = with_copies(example, self._spelling)
        states, histories = (np.zeros((0, len(sizes)), dtype=np.int8) for sizes in (STATE_SIZES, HISTORY_SIZES))
        return TrainingScene(example, cells, states, histories, index)

    @staticmethod
    def _histories(scene: Scene, times: np.ndarray, example: StreamExample, fps: float) -> np.ndarray:
        which, cells = np.divmod(example.picks, example.grid.num_cells)
        made = []
        for place, number in enumerate(example.frame_numbers):
            before_s = float(times[number - 1]) if number else None
            kept = cells[which == place]
            made.append(token_labels(scene, float(times[number]), before_s, kept, example.grid, fps))
        return np.concatenate(made)

    def _scene_settings(
        self, rng: np.random.Generator, fps: float, *, quiet: bool = False, brief: bool = False
    ) -> SceneSettings:
        duration_s = _BRIEF_S if brief else self._mixture.duration_s
        scene_options: dict[str, Any] = dict(self._mixture.scene)
        if quiet:
            scene_options |= {"still_probability": 1.0, "distractor_probability": 0.5, "artefact_probability": 0.5}
        settings = SceneSettings(
            duration_s=float(rng.uniform(*duration_s)),
            fps=fps,
            view_sizes=self._mixture.view_sizes or VIEW_SIZES,
            families=frozenset(Family(name) for name in self._mixture.families),
            grounds=self._mixture.ground_kinds,
            photographs=self._photographs,
            noise_sigma=self._mixture.noise_sigma,
            **scene_options,
        )
        return self._movers.settings(rng, settings) if self._movers is not None else settings

    @staticmethod
    def _encoded(
        pictures: list[tuple[float, np.ndarray]], fps: float, crf: int, gop: int
    ) -> list[tuple[float, np.ndarray]]:
        from streaming.sources.encoded import through_h264

        decoded = through_h264([picture for _, picture in pictures], fps, crf=crf, gop=gop)
        return [(time_s, picture) for (time_s, _), picture in zip(pictures, decoded, strict=True)]

    def _grid(self, picture: np.ndarray) -> CellGrid:
        return self._vision.fit_grid(picture.shape[1], picture.shape[0], max_cells=self._settings.max_cells)

    def _builder(self, rng: np.random.Generator, duration_s: float, grid: CellGrid, evicted: bool) -> ExampleBuilder:
        window = self._settings.window
        if evicted:
            low = int(rng.integers(8 * grid.num_cells, 20 * grid.num_cells))
            window = WindowSettings(low, low + low // 4, 160, 220)
        latest = max(self._settings.max_shown_time_s - duration_s, 0.0)
        offset_s = 0.0 if rng.random() < 0.4 else round(float(rng.uniform(0.0, latest)), 1)
        return ExampleBuilder(
            self._codec,
            self._special,
            self._vision,
            window,
            shown_offset_s=offset_s,
            picture_tokens=self._settings.window.vision_low // 4,
        )

    def _remarks(self, scene: Scene, rng: np.random.Generator) -> tuple[str | None, list[Turn]]:
        """The remarks of a scene, and the standing instruction where one is drawn."""
        from models.groundtruth.scenes import instructions, remarks

        owed = remarks(scene)
        instruction = None
        if rng.random() < self._mixture.instructed_share:
            instruction, allowed = instructions(rng, scene)
            owed = [remark for remark in owed if allowed(remark)]
        turns = [Turn(remark.speak_s, remark.text) for remark in owed]
        if self._mixture.reticent_share and rng.random() < self._mixture.reticent_share:
            turns = [omitted(turn, rng) if rng.random() < 0.5 else turn for turn in turns]
        return instruction, turns

    def _questions(
        self, scene: Scene, rng: np.random.Generator, times: np.ndarray, shown_minus_scene_s: float, evicted: bool
    ) -> list[Turn]:
        """Questions at sampled frames whose pictures hold the answers; kinds are equally probable where moments
        allow."""
        from models.groundtruth.questions import NOW_KINDS, PAST_KINDS

        kinds = self._mixture.question_kinds or kinds_of(scene, (*NOW_KINDS, *PAST_KINDS))
        shown_time = _shown_time(times, shown_minus_scene_s)
        turns = []
        for _ in range(rng.poisson(self._mixture.questions_per_scene)):
            turns.append(_posed(scene, rng, times[times >= 1.0], kinds, shown_time, _NEAR_S if evicted else None))
        return [turn for turn in turns if turn is not None]

    def _asides(
        self,
        scene: Scene,
        rng: np.random.Generator,
        times: np.ndarray,
        shown_minus_scene_s: float,
        *,
        evicted: bool = False,
        kinds: Sequence[str] = (),
    ) -> list[Turn]:
        """Questions for forks, two in five of them yes/no questions; at the end of the scene where tokens were evicted.

        Kinds that few moments allow are drawn more often.
        """
        from models.groundtruth.questions import NOW_KINDS, PAST_KINDS, odds_of
        from models.groundtruth.wording import YES_NO_KINDS

        shown_time = _shown_time(times, shown_minus_scene_s)
        moments = times[-1:] if evicted else times[times >= 1.0]
        asides = []
        for _ in range(rng.poisson(self._mixture.asides_per_scene * (0.3 if evicted else 1.0))):
            if kinds:
                chosen = tuple(kinds)
            elif rng.random() < 0.4:
                chosen = kinds_of(scene, YES_NO_KINDS, NAMED_YES_NO)
            else:
                chosen = kinds_of(scene, (*NOW_KINDS, *PAST_KINDS))
            reach_s = _NEAR_S if evicted else None
            odds = odds_of(chosen, _ASKED_OFTENER)
            asides.append(_posed(scene, rng, moments, chosen, shown_time, reach_s, odds))
        for _ in range(rng.poisson(self._mixture.judged_per_scene)):
            question, passes = judged(rng)
            asides.append(Turn(float(rng.choice(moments)), "Yes." if passes else "No.", question, alone=True))
        return sorted((turn for turn in asides if turn is not None), key=lambda turn: turn.time_s)

    @staticmethod
    def _state(scene: Scene, time_s: float, fps: float) -> np.ndarray:
        labels = np.full(len(STATE_SIZES), UNSURE, dtype=np.int8)
        names = (list(COLOURS), SHAPES, _EDGES, DIRECTIONS, list(COLOURS))
        recent = [event for event in scene.truth if 0 <= time_s - event.visible_s < 1 / fps]
        begun = any(event.time_s <= time_s < event.visible_s for event in scene.truth)
        if recent or not begun:
            labels[0] = list(EventKind).index(recent[-1].kind) + 1 if recent else 0
        if recent:
            slots = (getattr(recent[-1], name) for name in ("colour", "shape", "side", "direction", "new_colour"))
            labels[_EVENT] = [among.index(v) if v else UNSURE for v, among in zip(slots, names, strict=True)]
        state = scene.state(time_s)
        things = [thing for thing in state.things if thing.share_in > 0.5]
        if len(things) == len(state.things):
            labels[1] = min(len(things), 3)
        for place, side in enumerate(SIDES):
            there = [thing for thing in things if thing.side == side]
            if all(thing.side_sure for thing in things):
                labels[2 + place] = bool(there)
                labels[5 + place] = any(thing.moving for thing in there)
        plain = not (state.covered or state.dark or state.blurred)
        if plain and len(things) == len(state.things):
            looks = {name for thing in things for name in (thing.colour, thing.shape)}
            labels[8 : 8 + len(_PRESENT)] = [name in looks for name in _PRESENT]
        if not begun:
            labels[_VIEW] = state.covered, state.dark, state.blurred
        if state.covered:
            labels[[*range(1, 8), _VIEW.stop - 2, _VIEW.stop - 1]] = UNSURE
        return labels


def _shown_time(times: np.ndarray, shown_minus_scene_s: float) -> Callable[[float], float]:
    """A function from a time of the scene to the time shown with the first sampled frame at or after it."""

    def shown(t_s: float) -> float:
        return float(times[min(int(np.searchsorted(times, t_s)), len(times) - 1)]) + shown_minus_scene_s

    return shown


def _posed(
    scene: Scene,
    rng: np.random.Generator,
    moments: np.ndarray,
    kinds: Sequence[str],
    shown_time: Callable[[float], float],
    reach_s: float | None,
    odds: np.ndarray | None = None,
) -> Turn | None:
    """A question of one of the kinds at one of the moments; `None` where no draw gave one.

    odds: probabilities of the kinds, summing to one; `None` for equal ones.
    """
    from models.groundtruth.questions import questions

    for _ in range(_DRAWS_OF_A_QUESTION):
        kind = str(rng.choice(kinds, p=odds))
        time_s = float(rng.choice(moments))
        since_s = max(time_s - reach_s, 0.0) if reach_s is not None else 0.0
        asked = questions(scene, time_s, rng, shown_time=shown_time, kinds=(kind,), since_s=since_s)
        if asked is not None:
            return Turn(time_s, asked.answer, asked.question, rests_on=asked.rests_on, look=asked.look)
    return None
