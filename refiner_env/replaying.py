"""`refiner replay`: other critics review recorded episodes, and where they disagree is shown."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from refiner_env.agreement import CriticFigures, agree
from refiner_env.critics import Boundary, resolve_critic
from refiner_env.critics.human import HumanCritic
from refiner_env.errors import DataError, RefinerError
from refiner_env.options import Parser, add_options, option, read_options
from refiner_env.records import Record, feedback_row, read_episodes
from refiner_env.rendering import marked, problem_text, review_text, terminal, visible
from refiner_env.tasks import resolve_task
from refiner_env.types import Feedback, Problem

RECORDED = "recorded"
"""The critic of the record, in tables and output."""


@dataclass(frozen=True)
class ReplayOptions:
    """How it is reviewed and shown."""

    batch_size: int = option(64, "hypotheses in one call of a critic", low=1)
    show: int = option(5, "disagreements that are printed", low=0)


@dataclass(frozen=True)
class Review:
    """One recorded hypothesis and what each critic says of it."""

    task: str
    problem: Problem
    turn: int
    """1-based."""
    hypothesis: str
    feedback: tuple[Feedback, ...]
    """The recorded one first."""
    right: Feedback | None
    """What the oracle says, where gold is there."""

    @property
    def disputed(self) -> bool:
        """Not all say the same: another verdict, other faults, or no feedback at all."""
        return not all(agree(self.feedback[0], other) for other in self.feedback[1:])

    @property
    def divided(self) -> bool:
        """Some accept, some do not."""
        return len({feedback.accepted for feedback in self.feedback}) > 1


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = Parser(
        prog="refiner replay",
        usage="%(prog)s FILE --critic CRITIC [--critic CRITIC ...] [--out FILE] [OPTIONS]",
        description="Let other critics review the hypotheses of recorded episodes (refiner play --record, refiner "
        "evaluate --episodes, refiner compare) and show where they disagree with the recorded one and each other.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="recorded episodes")
    parser.add_argument("--critic", action="append", required=True, help="who reviews them; may be given several times")
    parser.add_argument("--out", type=Path, help="write all disagreements to this file (JSON lines)")
    add_options(parser, ReplayOptions())
    args = parser.parse_args(argv)
    options = read_options(ReplayOptions(), vars(args))
    if args.out and args.out.exists():
        raise RefinerError(f"--out {args.out} exists: choose another file, or delete it.")
    records = read_episodes(args.file, lambda message: print(f"refiner: {message}", file=sys.stderr))
    names = [RECORDED, *dict.fromkeys(args.critic)]
    total, reviews = sum(len(r.episode.turns) for r in records), list[Review]()
    console = terminal()
    try:
        for batch in replay(records, names[1:], options.batch_size):
            reviews += batch
    except KeyboardInterrupt:
        console.print(f"\nStopped after {len(reviews)} of {total} hypotheses.")
    if not reviews:
        raise DataError(f"Nothing of {args.file} is reviewed: its episodes hold {total} hypotheses.")
    if args.out:
        _write(args.out, names, reviews)
    _report(console, records, names, reviews, options.show)
    return 0


def replay(records: Sequence[Record], critics: Sequence[str], batch_size: int) -> Iterator[list[Review]]:
    """Every recorded hypothesis with the feedback of the recorded critic and of these, in batches.

    Gold is hidden from critics that do not use it. A failure of a critic is its feedback. A person is asked one by one,
    so that nothing typed is lost when they stop.

    Raises:
        RefinerError: a task or critic is not known, or not to be had.
    """
    tasks = [resolve_task(name) for name in dict.fromkeys(record.task for record in records)]
    boundaries = [[Boundary(resolve_critic(c, task), on_failure="record") for c in critics] for task in tasks]
    for task, asked in zip(tasks, boundaries, strict=True):
        episodes = [record.episode for record in records if record.task == task.name]
        rows = [(e.problem, i, turn) for e in episodes for i, turn in enumerate(e.turns, 1)]
        size = 1 if any(isinstance(boundary.critic, HumanCritic) for boundary in asked) else batch_size
        for start in range(0, len(rows), size):
            problems, places, turns = zip(*rows[start : start + size], strict=True)
            hypotheses = [turn.hypothesis for turn in turns]
            said = [[turn.feedback for turn in turns], *(boundary.ask(problems, hypotheses) for boundary in asked)]
            yield [
                Review(
                    task.name,
                    problem,
                    place,
                    hypothesis,
                    tuple(feedback),
                    None if problem.gold is None else task.feedback(task.diagnose(problem, hypothesis)),
                )
                for problem, place, hypothesis, *feedback in zip(problems, places, hypotheses, *said, strict=True)
            ]


def _report(
    console: Console, records: Sequence[Record], names: Sequence[str], reviews: Sequence[Review], show: int
) -> None:
    by = ", ".join(dict.fromkeys(record.critic for record in records))
    right = sum(bool(review.right and review.right.accepted) for review in reviews)
    counts = f"{_count(len(records), 'episode')}, {_count(len(reviews), 'hypothesis', 'hypotheses')}"
    console.print(f"{counts}, {right} of them right; recorded with {visible(by)}.")
    disputed = [review for review in reviews if review.disputed]
    divided = [review for review in disputed if review.divided]
    for table in (_quality(names, reviews), _agreement(names, reviews)):
        console.print(table, soft_wrap=False)
    console.print(f"{_count(len(disputed), 'disagreement')}, {len(divided)} of them on the verdict.")
    for review in [*divided, *(review for review in disputed if not review.divided)][:show]:
        console.print(_shown(review, names))


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or f'{one}s'}"


def _quality(names: Sequence[str], reviews: Sequence[Review]) -> Table:
    """Each critic against gold, where gold is there."""
    table = Table(_named("critic"), "accepts", "precision %", "recall %", "exact %", "failures", title="Against gold")
    for k, name in enumerate(names):
        said = [review.feedback[k] for review in reviews]
        judged = [(review.feedback[k], review.right) for review in reviews if review.right]
        shares = ["-", "-", "-"]
        if judged:
            f = CriticFigures.of([feedback for feedback, _ in judged], [right for _, right in judged])
            known = ((f.accept_precision, f.accepted), (f.accept_recall, f.right), (f.exact, 1))
            shares = [f"{100 * share:.1f}" if of else "-" for share, of in known]
        accepts, failures = sum(f.accepted for f in said), sum(bool(f.failure) for f in said)
        table.add_row(Text(name), str(accepts), *shares, str(failures))
    return table


def _agreement(names: Sequence[str], reviews: Sequence[Review]) -> Table:
    """Each two critics with one another, where neither failed."""
    title = "Two critics: both accept, both reject, only one accepts, same verdict and faults"
    table = Table(_named("A"), _named("B"), "accept", "reject", "only A", "only B", "same", title=title)
    for a, b in combinations(range(len(names)), 2):
        said = [(review.feedback[a], review.feedback[b]) for review in reviews]
        both = [(x, y) for x, y in said if not (x.failure or y.failure)]
        verdicts = Counter((x.accepted, y.accepted) for x, y in both)
        counts = [verdicts[v] for v in ((True, True), (False, False), (True, False), (False, True))]
        table.add_row(Text(names[a]), Text(names[b]), *map(str, counts), str(sum(agree(x, y) for x, y in both)))
    return table


def _named(header: str) -> Column:
    return Column(header, overflow="fold")


def _shown(review: Review, names: Sequence[str]) -> Text:
    """One disagreement: the problem, the hypothesis, and what each critic says, gold's verdict last."""
    said = list(zip(names, review.feedback, strict=True)) + ([("gold", review.right)] if review.right else [])
    faults = review.right.faults if review.right else ()
    parts = [
        Text(f"\n{review.task}  {visible(review.problem.uid)}", "bold"),
        problem_text(review.problem.text),
        Text(f"[{review.turn}] ") + marked(review.hypothesis, faults),
        *(Text(f"  {name}\n") + review_text(feedback) for name, feedback in said),
    ]
    return Text("\n").join(parts)


def _write(path: Path, names: Sequence[str], reviews: Sequence[Review]) -> None:
    """All disagreements, one a line."""
    rows = [
        {
            "task": review.task,
            "uid": review.problem.uid,
            "text": review.problem.text,
            "turn": review.turn,
            "hypothesis": review.hypothesis,
            "right": review.right and review.right.accepted,
            "said": [{"critic": n, **feedback_row(f)} for n, f in zip(names, review.feedback, strict=True)],
        }
        for review in reviews
        if review.disputed
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise DataError(f"--out {path} cannot be written: {error.strerror}. Choose another file.") from None
