"""Linear programs: the intermediate representation of math word problems.

    #0: add ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS

A program is a list of steps; each applies one operator to two operands, and an operand is a number of
the problem, an earlier step or a constant. The last step gives the answer. A bare operand
(`number0 | EOS`) is a program without steps. The parser accepts every dialect of REFINER's files
(`substract`, `<END>`, `END>`, no end mark, any spacing and case); `render` writes the one above.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import add, mul, sub, truediv

from refiner_env.types import Fault, ParseFailure

OPERATORS = ("add", "subtract", "multiply", "divide")
COMMUTATIVE = frozenset({"add", "multiply"})
SLOTS = ("first", "second")

MAX_CHARS = 2_000
"""Longer texts are a `too_long` fault: no program of any corpus has more than 400 characters."""
MAX_STEPS = 32

Span = tuple[int, int]
_NOWHERE: Span = (0, 0)


@dataclass(frozen=True, slots=True)
class Number:
    """`numberN`: the N-th number of the problem, counted from 0."""

    index: int

    def __str__(self) -> str:
        return f"number{self.index}"


@dataclass(frozen=True, slots=True)
class StepRef:
    """`#k`: the result of step k."""

    step: int

    def __str__(self) -> str:
        return f"#{self.step}"


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that the problem does not state, e.g. 12.0 months."""

    value: float

    def __str__(self) -> str:
        return repr(self.value)


Operand = Number | StepRef | Constant


