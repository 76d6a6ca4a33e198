"""`refiner bench`: how fast episodes are played and learned from, each figure beside its floor.

Contenders take turns in one run, so that their ratios hold whatever else the machine does; docs/performance.md says
what each is.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from agents.decoding import DEFAULT
from agents.models import check_spec
from benchmarks import environment_speed, learning_speed, rollout_speed, scale
from benchmarks.rounds import Row, apart
from benchmarks.timed_models import SIZES, kept, warmed
from refiner_env.decoding import DECODERS, FOLLOWING
from refiner_env.errors import OptionError, RefinerError, UnknownNameError
from refiner_env.options import Parser, add_options, option, read_options, to_dict
from trainers.progress import Progress, quiet_libraries, say

PARTS = ("rollout", "learning", "environment", "scale")


@dataclass(frozen=True)
class BenchOptions:
    """What is timed."""

    part: tuple[str, ...] = option(("all",), "what is timed", choices=(*PARTS, "all"))
    models: tuple[str, ...] = option(
        ("1m",), f"{', '.join(SIZES)}, or models as --model of refiner train takes them; commas or spaces between"
    )
    decoding: str = option(
        DEFAULT,
        "what decodes for ours and the floor; a training step needs what follows weights",
        choices=DECODERS[1:],
    )
    rounds: int = option(3, "rounds of the contenders; the median counts", low=1)
    episodes: int = option(128, "of a rollout; of those that show scale half or a quarter", low=1)
    places: int = option(64, "sub-environments", low=1)
    turns: int = option(3, "most turns of an episode", low=1, high=16)
    batch_size: int = option(16, "problems of a training step", low=1)
    learning_turns: int = option(4, "turns of a training step", low=1, high=16)
    steps: int = option(100, "environment steps of a round", low=1)
    stream: int = option(60_000, "episodes of the stream", low=1)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = Parser(prog="refiner bench", description=(__doc__ or "").partition(": ")[2].partition("\n")[0])
    parser.add_argument("--out", type=Path, help="also write the figures to this file (JSON)")
    add_options(parser, BenchOptions(), names={"models": ["--model"]})
    args = parser.parse_args(argv)
    options = read_options(BenchOptions(), vars(args))
    names = [name for given in options.models for name in given.split(",") if name]
    if not names:
        raise OptionError(f"--models {' '.join(options.models)} names no model: give one of {', '.join(SIZES)}.")
    for name in names:
        check_spec(name)
        if re.fullmatch(r"\d+m", name) and name not in SIZES:
            raise UnknownNameError("size of a timed model", name, SIZES)
    if args.out and args.out.exists():
        raise RefinerError(f"--out {args.out} exists: choose another file, or delete it.")
    quiet_libraries()
    console = Console()
    say(console, ", ".join(f"{key} {value}" for key, value in machine().items()))
    if set(names) & set(SIZES) and not kept().exists():
        with Progress(console).stage("the model to be timed, trained once") as update:
            warmed(update)
    rows: list[Row] = []
    for part in PARTS if "all" in options.part else dict.fromkeys(options.part):
        for what, measured, tables in works(part, names, options):
            with console.status(f"{part}, {what}"):
                found = list(measured)
            rows += found
            for table in tables(found):
                console.print(table)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        whole = {"machine": machine(), "options": to_dict(options), "rows": rows}
        args.out.write_text(json.dumps(whole, indent=1) + "\n")
    return 0


Work = tuple[str, Iterable[Row], Callable[[Sequence[Row]], Iterator[Table]]]
"""(what it is, its rows when asked for, what shows them)"""


def works(part: str, names: Sequence[str], o: BenchOptions) -> Iterator[Work]:
    """The pieces of a part, one after the other."""
    shape = rollout_speed.Shape(o.episodes, o.places, o.turns, o.decoding)
    step = learning_speed.Shape(o.batch_size, o.learning_turns, o.decoding if o.decoding in FOLLOWING else DEFAULT)
    for name in names:
        if part == "rollout":
            yield name, rollout_speed.measure(name, shape, o.rounds), rollout_speed.tables
        elif part == "learning":
            yield name, learning_speed.measure(name, step, o.rounds), learning_speed.tables
        elif part == "environment":
            yield name, environment_speed.measure(name, o.places, o.steps, o.rounds), environment_speed.tables
        else:
            yield name, scale.measure(name, shape, o.rounds), scale.tables
    if part == "scale":
        yield "stream", (apart(scale.stream, o.stream) for _ in range(1)), scale.stream_tables


def machine() -> dict[str, Any]:
    """What it runs on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "GPU": gpu,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    from refiner_env.cli import main as refiner

    raise SystemExit(refiner(["bench", *sys.argv[1:]]))
