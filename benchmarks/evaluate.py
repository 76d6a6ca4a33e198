"""`refiner evaluate`: let a generator and a critic refine together, and print accuracy per turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agents.generator import Generator
from agents.models import load_model
from benchmarks.original import NAMES
from benchmarks.statistics import interval
from data import DataOptions, content_hash, load_splits
from refiner_env.critics import resolve_critic
from refiner_env.decoding import DECODING, frozen, told
from refiner_env.errors import OptionError, RefinerError
from refiner_env.options import Parser, add_options, option, read_options, section
from refiner_env.records import write_episodes
from refiner_env.referees import STOPS
from refiner_env.tasks import resolve_task
from trainers.evaluation import turn_figures
from trainers.progress import quiet_libraries
from trainers.rollout import CRITIC_TIMEOUT, ON_CRITIC_FAILURE, play


@dataclass(frozen=True)
class EvaluateOptions:
    """A generator with a critic on one split."""

    task: str = option("MathWordProblem", "the task")
    generator: str = option("", "a folder written by refiner train or refiner compare, or a Hugging Face id")
    critic: str = option("oracle", "a critic's name, a folder, package.module:object or file.py:object")
    turns: int = option(3, "turns at most", low=1, high=16)
    stop: str = option("critic", "who ends an episode; an oracle's stop counts as gold", choices=STOPS)
    history: int = option(1, "last turns that the generator reads, as it was trained", low=1, high=16)
    on_critic_failure: str = ON_CRITIC_FAILURE
    critic_timeout: float = CRITIC_TIMEOUT
    decoding: str = DECODING
    split: str = option("test", "which problems", choices=("train", "dev", "test"))
    data: DataOptions = section(DataOptions, "problems")


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = Parser(
        prog="refiner evaluate",
        usage="%(prog)s --generator MODEL [--critic CRITIC] [OPTIONS]",
        description="Let a generator and a critic refine together (greedy decoding) and print accuracy per turn.",
    )
    parser.add_argument("--out", type=Path, default=None, help="also write the figures as JSON lines to this file")
    parser.add_argument(
        "--episodes", type=Path, default=None, help="also write every episode to it, for refiner replay"
    )
    add_options(parser, EvaluateOptions(), names=NAMES["evaluate"].same)
    NAMES["evaluate"].add(parser)
    args = parser.parse_args(argv)
    options = read_options(EvaluateOptions(), vars(args))
    if not options.generator:
        raise OptionError(
            "refiner evaluate needs --generator: a folder written by refiner train, or a Hugging Face id."
        )
    for name, path in (("--out", args.out), ("--episodes", args.episodes)):
        if path and path.exists():
            raise RefinerError(f"{name} {path} exists: choose another file, or delete it.")
    quiet_libraries()
    evaluate(options, args.out, Console(markup=False, emoji=False), args.episodes)
    return 0


def evaluate(options: EvaluateOptions, out: Path | None, console: Console, record: Path | None = None) -> None:
    """Print, and write if asked, the figures after each turn; and write the episodes if asked."""
    task = resolve_task(options.task)
    with frozen(options.decoding) as critics:
        critic = resolve_critic(options.critic, task)
    splits = load_splits(task, options.data)
    problems = splits.parts[options.split]
    if not problems:
        raise OptionError(f"The {options.split} split of {splits.name!r} is empty: choose another --split.")
    with frozen(options.decoding) as generators:
        agent = Generator(load_model(options.generator))
    episodes = play(
        agent,
        task,
        problems,
        critic=critic,
        turns=options.turns,
        stop=options.stop,
        history=options.history,
        on_critic_failure=options.on_critic_failure,
        critic_timeout=options.critic_timeout or None,
    )
    if record:
        write_episodes(record, task.name, options.critic, episodes, stop=options.stop)
    by_gold = options.stop == "gold" or (options.stop == "critic" and critic.uses_gold)
    title = f"{options.generator} with {options.critic} on {len(problems)} {options.split} problems of {splits.name}"
    failed = next((t.feedback.failure for episode in episodes for t in episode.turns if t.feedback.failure), "")
    headings = ("T", "equivalent % [95%]", "exact %", "answer %", "fixed", "broken", "turns")
    table = Table(*headings, *(["critic failures"] if failed else []), title=title)
    labels = {
        "generator": options.generator,
        "critic": options.critic,
        "stop": "gold" if by_gold else options.stop,
        "split": options.split,
        "data": splits.name,
        "data_hash": content_hash(splits),
        "decoding": ", ".join(generators),
        "critic_decoding": ", ".join(critics),
    }
    lines = []
    for turn in range(1, options.turns + 1):
        f = turn_figures(task, episodes, turn)
        share = interval([f.ir_equivalent], f.n)
        table.add_row(
            str(turn),
            f"{100 * share.mean:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]",
            f"{100 * f.ir_exact:.1f}",
            f"{100 * f.answer_acc:.1f}",
            str(f.fixed),
            str(f.broken),
            f"{f.mean_turns:.2f}",
            *([str(f.critic_failures)] if failed else []),
        )
        lines.append(json.dumps({**labels, **asdict(f)}))
    console.print(table)
    console.print(told(generators | critics), highlight=False, soft_wrap=True)
    if failed:
        console.print(f"The critic failed first: {failed}", highlight=False, markup=False, soft_wrap=True)
    if by_gold:
        console.print("Episodes stop by gold: an upper bound, as gold is not there at inference.")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