@dataclass(frozen=True, slots=True)
class Step:
    """`operator ( first, second )`. Spans say where it stood in the parsed text and do not compare."""

    operator: str
    first: Operand
    second: Operand
    span: Span = field(default=_NOWHERE, compare=False)
    slot_spans: tuple[Span, Span, Span] = field(default=(_NOWHERE,) * 3, compare=False)

    @property
    def operands(self) -> tuple[Operand, Operand]:
        return self.first, self.second

    def operand(self, slot: str) -> Operand:
        """The operand in slot `first` or `second`."""
        return self.first if slot == "first" else self.second

    def with_operand(self, slot: str, operand: Operand) -> Step:
        """The same step with another operand in slot `first` or `second`."""
        return replace(self, first=operand) if slot == "first" else replace(self, second=operand)

    def flipped(self) -> Step:
        """The same step with its operands swapped."""
        return replace(self, first=self.second, second=self.first)


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in order. `result` is the last step, or a bare operand where there are no steps."""

    steps: tuple[Step, ...]
    result: Operand

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Program:
        """The program whose answer is its last step."""
        return cls(tuple(steps), StepRef(len(steps) - 1))


def render(program: Program) -> str:
    """The canonical text."""
    parts = [f"#{i}: {s.operator} ( {s.first}, {s.second} )" for i, s in enumerate(program.steps)]
    return " | ".join([*(parts or [str(program.result)]), "EOS"])


# ---------------------------------------------------------------------------------------------- parsing

_TOKEN = re.compile(
    r"\s*(?:(?P<end><END>|END>|EOS\b)|(?P<number>number[0-9]{1,4}\b)|(?P<step>\#[0-9]{1,4}\b)"
    r"|(?P<constant>-?[0-9]{1,16}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?\b)"
    r"|(?P<word>[a-z]+\b)|(?P<mark>[():,|]))",
    re.IGNORECASE,
)
_SPELLING = {name: name for name in OPERATORS} | {"substract": "subtract"}


class _SyntaxError(Exception):
    def __init__(self, message: str, span: Span) -> None:
        super().__init__(message)
        self.failure = ParseFailure("syntax", message, span)


class _Reader:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text, self.position = text, 0
        self.advance()

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.position)
        if match and match.lastgroup:
            self.kind, self.span = match.lastgroup, match.span(match.lastgroup)
            self.token, self.position = match[match.lastgroup], match.end()
            return
        start = self.position + len(self.text[self.position :]) - len(self.text[self.position :].lstrip())
        self.kind = "nothing" if start >= len(self.text) else "unknown"
        self.token = "the end" if self.kind == "nothing" else self.text[start : start + 12]
        self.span = (start, min(start + len(self.token), len(self.text)))

    def take(self, expected: str, *kinds: str, mark: str = "") -> tuple[str, Span]:
        if self.kind not in kinds or (mark and self.token != mark):
            raise _SyntaxError(f"expected {expected}, found {self.token!r}", self.span)
        token, span = self.token, self.span
        self.advance()
        return token, span

    def operand(self) -> tuple[Operand, Span]:
        kind = self.kind
        token, span = self.take("a number, a step or a constant", "number", "step", "constant")
        if kind == "number":
            return Number(int(token[len("number") :])), span
        if kind == "step":
            return StepRef(int(token[1:])), span
        if math.isinf(value := float(token)):
            raise _SyntaxError(f"expected a finite constant, found {token!r}", span)
        return Constant(value), span

    def step(self, index: int) -> Step:
        label, (start, _) = self.take(f"#{index}:", "step")
        if int(label[1:]) != index:
            raise _SyntaxError(f"expected #{index}:, found {label!r}", (start, start + len(label)))
        self.take("':'", "mark", mark=":")
        word, operator_span = self.take("an operator", "word")
        if word.lower() not in _SPELLING:
            raise _SyntaxError(f"expected an operator, found {word!r}", operator_span)
        self.take("'('", "mark", mark="(")
        first, first_span = self.operand()
        self.take("','", "mark", mark=",")
        second, second_span = self.operand()
        _, (_, end) = self.take("')'", "mark", mark=")")
        spans = (operator_span, first_span, second_span)
        return Step(_SPELLING[word.lower()], first, second, (start, end), spans)

    def program(self) -> Program:
        if self.kind in ("number", "constant"):
            bare, _ = self.operand()
            self.finish()
            return Program((), bare)
        steps = [self.step(0)]
        while self.token == "|":
            self.advance()
            if self.kind != "step":
                break
            if len(steps) == MAX_STEPS:
                raise _SyntaxError(f"more than {MAX_STEPS} steps", self.span)
            steps.append(self.step(len(steps)))
        self.finish()
        return Program.of(steps)

    def finish(self) -> None:
        if self.token == "|":
            self.advance()
        if self.kind == "end":
            self.advance()
        self.take("the end", "nothing")


def parse(text: str) -> Program | ParseFailure:
    """Read a program. Whatever the text contains, the result is a program or a failure, never an exception.

    Forward references and unknown numbers parse: they are faults of meaning, found by `execute`.
    """
    if len(text) > MAX_CHARS:
        return ParseFailure("too_long", f"{len(text)} characters, at most {MAX_CHARS}", (MAX_CHARS, len(text)))
    try:
        return _Reader(text).program()
    except _SyntaxError as error:
        return error.failure


# -------------------------------------------------------------------------------------------- execution


def slot_fault(operand: Operand, step: int, n_numbers: int) -> str | None:
    """The fault kind of an operand that cannot be evaluated at `step`, or None."""
    if isinstance(operand, StepRef) and operand.step >= step:
        return "reference"
    if isinstance(operand, Number) and operand.index >= n_numbers:
        return "unknown_number"
    return None


def execute(program: Program, numbers: Sequence[float]) -> float | Fault:
    """The value of the program over the problem's numbers, or the first fault that stops it."""
    values = step_values(program, numbers)
    if isinstance(values, Fault):
        return values
    if slot_fault(program.result, len(values), len(numbers)):
        return Fault("bare")
    return _value(program.result, values, numbers)


