"""The commands that score, check, measure and train models. Heavy modules are imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assistant.commands.model_options import DEVICE, DTYPE, THREADS
from assistant.commands.terminal import as_json_line, clear_errors, is_terminal, options_given
from assistant.errors import ConfigError


def evaluate(
    seeds: Annotated[
        str, typer.Option(help="Seeds of the rendered scenes, as A-B. Training never uses seeds below 1000000.")
    ] = "0-49",
    noise: Annotated[
        float | None,
        typer.Option(help="Standard deviation of every scene's sensor noise, grey levels; mixed by default."),
    ] = None,
    families: Annotated[
        str, typer.Option(help="Kinds of events in the scenes, among shapes,motion,light,view.")
    ] = "shapes,motion,light,view",
    seconds: Annotated[float, typer.Option(help="Length of a scene, seconds.")] = 60.0,
    what: Annotated[
        str, typer.Option(help="What to measure, among triggers,yesno,answers,obedience,floors,long,quiet.")
    ] = "all",
    quiet_hours: Annotated[
        float, typer.Option(min=0.0, help="Hours of scenes without events, to count false remarks.")
    ] = 3.0,
    rules: Annotated[
        bool,
        typer.Option(
            "--rules", help="Score the alerts of rules instead of remarks and answers; with --clips on clips."
        ),
    ] = False,
    clips: Annotated[
        Path | None, typer.Option(help="Score remarks on the clips of this folder, which its events.json labels.")
    ] = None,
    planted: Annotated[
        str | None,
        typer.Option(help="With --clips: seeds A-B of covered lenses, cuts and darkenings added to the clips."),
    ] = None,
    footage: Annotated[
        Path | None,
        typer.Option(help="Score the words of remarks on this folder's clips against the facts in its events.json."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="A published benchmark: videomme, mvbench, charades-sta or docvqa; needs --data.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With --task: folder of the benchmark's data set, as published.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --task: ask only this many questions, the first.")
    ] = None,
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name.")] = "embedded",
    talkative: Annotated[
        float, typer.Option(help="How readily the assistant speaks: above 0 more often, below 0 less often.")
    ] = 0.0,
    plot: Annotated[
        Path | None, typer.Option(help="Plot the first scene's speaking score over time into this PNG file.")
    ] = None,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
    threads: Annotated[int | None, THREADS] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the scores as one JSON object.")] = False,
) -> None:
    """Score the assistant's remarks and answers on scenes or clips, or a checkpoint on a published benchmark."""
    with clear_errors():
        if footage is not None and (clips is not None or task is not None):
            raise ConfigError("--footage: it cannot be combined with --clips or --task; leave those out, or run twice")
        if (task is None) != (data is None):
            raise ConfigError("--task and --data: a benchmark needs the folder of its data set; give both options")
        from assistant.commands.setup import engine_of
        from assistant.config.app import load_config
        from assistant.evaluation.benchmarks.run import run_task, task_named
        from assistant.evaluation.report import (
            ScenePlan,
            chosen_sections,
            chosen_seeds,
            run_clips,
            run_footage,
            run_scenes,
            scene_settings,
            score_rules,
            score_rules_on_clips,
        )

        settings = scene_settings(families, noise, seconds)
        scenes = ScenePlan(chosen_seeds(seeds), settings, chosen_sections(what), quiet_hours, talkative, plot)
        if task is not None:
            task_named(task)
        wanted = load_config(None, {"model": options_given(name=model, device=device, dtype=dtype, threads=threads)})
        engine = engine_of(wanted.model)
        if task is not None and data is not None:
            values, table = run_task(engine, task, data, limit=limit, progress=is_terminal())
        elif footage is not None:
            values, table = run_footage(engine, footage, talkative, progress=is_terminal())
        elif clips is not None:
            plants = chosen_seeds(planted, "--planted") if planted else ()
            if rules:
                values, table = score_rules_on_clips(engine, clips, plants)
            else:
                values, table = run_clips(engine, clips, talkative, plants)
        elif rules:
            values, table = score_rules(engine, scenes, progress=is_terminal())
        else:
            values, table = run_scenes(engine, scenes, progress=is_terminal())
        print(as_json_line(values) if json else table)


