"""`refiner critics`: critics compared on the same hypotheses: what they find, and how fast."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.caches import forget
from data import DataOptions, load_splits
from data.negatives import CriticPair, critic_pair, critic_pairs
from refiner_env.agreement import CriticFigures
from refiner_env.critics import Boundary, TimedCritic, resolve_critic
from refiner_env.decoding import DECODING, Used, frozen, told
from refiner_env.errors import DataError, OptionError, RefinerError
from refiner_env.options import Parser, add_options, option, read_options, section
from refiner_env.records import read_episodes
from refiner_env.tasks import resolve_task
from refiner_env.types import Critic, Task
from trainers.progress import quiet_libraries

HEADINGS = ("critic", "exact", "kind F1", "accept P/R", "failed", "reviews/s", "calls/s")
EXPLAINED = (
    "* sees gold. In %: feedback with exactly the oracle's faults; F1 of the kinds of fault; precision and recall of "
    "accepting. Speed: hypotheses and calls a second, {batch_size} hypotheses in a call, after a first one."
)


@dataclass(frozen=True)
class CriticsOptions:
    """Critics on the same hypotheses of one task."""

    task: str = option("MathWordProblem", "the task")
    critics: tuple[str, ...] = option(
        ("oracle", "execution", "typed", "scalar", "consensus", "noisy", "none"), "critics, named as anywhere"
    )
    right_share: float = option(0.25, "share of right hypotheses among the perturbed ones", low=0.0, high=1.0)
    batch_size: int = option(64, "hypotheses in one call", low=1)
    decoding: str = DECODING
    timeout: float = option(0.0, "seconds that one call may take; 0 for any", low=0.0)
    seed: int = option(0, "of the perturbations and of random critics", low=0)
    split: str = option("test", "which problems", choices=("train", "dev", "test"))
    data: DataOptions = section(DataOptions, "problems")


@dataclass(frozen=True)
class Line:
    """One critic in the table."""

    critic: str
    uses_gold: bool
    figures: CriticFigures
    failures: int
    """Hypotheses for which there was no feedback; they count as not accepted."""
    reviews_per_s: float
    calls_per_s: float
    failure: str = ""
    """Why it failed first."""
    decoding: str = ""
    """What decodes its models, where it has any."""


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = Parser(
        prog="refiner critics",
        usage="%(prog)s [--task TASK] [--critics CRITIC ...] [--episodes FILE] [--out FILE] [OPTIONS]",
        description="Let critics review the same hypotheses (perturbed and right ones, or recorded ones) and compare "
        "them with the oracle: exactly right feedback, kinds of fault, accepting, and speed.",
    )
    parser.add_argument("--episodes", type=Path, help="review the hypotheses of these recorded episodes instead")
    parser.add_argument("--out", type=Path, help="also write the figures to this file (JSON lines)")
    add_options(parser, CriticsOptions())
    args = parser.parse_args(argv)
    options = read_options(CriticsOptions(), vars(args))
    if args.out and args.out.exists():
        raise RefinerError(f"--out {args.out} exists: choose another file, or delete it.")
    quiet_libraries()
    task = resolve_task(options.task)
    if "human" in options.critics:
        raise OptionError("refiner critics times what it asks: let a person review with refiner replay --critic human.")
    critics: dict[str, tuple[Critic, Used]] = {}
    for name in options.critics:
        with frozen(options.decoding) as used:
            critics[name] = resolve_critic(name, task), used
    pairs = recorded(task, args.episodes) if args.episodes else perturbed(task, options)
    lines = [
        replace(review(name, critic, task, pairs, options), decoding=", ".join(used))
        for name, (critic, used) in critics.items()
    ]
    where = args.episodes or f"{options.split} problems of {options.data.source}, perturbed"
    console = Console(markup=False, emoji=False)  # names of critics may hold brackets
    console.print(_table(f"{task.name}: {len(pairs)} hypotheses ({where})", lines))
    console.print(EXPLAINED.format(batch_size=options.batch_size), highlight=False, soft_wrap=True)
    for name, (_, used) in critics.items():
        if used:
            console.print(f"{name}: {told(used)}", highlight=False, soft_wrap=True)
    for line in lines:
        if line.failure:
            console.print(f"{line.critic} failed first: {line.failure}", highlight=False, markup=False, soft_wrap=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("".join(json.dumps({"task": task.name, **asdict(line)}) + "\n" for line in lines))
    return 0


def perturbed(task: Task[Any], options: CriticsOptions) -> list[CriticPair]:
    """One perturbed or right hypothesis on each problem of a split.

    Raises:
        OptionError: the split is empty.
    """
    problems = load_splits(task, options.data).parts[options.split]
    if not problems:
        raise OptionError(f"The {options.split} split of {options.data.source!r} is empty: choose another --split.")
    return critic_pairs(task, problems, random.Random(f"critics {options.seed}"), no_hint_share=options.right_share)


def recorded(task: Task[Any], path: Path) -> list[CriticPair]:
    """Every hypothesis of recorded episodes of the task whose gold is there.

    Raises:
        DataError: there is none.
    """
    records = read_episodes(path, lambda message: print(f"refiner: {message}", file=sys.stderr))
    episodes = [r.episode for r in records if r.task == task.name and r.episode.problem.gold is not None]
    pairs = [critic_pair(task, e.problem, turn.hypothesis) for e in episodes for turn in e.turns]
    if not pairs:
        raise DataError(f"{path} holds no hypotheses of {task.name} with gold: give another --task or --episodes.")
    return pairs


def review(name: str, critic: Critic, task: Task[Any], pairs: Sequence[CriticPair], options: CriticsOptions) -> Line:
    """One critic on all pairs, in batches; the first is asked twice, so that what it has to load is not timed."""
    timed = TimedCritic(task, critic)
    boundary = Boundary(timed, "record", options.timeout or None)

    def ask(some: Sequence[CriticPair]) -> Any:
        return boundary.ask([pair.problem for pair in some], [pair.hypothesis for pair in some])

    ask(pairs[: options.batch_size])
    critic.seed(options.seed)
    forget()
    timed.calls, timed.reviews, timed.seconds = 0, 0, 0.0
    batches = [pairs[start : start + options.batch_size] for start in range(0, len(pairs), options.batch_size)]
    said = [feedback for batch in batches for feedback in ask(batch)]
    figures = CriticFigures.of(said, [task.feedback(pair.faults) for pair in pairs])
    clock = f"{type(timed).__name__} "  # the one who was asked, but not the one who failed
    failures = [feedback.failure.removeprefix(clock) for feedback in said if feedback.failure]
    seconds = timed.seconds or float("nan")
    speed = (timed.reviews / seconds, timed.calls / seconds)
    return Line(name, critic.uses_gold, figures, len(failures), *speed, failure=next(iter(failures), ""))


def _table(title: str, lines: Sequence[Line]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        left = heading == "critic"
        table.add_column(heading, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for line in lines:
        f = line.figures
        precision = f"{100 * f.accept_precision:.1f}" if f.accepted else "-"
        accepts = f"{precision}/{100 * f.accept_recall:.1f}"
        table.add_row(
            f"{line.critic}*" if line.uses_gold else line.critic,
            f"{100 * f.exact:.1f}",
            f"{100 * f.kind_f1:.1f}",
            accepts,
            str(line.failures),
            *(["-", "-"] if line.failures == f.n else [f"{line.reviews_per_s:,.0f}", f"{line.calls_per_s:,.1f}"]),
        )
    return table
