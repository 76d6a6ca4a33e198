"""`refiner compare`: train every arm on the same problems, splits, seeds and budget; print one table.

The output folder holds run.json (options, hashes, versions), results.jsonl (one row per arm, critic, stop,
turn and seed), report.md, accuracy.png, and per seed the trained models with their metrics and episodes.
Interrupted, it keeps what is finished; `--resume` goes on.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from agents.models import check_spec, files_hash
from benchmarks.arms import Row, Training, critic_quality, evaluations, rows_of
from benchmarks.folders import check_folder_options, claim
from benchmarks.presets import NAMES, CompareOptions, preset
from benchmarks.report import CRITIC_QUALITY, write_report
from data import Splits, content_hash, load_splits, require_problems
from refiner_env.critics import resolve_critic
from refiner_env.errors import DataError, RefinerError
from refiner_env.options import Parser, add_options, read_options, to_dict
from refiner_env.records import read_object, write_episodes
from refiner_env.rewards import resolve_reward
from refiner_env.tasks import TASKS, resolve_task
from refiner_env.types import Task
from trainers.checkpoints import writing
from trainers.progress import Progress, quiet_libraries, say
from trainers.refiner import check_options
from trainers.tracking import NO_TRACKING, TrackingOptions, check_trackers, tracked

PACKAGES = ("torch", "transformers", "trl", "gymnasium", "peft", "datasets", "sentencepiece", "numpy")


def main(argv: Sequence[str]) -> int:
    """The command."""
    first = Parser(prog="refiner compare", add_help=False)
    first.add_argument("--preset", default="quick")
    first.add_argument("--task", default="mwp")
    chosen = first.parse_known_args(argv)[0]
    name, defaults = chosen.preset, preset(chosen.preset, chosen.task)
    parser = Parser(
        prog="refiner compare",
        usage="%(prog)s [--preset NAME] [--out FOLDER] [OPTIONS]",
        description="Train supervised, PPO and REFINER from one warm start and compare them on held-out problems. "
        f"The defaults shown are those of the preset {name!r} for {defaults.task}; --task has others.",
    )
    parser.add_argument("--preset", default="quick", help=f"{' or '.join(NAMES)} (default: quick)")
    parser.add_argument("--out", type=Path, default=None, help="output folder (default: runs/PRESET)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run in the folder")
    parser.add_argument("--overwrite", action="store_true", help="delete what is in the folder first")
    add_options(parser, defaults)
    add_options(parser, TrackingOptions(), title="tracking")
    args = parser.parse_args(argv)
    check_folder_options(args.resume, args.overwrite)
    options = read_options(defaults, vars(args))
    options = replace(options, task=defaults.task)  # however it was spelled
    short = TASKS.short(resolve_task(defaults.task).name)
    folder = args.out or Path("runs") / (name if short == "mwp" else f"{name}-{short}")
    quiet_libraries()
    compare(
        options,
        folder,
        Console(markup=False, emoji=False),
        name,
        resume=args.resume,
        overwrite=args.overwrite,
        tracking=read_options(TrackingOptions(), vars(args)),
    )
    return 0


def compare(
    options: CompareOptions,
    folder: Path,
    console: Console,
    preset_name: str = "custom",
    *,
    resume: bool = False,
    overwrite: bool = False,
    tracking: TrackingOptions = NO_TRACKING,
) -> list[dict[str, Any]]:
    """Run or resume a comparison.

    Returns:
        The rows of results.jsonl.

    Raises:
        RefinerError: the folder is in use or belongs to another run, or the options do not fit.
    """
    task = resolve_task(options.task)
    check_trackers(tracking)
    resolve_reward(options.ppo.reward)
    for critic in options.critics:
        if critic != "learned":  # that one is trained here
            resolve_critic(critic, task)
    for spec in (options.generator_model, options.critic_model):
        check_spec(spec)
    check_options(options.refiner, options.warm_start.share, "--refiner", "--warm-start.share")
    splits = load_splits(task, options.data)
    require_problems(task, splits)
    header = {
        "preset": preset_name,
        "options": to_dict(options),
        "options_hash": _hash(to_dict(options)),
        "data_hash": content_hash(splits),
        "models_hash": [files_hash(spec) for spec in (options.generator_model, options.critic_model)],
        "data_name": splits.name,
        "data_sizes": {name: len(part) for name, part in splits.parts.items()},
        "commit": _commit(),
        "device": _device(),
        "versions": {p: importlib.metadata.version(p) for p in PACKAGES} | {"python": platform.python_version()},
    }
    _claim(folder, header, options, resume=resume, overwrite=overwrite)
    results = folder / "results.jsonl"
    try:
        with tracked(tracking, folder, header, console) as track:
            _run(options, task, splits, folder, Progress(console, track=track))
    except KeyboardInterrupt:
        say(console, f"\nInterrupted. Finished parts are in {folder}; the same command with --resume goes on.")
        raise
    finally:
        rows = read_rows(results)
        if rows:
            write_report(folder, rows, console)
    return rows


def _run(options: CompareOptions, task: Task[Any], splits: Splits, folder: Path, progress: Progress) -> None:
    results = folder / "results.jsonl"
    rows = read_rows(results)
    for seed in options.seeds:
        seed_folder = folder / f"seed-{seed}"
        models = Training(options, task, splits, seed, seed_folder, progress).run()
        todo = {(e.arm, e.critic, e.stop): e for e in evaluations(options, task, splits, seed, models)}
        turns = Counter(_evaluation(r) for r in rows if r["seed"] == seed)
        done = {key for key, e in todo.items() if turns[key] == e.turns}
        rows = [r for r in rows if r["seed"] != seed or _evaluation(r) in done]
        quality = seed_folder / CRITIC_QUALITY
        with progress.stage(f"seed {seed} evaluation") as update:
            if not quality.exists():
                figures = critic_quality(options, task, splits, seed, models)
                quality.write_text(json.dumps({name: asdict(f) for name, f in figures.items()}, indent=2) + "\n")
            for i, (key, evaluation) in enumerate(todo.items()):
                if key not in done:
                    new, episodes = rows_of(evaluation, options, task, seed, models)
                    name = f"episodes-{evaluation.arm}-{file_name(evaluation.critic)}-{evaluation.stop}.jsonl"
                    path = seed_folder / name
                    write_episodes(path, task.name, evaluation.critic, episodes, stop=evaluation.stop)
                    rows += map(asdict, new)
                    whole = results.with_suffix(".tmp")  # renamed when complete: an evaluation is there or not at all
                    whole.write_text("".join(json.dumps(row) + "\n" for row in rows))
                    whole.replace(results)
                update((i + 1) / len(todo), arm=evaluation.arm, critic=evaluation.critic)


def file_name(critic: str) -> str:
    """A critic's name, which may be a path or a call, as part of a file's name; another for every critic."""
    slug = re.sub(r"[^\w.-]+", "-", critic).strip("-")
    return slug if slug == critic else f"{slug}-{_hash(critic)[:8]}"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a results file; none where there is no file. A last line that breaks off is left out.

    Raises:
        DataError: another line is no row.
    """
    *lines, rest = path.read_text(errors="replace").split("\n") if path.exists() else [""]
    rows = []
    for number, line in enumerate([*lines, rest], 1):
        try:
            rows += [asdict(Row(**json.loads(line)))] if line else []
        except (ValueError, TypeError):
            if number <= len(lines):
                advice = "Remove it for --resume to do it again, or start with --overwrite."
                raise DataError(f"{path}, line {number} is no row of results: {line[:60]!r}. {advice}") from None
    return rows


def _evaluation(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["arm"], row["critic"], row["stop"]


def _claim(folder: Path, header: dict[str, Any], options: CompareOptions, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ours, or make sure that it holds the same run."""
    marker = folder / "run.json"
    if not (resume and marker.exists()):
        advice = "--resume to go on, --overwrite to delete it"
        claim(folder, marker.name, overwrite=overwrite, advice=advice, reads=options)
        with writing(folder, "Choose another --out."):
            marker.write_text(json.dumps(header, indent=2) + "\n")
        return
    before = {"models_hash": header["models_hash"], **read_object(marker)}  # earlier versions wrote none
    for key in ("options_hash", "data_hash", "models_hash", "versions", "device"):
        if before.get(key) != header[key]:
            what = key.removesuffix("_hash")
            advice = "resume it as it was, --overwrite to delete it, or choose another --out"
            raise RefinerError(f"{folder} was run with other {what}: {advice}.")


def _device() -> str:
    """The GPU's name, or the number of CPU threads."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _commit() -> str:
    """The checkout's commit, with `+changes` where files differ from it; `unknown` outside a checkout."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
