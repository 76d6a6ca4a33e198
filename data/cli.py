"""`refiner data`: what a source holds, what was done to it, and its splits in a folder."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from data.corpus import Splits, content_hash
from data.sources import DataOptions, load_splits
from data.storage import save_splits
from refiner_env.options import add_options, read_options
from refiner_env.tasks import TASKS
from refiner_env.tasks import program as ir
from refiner_env.types import Problem

MESSAGES = 10
"""Messages shown; the rest stand in the saved audit."""


def main(argv: list[str]) -> int:
    """Print the audit of a source and save its splits where asked to. Returns 0.

    Raises:
        RefinerError: an option out of range, an unknown source, unreadable files or a folder in use.
    """
    parser = argparse.ArgumentParser(
        prog="refiner data",
        usage="%(prog)s [--source NAME] [--out FOLDER] [OPTIONS]",
        description="Read a source, print what is in it and what was repaired, and save its splits.",
    )
    parser.add_argument("--task", default="MathWordProblem", help="the task (default: %(default)s)")
    add_options(parser, DataOptions())
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FOLDER", help="save the splits there (default: only print)")
    output.add_argument("--overwrite", action="store_true", help="replace splits saved there before (default: refuse)")
    args = parser.parse_args(argv)
    task = TASKS.resolve(args.task)()
    splits = load_splits(task, read_options(DataOptions(), vars(args)))
    console = Console(highlight=False, markup=False)
    _print_report(splits, console)
    if args.out:
        console.print(f"\nSaved to {save_splits(splits, args.out, overwrite=args.overwrite)}", soft_wrap=True)
    return 0


def _print_report(splits: Splits, console: Console) -> None:
    audit = splits.audit
    rows = Table("source " + splits.name, "rows", title_justify="left")
    for label, count in (
        ("read", audit.rows),
        ("kept", audit.kept),
        ("skipped", audit.skipped),
        ("gold disagrees with answer", audit.disagreements),
        *((f"repaired: {kind}", n) for kind, n in sorted(audit.repairs.items())),
    ):
        rows.add_row(label, f"{count:,}")
    console.print(rows)
    for message in audit.messages[:MESSAGES]:
        console.print(message, soft_wrap=True)
    if len(audit.messages) > MESSAGES:
        console.print(f"... and {len(audit.messages) - MESSAGES:,} more, in audit.json with --out")
    console.print(_contents(splits))
    console.print(f"content hash {content_hash(splits)}")
    for problem in [part[0] for part in splits.parts.values() if part]:
        console.print(f"\n{problem.uid}: {problem.text}", soft_wrap=True)
        console.print(f"  numbers {problem.metadata.get('numbers')}", soft_wrap=True)
        console.print(f"  gold    {problem.gold}\n  answer  {problem.answer}", soft_wrap=True)


def _contents(splits: Splits) -> Table:
    """One column per split: its size, its programs by number of steps, and its operators."""
    table = Table("", *splits.parts)
    programs = [_programs(part) for part in splits.parts.values()]
    steps = [Counter(len(p.steps) for p in part) for part in programs]
    operators = [Counter(s.operator for p in part for s in p.steps) for part in programs]
    table.add_row("problems", *(f"{len(part):,}" for part in splits.parts.values()), end_section=True)
    lengths = sorted(set().union(*steps))
    for n in lengths:
        table.add_row(f"{n} step{'' if n == 1 else 's'}", *(f"{c[n]:,}" for c in steps), end_section=n == lengths[-1])
    for operator in ir.OPERATORS:
        table.add_row(operator, *(f"{c[operator]:,}" for c in operators))
    return table


def _programs(problems: Sequence[Problem]) -> list[ir.Program]:
    parsed = (ir.parse(p.gold or "") for p in problems)
    return [p for p in parsed if isinstance(p, ir.Program)]
