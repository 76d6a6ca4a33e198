"""`refiner data`: what a source or a file holds, what was done to it, and its splits and critic rows in a folder."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from data.audit import FileAudit, FilesAudit, audit_files, short_path
from data.build import BuildOptions, build
from data.corpus import Splits, content_hash
from data.sources import DataOptions, load_splits
from data.storage import save_splits
from refiner_env.errors import DataError, OptionError, UnknownNameError
from refiner_env.options import Parser, add_options, read_options
from refiner_env.tasks import program as ir
from refiner_env.tasks import resolve_task
from refiner_env.types import Fault, Problem, Task

_STEP = re.compile(r"#[0-9]+:")
MESSAGES = 10
"""Messages shown; the rest stand in the saved audit."""
WIDE = 140
"""Columns of an audit that is not printed to a terminal."""


def main(argv: list[str]) -> int:
    """Print the audit of a source and save its splits where asked to, or run a subcommand. Returns its status.

    Raises:
        RefinerError: an option out of range, an unknown source, unreadable files or a folder in use.
    """
    if argv and not argv[0].startswith("-"):
        if argv[0] not in COMMANDS:
            raise UnknownNameError("command of refiner data", argv[0], COMMANDS)
        return COMMANDS[argv[0]](argv[1:])
    parser = _parser(
        "refiner data",
        "[--source NAME] [--out FOLDER] [OPTIONS]\n       refiner data audit|build|show ...",
        "Read a source, print what is in it and what was repaired, and save its splits.",
    )
    _add_output(parser, "save the splits there (default: only print)")
    args = parser.parse_args(argv)
    _, splits = _load(args)
    console = _console()
    _print_report(splits, console)
    if args.out:
        console.print(f"\nSaved to {save_splits(splits, args.out, overwrite=args.overwrite)}", soft_wrap=True)
    return 0


def _audit(argv: list[str]) -> int:
    parser = Parser(
        prog="refiner data audit",
        description="Say what files hold, what is wrong with them, and which texts they share.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files in any known format, or hf:ID[[:CONFIG]:SPLIT]")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if anything is found")
    parser.add_argument("--out", metavar="FILE", help="write the audit there too, as JSON")
    args = parser.parse_args(argv)
    audit = audit_files(args.paths)
    console = _console()
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    _print_audit(audit, console)
    if args.out:
        record = {"clean": audit.clean, **asdict(audit)}
        for overlap, entry in zip(audit.overlaps, record["overlaps"], strict=True):
            entry["warning"] = overlap.warning
        try:
            Path(args.out).write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")
        except OSError as error:
            raise DataError(f"The audit cannot be written to {args.out}: {error}.") from None
        console.print(f"\nWritten to {args.out}", soft_wrap=True)
    return int(args.strict and not audit.clean)


def _build(argv: list[str]) -> int:
    parser = _parser(
        "refiner data build",
        "--source NAME --out FOLDER [OPTIONS]",
        "Write a source's repaired problems, and rows for a critic: right and perturbed hypotheses with feedback.",
    )
    add_options(parser, BuildOptions())
    _add_output(parser, "write FOLDER/problems and FOLDER/critic")
    args = parser.parse_args(argv)
    options = read_options(BuildOptions(), vars(args))
    if not args.out:
        raise OptionError("--out is not given: refiner data build needs a folder to write to.")
    task, splits = _load(args)
    built = build(task, splits, args.out, options, seed=args.seed or 0, overwrite=args.overwrite)
    console = _console()
    table = Table("", *splits.parts, title="critic rows", title_justify="left")
    table.add_row("problems", *(f"{len(part):,}" for part in splits.parts.values()))
    table.add_row("rows", *(f"{built.rows[name]:,}" for name in splits.parts), end_section=True)
    for kind in sorted(set().union(*built.counts.values())):
        table.add_row(kind, *(f"{built.counts[name][kind]:,}" for name in splits.parts))
    console.print(table)
    if built.without_gold:
        console.print(f"{built.without_gold:,} problems have no gold: there are no rows of them.")
    console.print(f"Problems: {built.problems}\nCritic rows: {built.critic}", soft_wrap=True)
    return 0


def _show(argv: list[str]) -> int:
    parser = _parser(
        "refiner data show", "[--source NAME] [--n N] [OPTIONS]", "Print problems, gold, and what goes wrong with it."
    )
    parser.add_argument("--n", type=int, default=3, help="problems (default: %(default)s)")
    parser.add_argument("--split", default="train", help="train, dev or test (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.n < 1:
        raise OptionError(f"--n is {args.n}: it must be at least 1.")
    task, splits = _load(args)
    if args.split not in splits.parts:
        raise UnknownNameError("split", args.split, splits.parts)
    console = _console()
    console.print(f"{splits.name}, {args.split}\n", style="bold")
    for problem in splits.parts[args.split][: args.n]:
        _print_problem(task, problem, console)
    return 0


COMMANDS = {"audit": _audit, "build": _build, "show": _show}


def _parser(prog: str, usage: str, description: str) -> Parser:
    """A parser with the options that every command on a source has."""
    parser = Parser(prog=prog, usage=f"{prog} {usage}", description=description)
    parser.add_argument("--task", default="MathWordProblem", help="the task (default: %(default)s)")
    add_options(parser, DataOptions())
    return parser


def _add_output(parser: Parser, help: str) -> None:
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FOLDER", help=help)
    output.add_argument(
        "--overwrite", action="store_true", help="replace what was saved there before (default: refuse)"
    )


def _load(args: Any) -> tuple[Task[Any], Splits]:
    task = resolve_task(args.task)
    return task, load_splits(task, read_options(DataOptions(), vars(args)))


def _console() -> Console:
    return Console(highlight=False, markup=False)


# ---------------------------------------------------------------------------------------------------- a source


def _print_report(splits: Splits, console: Console) -> None:
    audit = splits.audit
    rows = Table("source " + splits.name, "rows", title_justify="left")
    for label, count in (
        ("read", audit.rows),
        ("kept", audit.kept),
        ("skipped", audit.skipped),
        *([("of these, texts of dev or test", audit.overlaps)] if audit.overlaps else []),
        ("gold disagrees with answer", audit.disagreements),
        *((f"repaired: {kind}", n) for kind, n in sorted(audit.repairs.items())),
    ):
        rows.add_row(label, f"{count:,}")
    console.print(rows)
    _print_messages(audit.messages, "in audit.json with --out", console)
    console.print(_contents(splits))
    console.print(f"content hash {content_hash(splits)}")
    for problem in [part[0] for part in splits.parts.values() if part]:
        console.print(f"\n{problem.uid}: {problem.text}", soft_wrap=True)
        _print_gold(problem, console)


def _print_messages(messages: Sequence[str], rest: str, console: Console) -> None:
    for message in messages[:MESSAGES]:
        console.print(message, soft_wrap=True)
    if len(messages) > MESSAGES:
        console.print(f"... and {len(messages) - MESSAGES:,} more, {rest}")


def _print_gold(problem: Problem, console: Console) -> None:
    for key, value in problem.metadata.items():
        console.print(f"  {key:<7} {value}", soft_wrap=True)
    console.print(f"  gold    {problem.gold}\n  answer  {problem.answer}", soft_wrap=True)


def _contents(splits: Splits) -> Table:
    """One column per split: its size, its gold by number of steps, and the operators where gold is a program."""
    table = Table("", *splits.parts)
    steps = [Counter(_steps(p) for p in part) for part in splits.parts.values()]
    operators = [Counter(o for p in part for o in _operators(p)) for part in splits.parts.values()]
    table.add_row("problems", *(f"{len(part):,}" for part in splits.parts.values()), end_section=True)
    lengths = sorted(set().union(*steps))
    if lengths != [0]:
        for n in lengths:
            label = f"{n} step{'' if n == 1 else 's'}"
            table.add_row(label, *(f"{c[n]:,}" for c in steps), end_section=n == lengths[-1])
    if any(operators):
        for operator in ir.OPERATORS:
            table.add_row(operator, *(f"{c[operator]:,}" for c in operators))
    return table


def _steps(problem: Problem) -> int:
    """How many `#k:` gold has: none where the task writes no steps."""
    return len(_STEP.findall(problem.gold or ""))


def _operators(problem: Problem) -> list[str]:
    program = ir.parse(problem.gold or "")
    return [step.operator for step in program.steps] if isinstance(program, ir.Program) else []


# ------------------------------------------------------------------------------------------------------ audit


def _print_audit(audit: FilesAudit, console: Console) -> None:
    counted = ("rows", "kept", "duplicates", "wrong labels", "unreadable")
    table = Table(
        "",
        Column("file", overflow="fold"),
        Column("format", overflow="fold"),
        *(Column(name, justify="right", overflow="fold") for name in counted),
        Column("spellings", overflow="fold"),
        Column("repairs", overflow="fold"),
    )
    for number, file in enumerate(audit.files, start=1):
        counts = (file.rows, file.kept, file.duplicates, file.wrong_labels, file.unreadable)
        table.add_row(
            str(number),
            short_path(file.path),
            file.format,
            *(f"{count:,}" for count in counts),
            _listed(file.dialects),
            _listed(file.repairs),
        )
    console.print(table)
    if len(audit.files) > 1:
        console.print(_matrix(audit))
    for overlap in audit.overlaps:
        console.print(f"\n{overlap.warning}", soft_wrap=True)
        for example in overlap.examples:
            console.print(f"  {example}", soft_wrap=True)
    for file in audit.files:
        _print_findings(file, console)
    console.print("\nNothing was found." if audit.clean else "")


def _matrix(audit: FilesAudit) -> Table:
    """Texts that two files share, by the files' numbers."""
    numbers = [str(n) for n in range(1, 1 + len(audit.files))]
    table = Table("shared texts", *(Column(n, justify="right") for n in numbers))
    shared = {frozenset((o.first, o.second)): o.texts for o in audit.overlaps}
    for number, row in zip(numbers, audit.files, strict=True):
        cells = (
            "-" if row is other else f"{shared.get(frozenset((row.path, other.path)), 0):,}" for other in audit.files
        )
        table.add_row(number, *cells)
    return table