def step_values(program: Program, numbers: Sequence[float]) -> list[float] | Fault:
    """The value of each step over the problem's numbers, or the first fault that stops them."""
    values: list[float] = []
    for i, step in enumerate(program.steps):
        for slot, operand, span in zip(SLOTS, step.operands, step.slot_spans[1:], strict=True):
            if kind := slot_fault(operand, i, len(numbers)):
                return Fault(kind, i, slot, span=span)
        a, b = _value(step.first, values, numbers), _value(step.second, values, numbers)
        if step.operator == "divide" and b == 0:
            return Fault("division_by_zero", i, span=step.span)
        values.append(_APPLY[step.operator](a, b))
        if not math.isfinite(values[-1]):
            return Fault("overflow", i, span=step.span)
    return values


_APPLY = {"add": add, "subtract": sub, "multiply": mul, "divide": truediv}


def _value(operand: Operand, values: Sequence[float], numbers: Sequence[float]) -> float:
    if isinstance(operand, Number):
        return float(numbers[operand.index])
    return values[operand.step] if isinstance(operand, StepRef) else operand.value


# -------------------------------------------------------------------------------------------- equality


def equivalent(a: Program, b: Program) -> bool:
    """Equality up to commutativity (any number of swaps) and the order of independent steps.

    Steps are interned bottom-up, so that shared sub-results cost nothing: time is linear in the steps.
    """
    if sorted([step.operator for step in a.steps]) != sorted([step.operator for step in b.steps]):
        return False  # most wrong programs, at a tenth of the cost
    table: dict[object, int] = {}
    return _canonical(a, table) == _canonical(b, table)


def _canonical(program: Program, table: dict[object, int]) -> tuple[int, list[int]]:
    """(id of the result, sorted ids of the steps): equal for equivalent programs under one table."""
    ids: list[int] = []

    def operand_id(operand: Operand, before: int) -> int:
        if isinstance(operand, StepRef) and operand.step < before:
            return ids[operand.step]
        return table.setdefault(operand, len(table))

    for i, step in enumerate(program.steps):
        key = [operand_id(step.first, i), operand_id(step.second, i)]
        if step.operator in COMMUTATIVE:
            key.sort()
        ids.append(table.setdefault((step.operator, *key), len(table)))
    return operand_id(program.result, len(ids)), sorted(ids)


def orderings(program: Program, most: int = 24) -> Iterator[Program]:
    """The program under every order of its steps that keeps operands before their use, at most `most`."""

    def extend(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(order) == n - 1:
            yield (*order, n - 1)
        for i in range(n - 1):
            if i not in order and all(r in order for r in needs[i]):
                yield from extend((*order, i))

    n = len(program.steps)
    if n < 3:
        yield program
        return
    needs = [[o.step for o in s.operands if isinstance(o, StepRef)] for s in program.steps]
    for order in islice(extend(()), most):
        place = {old: new for new, old in enumerate(order)}
        yield Program.of([relink(program.steps[old], place) for old in order])


def relink(step: Step, place: dict[int, int]) -> Step:
    """The step with every `#k` that `place` knows renumbered."""

    def moved(operand: Operand) -> Operand:
        return StepRef(place.get(operand.step, operand.step)) if isinstance(operand, StepRef) else operand

    return replace(step, first=moved(step.first), second=moved(step.second))


def insert_step(steps: Sequence[Step], place: int, new: Step) -> list[Step]:
    """`new` as step `place`; later steps and the references to them move down."""
    later = {k: k + 1 for k in range(place, len(steps))}
    return [*steps[:place], new, *(relink(s, later) for s in steps[place:])]


def drop_step(steps: Sequence[Step], place: int, heir: Operand) -> list[Step]:
    """Without step `place`: references to it become `heir`, one of its operands; later steps move up."""

    def moved(operand: Operand) -> Operand:
        operand = heir if operand == StepRef(place) else operand
        return StepRef(operand.step - 1) if isinstance(operand, StepRef) and operand.step > place else operand

    kept = [*steps[:place], *steps[place + 1 :]]
    return [replace(s, first=moved(s.first), second=moved(s.second)) for s in kept]
