"""SVAMP and its training set (MAWPS + ASDiv-A) as CSV files: rows -> problems with linear programs.

Files: github.com/arkilpatel/SVAMP, data/mawps-asdiv-a_svamp. Questions have placeholders `numberN`,
their values stand in `Numbers`, and `Equation` is a prefix expression such as `- * number0 number1 100.0`.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import Literal, get_args

from data.corpus import Audit, Corpus
from data.tables import MalformedError, read_rows
from refiner_env.errors import DataError, UnknownNameError
from refiner_env.tasks import program as ir
from refiner_env.types import Fault, ParseFailure, Problem

OnMalformed = Literal["skip", "raise"]
OnDisagreement = Literal["keep", "drop"]
COLUMNS = ("Question", "Numbers", "Equation", "Answer")
WHERE_TO_GET = (
    "Expected there: train.csv (MAWPS + ASDiv-A) and dev.csv (SVAMP) of github.com/arkilpatel/SVAMP, "
    "folder data/mawps-asdiv-a_svamp; put them into $REFINER_DATA/svamp/."
)

ROUNDING = 0.01
"""Largest relative difference between an executed value and a stated answer that is a rounding of it."""
EXACT = 1e-6
"""Absolute difference that is no more than floating-point error."""
_DONE = {"keep": "kept", "drop": "dropped"}
_OPERATORS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}


def svamp_folder(root: Path | None = None) -> Path:
    """The folder with train.csv and dev.csv: `svamp` under `root`, or else under $REFINER_DATA.

    Raises:
        DataError: neither is given.
    """
    base = root or os.environ.get("REFINER_DATA")
    if not base:
        raise DataError(
            f"Looked for $REFINER_DATA/svamp/train.csv, but the environment variable REFINER_DATA is not set. "
            f"{WHERE_TO_GET}"
        )
    return Path(base) / "svamp"


def read_svamp_csv(
    path: str | os.PathLike[str],
    *,
    on_malformed: OnMalformed = "skip",
    on_disagreement: OnDisagreement = "keep",
) -> Corpus:
    """Read one file. Problem uids are `svamp/<file stem>/<row>`, with rows counted from 0.

    An answer that is only a rounding of what the equation gives becomes that value, flagged in
    `metadata["repairs"]`. Lines in messages are physical lines: the last one of a row.

    Args:
        on_malformed: rows that cannot be read are skipped and counted, or raised.
        on_disagreement: rows whose equation gives another answer are kept with the stated one, or dropped.

    Raises:
        DataError: the file is missing, unreadable or has another header; or a malformed row, if asked for.
    """
    for name, value, known in (
        ("on_malformed", on_malformed, get_args(OnMalformed)),
        ("on_disagreement", on_disagreement, get_args(OnDisagreement)),
    ):
        if value not in known:
            raise UnknownNameError(f"value of {name}", value, known)
    path = Path(path)
    problems: list[Problem] = []
    messages: list[str] = []
    rows = disagreements = 0
    for rows, (line, row) in enumerate(read_rows(path, COLUMNS, WHERE_TO_GET), start=1):
        try:
            problem, disagreement = _problem(row, f"svamp/{path.stem}/{rows - 1}")
        except MalformedError as error:
            if on_malformed == "raise":
                raise DataError(f"{path}, line {line}, {error}.") from None
            messages.append(f"{path}, line {line}, {error}; skipped.")
            continue
        if disagreement:
            disagreements += 1
            messages.append(f"{path}, line {line}, {disagreement}; {_DONE[on_disagreement]}.")
        if not disagreement or on_disagreement == "keep":
            problems.append(problem)
    repairs = Counter(kind for p in problems for kind in p.metadata.get("repairs", ()))
    report = Audit(rows, len(problems), rows - len(problems), disagreements, dict(repairs), tuple(messages))
    return Corpus(tuple(problems), report)


def _problem(row: dict[str, str] | MalformedError, uid: str) -> tuple[Problem, str]:
    """The problem of a row, and how its equation and its stated answer disagree ("" if they do not)."""
    if isinstance(row, MalformedError):
        raise row
    numbers = tuple(_cell_float(row, "Numbers", token) for token in row["Numbers"].split())
    if not numbers:
        raise MalformedError.cell("Numbers", row["Numbers"], "there are no numbers")
    text, stated = _question(row["Question"], len(numbers)), _cell_float(row, "Answer", row["Answer"])
    gold, value = _gold(row["Equation"], numbers)
    metadata: dict[str, object] = {"numbers": numbers}
    if not math.isclose(value, stated, rel_tol=ROUNDING, abs_tol=EXACT):
        return Problem(uid, text, gold, stated, metadata), (
            f"equation {row['Equation']!r} gives {value}, the stated answer is {stated}"
        )
    if not math.isclose(value, stated, rel_tol=1e-9, abs_tol=EXACT):
        stated, metadata["repairs"] = value, ("rounded_answer",)
    return Problem(uid, text, gold, stated, metadata), ""


def _question(text: str, n_numbers: int) -> str:
    words = " ".join(text.split())
    if not words:
        raise MalformedError.cell("Question", text, "it is empty")
    for index in re.findall(r"\bnumber([0-9]{1,9})\b", words):
        if int(index) >= n_numbers:
            raise MalformedError.cell("Question", text, f"number{index} is out of range, there are {n_numbers} numbers")
    return words


def _gold(equation: str, numbers: tuple[float, ...]) -> tuple[str, float]:
    """The program of an equation as text, and its value."""
    try:
        program = prefix_to_program(equation, len(numbers))
    except ValueError as error:
        raise MalformedError.cell("Equation", equation, str(error)) from None
    gold = ir.render(program)
    if isinstance(failure := ir.parse(gold), ParseFailure):
        raise MalformedError.cell("Equation", equation, f"no program of the task ({failure.message})")
    if isinstance(value := ir.execute(program, numbers), Fault):
        raise MalformedError.cell("Equation", equation, f"it has no value ({value.kind})")
    return gold, value


def prefix_to_program(equation: str, n_numbers: int) -> ir.Program:
    """A prefix expression as steps in post-order: those of the left operand before those of the right.

    Raises:
        ValueError: the expression is no such program; the message says why.
    """
    steps: list[ir.Step] = []
    pending: list[tuple[str, list[ir.Operand]]] = []  # operators that still lack operands
    result: ir.Operand | None = None
    for token in equation.split():
        if result is not None:
            raise ValueError(f"too long: nothing may follow the complete expression, found {token!r}")
        if token in _OPERATORS:
            pending.append((_OPERATORS[token], []))
            continue
        operand = _leaf(token, n_numbers)
        while pending:
            operator, operands = pending[-1]
            operands.append(operand)
            if len(operands) < 2:
                break
            pending.pop()
            steps.append(ir.Step(operator, operands[0], operands[1]))
            operand = ir.StepRef(len(steps) - 1)
        else:
            result = operand
    if result is None:
        raise ValueError("too short: an operand is missing at the end")
    return ir.Program(tuple(steps), result)


def _leaf(token: str, n_numbers: int) -> ir.Operand:
    if match := re.fullmatch(r"number([0-9]{1,9})", token):
        if int(match[1]) >= n_numbers:
            raise ValueError(f"{token} is out of range, the problem has {n_numbers} numbers")
        return ir.Number(int(match[1]))
    try:
        return ir.Constant(_finite(token))
    except ValueError:
        raise ValueError(f"{token!r} is no operator (+ - * /), numberN or constant") from None


def _cell_float(row: dict[str, str], column: str, text: str) -> float:
    try:
        return _finite(text)
    except ValueError:
        raise MalformedError.cell(column, row[column], f"{text!r} is no finite number") from None


def _finite(text: str) -> float:
    """A float that is neither infinite nor NaN."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value