def _print_findings(file: FileAudit, console: Console) -> None:
    if file.clean:
        return
    console.print(f"\n{file.path}", soft_wrap=True)
    for kind, places in file.examples.items():
        console.print(f"  {kind.replace('_', ' ')}: {'; '.join(places)}", soft_wrap=True)
    _print_messages(file.messages, "in the file of --out", console)


def _listed(counts: Any) -> str:
    return "\n".join(f"{kind} {n:,}" for kind, n in counts.items())


# ------------------------------------------------------------------------------------------------------- show


def _print_problem(task: Task[Any], problem: Problem, console: Console) -> None:
    console.print(Text(problem.uid, style="bold"))
    console.print(problem.text, soft_wrap=True)
    _print_gold(problem, console)
    if problem.gold is not None:
        for kind in task.perturbations:
            wrong = task.perturb(problem, random.Random(f"show/{problem.uid}/{kind}"), kind)
            _print_faults(task, kind, wrong, task.diagnose(problem, wrong), console)
    console.print()


def _print_faults(task: Task[Any], kind: str, wrong: str, faults: Sequence[Fault], console: Console) -> None:
    """A wrong hypothesis with its faulty spans in colour; each fault names its text too."""
    marked = Text(wrong)
    for fault in faults:
        if fault.span:
            marked.stylize("bold red", *fault.span)
    console.print(Text.assemble("  ", (kind, "yellow"), ": ", marked), soft_wrap=True)
    for fault in faults:
        where = f" at {wrong[slice(*fault.span)]!r}" if fault.span else ""
        console.print(f"    {fault.kind}{where}: {task.describe([fault])}", soft_wrap=True)