def calibrate(
    folder: Annotated[
        Path, typer.Argument(help="A checkpoint folder; the calibration is written to its stream_config.json.")
    ],
    seeds: Annotated[
        str, typer.Option(help="Seeds of the rendered scenes, as A-B; use none that are evaluated.")
    ] = "2000000-2000039",
    seconds: Annotated[float, typer.Option(help="Length of a scene, seconds.")] = 40.0,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Calibrate the score by which a checkpoint decides to speak, on rendered scenes; print its reliability curve."""
    with clear_errors():
        from assistant.commands.setup import engine_of
        from assistant.config.app import load_config
        from assistant.evaluation.calibration import NotTrained, reliability_as_table, write_calibration, write_refusal
        from assistant.evaluation.calibration import calibrate as run_calibration
        from assistant.evaluation.report import chosen_seeds, scene_settings

        settings = scene_settings("shapes,motion,light,view", None, seconds)
        wanted = load_config(
            None, {"model": options_given(name=str(folder), device=device, dtype=dtype, threads=threads)}
        )
        engine = engine_of(wanted.model)
        try:
            platt, curve, reason = run_calibration(engine, chosen_seeds(seeds), settings)
        except NotTrained as error:
            raise write_refusal(engine.checkpoint.folder, str(error)) from None
        write_calibration(engine.checkpoint.folder, platt, reason)
        print(f"trained: {reason}")
        print(f"scale {platt.scale:.3f}, shift {platt.shift:.3f}\n{reliability_as_table(curve)}")


def verify(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder with stream_*.safetensors cases.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Check the session code against reference cases: masks, logits and greedy continuations."""
    with clear_errors():
        from models.verify import verify_folder

        report = verify_folder(folder)
        print(as_json_line(report.as_dict()) if json else report.as_table())
        if not report.passed:
            raise typer.Exit(1)


def bench(
    rows: Annotated[str, typer.Option(help="Rows to measure, separated by commas; all by default.")] = "all",
    rounds: Annotated[int, typer.Option(help="How often a row and its baseline take turns.")] = 5,
    seconds: Annotated[float, typer.Option(help="About how long each row may measure, seconds.")] = 20.0,
    clips: Annotated[
        Path | None, typer.Option(help="Folder of more clips to measure on; the variable CLIPS_DIR by default.")
    ] = None,
    random_weights: Annotated[
        str | None,
        typer.Option(help="Measure random weights of a released size on CUDA instead: 2b or 7b; tiny on any machine."),
    ] = None,
    device: Annotated[str, typer.Option(help="With --random-weights: auto, cpu, cuda or cuda:1.")] = "auto",
    plots: Annotated[
        Path | None, typer.Option(help="Folder for plots: a frame against cameras, against frames seen, in parts.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list with one object for each row.")] = False,
) -> None:
    """Measure how fast this machine runs the assistant, each figure against a baseline from the same run."""
    with clear_errors():
        from assistant.commands.bench import run_bench
        from assistant.speed.workbench import BenchSettings

        settings = BenchSettings(rounds, seconds, device, clips, random_weights)
        run_bench(rows, settings, plots, as_json=json)


def train(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the training state and the checkpoint; training resumes from it.")
    ],
    plan: Annotated[
        Path | None,
        typer.Option(help="YAML file of training stages and data mixtures; the embedded model's by default."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this many minutes; run again to continue.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of the training process.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that render scenes.")] = 1,
    device: Annotated[str, typer.Option(help="Device to train on: cpu, cuda or auto.")] = "cpu",
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Multiply matrices in bfloat16, on machines where that is faster.")
    ] = False,
    footage: Annotated[
        Path | None,
        typer.Option(help="Folder of labelled photographs and cut-outs, for stages that teach names of real objects."),
    ] = None,
    finetune: Annotated[
        Path | None,
        typer.Option(help="Fine-tune with LoRA on this folder's clips and transcripts, instead of training."),
    ] = None,
    model: Annotated[str, typer.Option(help="With --finetune: the checkpoint to start from.")] = "embedded",
) -> None:
    """Train a small checkpoint on rendered scenes, stage by stage."""
    with clear_errors():
        if finetune is not None:
            from assistant.commands.finetune import fine_tune_on

            print(f"checkpoint: {fine_tune_on(folder, finetune, model, plan, minutes, threads)}")
            return
        from models.training.train import PLAN_PATH
        from models.training.train import train as run_training

        made = run_training(
            folder,
            plan or PLAN_PATH,
            footage=footage,
            minutes=minutes,
            threads=threads,
            workers=workers,
            device=device,
            bf16=bf16,
            progress=is_terminal(),
        )
        print(f"checkpoint: {made}")
