"""Math word problems: the IR is a linear program over the numbers of the problem, y its value.

Format and faults after REFINER (arXiv 2304.01904, Table 1) and its code; texts as in SVAMP, with
`number0`, `number1`, ... in place of the numbers, whose values are in `problem.metadata["numbers"]`.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from refiner_env.errors import DataError
from refiner_env.tasks import program as ir
from refiner_env.tasks.alignment import faults_against
from refiner_env.tasks.phrases import Phrases
from refiner_env.tasks.plausibility import faults_alone
from refiner_env.tasks.program import Number, Operand, Program, Step, StepRef
from refiner_env.tasks.stories import LEVELS, story
from refiner_env.types import Fault, ParseFailure, Problem, Scores, Task

TEMPLATES = {
    "operator": "The operator in #{step} is incorrect.",
    "operand": "The {slot} number in #{step} is incorrect.",
    "reference": "The {slot} number in #{step} refers to a later step.",
    "unknown_number": "The {slot} number in #{step} is not in the problem.",
    "missing_step": "A step is missing at #{step}.",
    "extra_step": "Step #{step} is not needed.",
    "division_by_zero": "Step #{step} divides by zero.",
    "overflow": "Step #{step} is too large.",
    "syntax": "The program cannot be read.",
    "too_long": "The program is too long.",
    "bare": "The number is incorrect.",
}
PHRASES = Phrases(TEMPLATES, ir.SLOTS, {"operator": "operator"})

_parse_short = lru_cache(maxsize=1 << 16)(ir.parse)


def parse(text: str) -> Program | ParseFailure:
    """`program.parse`, remembered: rollouts read the same gold and hypotheses again and again."""
    return _parse_short(text) if len(text) <= ir.MAX_CHARS else ir.parse(text)


# Remembered too: scores and critics ask the same of one hypothesis, and policies propose the same again and again.


@lru_cache(maxsize=1 << 14)
def _equivalent(hypothesis: str, gold: str) -> bool:
    """Whether two programs that can be read are equivalent."""
    first, second = parse(hypothesis), parse(gold)
    assert isinstance(first, Program) and isinstance(second, Program)
    return ir.equivalent(first, second)


@lru_cache(maxsize=1 << 14)
def _faults(hypothesis: str, gold: str, values: tuple[float, ...]) -> tuple[Fault, ...]:
    """The faults of a program that can be read against gold."""
    first, second = parse(hypothesis), parse(gold)
    assert isinstance(first, Program) and isinstance(second, Program)
    return () if _equivalent(hypothesis, gold) else faults_against(first, second, values)


class MathWordProblem(Task[Program]):
    """x: a story with a question; z: a linear program; y: a number."""

    name = "MathWordProblem"
    fault_kinds = (*TEMPLATES, "other")
    phrases = PHRASES
    levels = tuple(LEVELS)
    default_level = "medium"
    perturbations = ("operator", "operand", "swap", "missing_step", "extra_step", "several")
    guess = "#0: subtract ( number0, number1 ) | EOS"
    about = (
        "The problem is a story with a question; number0, number1, ... stand for its numbers. The hypothesis is a"
        " program: steps of the form `#k: operator ( first, second )`, counted from 0, between `|` and ended by EOS."
        f" Operators are {', '.join(ir.OPERATORS)}; an operand is a number of the problem, a constant or an earlier"
        " step `#k`. The program is right when its last step gives the answer to the question."
    )

    def parse(self, text: str) -> Program | ParseFailure:
        return parse(text)

    def render(self, ir_: Program) -> str:
        return ir.render(ir_)

    def execute(self, ir_: Program, problem: Problem) -> float | Fault:
        return ir.execute(ir_, numbers(problem))

    def score(self, problem: Problem, hypothesis: str) -> Scores:
        program = parse(hypothesis)
        if isinstance(program, ParseFailure):
            return Scores(False, False, False, 0.0)
        gold, value = gold_program(problem), ir.execute(program, numbers(problem))
        answer = isinstance(value, float) and same_value(value, problem.answer)
        equivalent = _equivalent(hypothesis, problem.gold or "")
        return Scores(program == gold, equivalent, answer, float(equivalent))

    def same(self, problem: Problem, a: str, b: str) -> bool:
        first, second = parse(a), parse(b)
        if isinstance(first, ParseFailure) or isinstance(second, ParseFailure):
            return a == b
        return ir.equivalent(first, second)

    def diagnose(self, problem: Problem, hypothesis: str) -> tuple[Fault, ...]:
        program = parse(hypothesis)
        if isinstance(program, ParseFailure):
            return (Fault(program.kind, hint=program.message, span=program.span),)
        gold_program(problem)  # raises where there is none
        return _faults(hypothesis, problem.gold or "", numbers(problem))

    def check(self, problem: Problem, hypothesis: str) -> tuple[Fault, ...]:
        """What execution finds, and what hardly any right program does (`plausibility`: how often it errs)."""
        program = parse(hypothesis)
        if isinstance(program, ParseFailure):
            return super().check(problem, hypothesis)
        return faults_alone(program, problem.text, numbers(problem))

    def right_share(self, problem: Problem, hypothesis: str) -> float:
        """The share of right slots (operator, first, second) of the aligned steps.

        A missing or extra step is three wrong slots.
        """
        program, faults = parse(hypothesis), self.diagnose(problem, hypothesis)
        if not faults or isinstance(program, ParseFailure):
            return float(not faults)
        gaps = Counter(fault.kind for fault in faults)
        steps = len(program.steps) + gaps["missing_step"]
        wrong = 3 * (gaps["missing_step"] + gaps["extra_step"]) + sum(fault.slot is not None for fault in faults)
        return 1 - wrong / (3 * steps) if steps else 0.0

    def perturb(self, problem: Problem, rng: random.Random, kind: str | None = None) -> str:
        """A wrong program near gold; `kind` is one of `perturbations`, None for any.

        The chosen kind may be impossible (a one-step program has no step to lose); then another is taken.
        """
        gold = gold_program(problem)
        kinds = [kind] if kind else []
        kinds += rng.sample(self.perturbations, len(self.perturbations))
        for name in kinds:
            edits = rng.choices(list(_EDITS), k=rng.randint(2, 3)) if name == "several" else [name]
            changed = gold
            for edit in edits:
                changed = _EDITS[edit](changed, len(numbers(problem)), rng) or changed
            if not ir.equivalent(changed, gold):
                return ir.render(changed)
        return ir.render(_extra_step(gold, len(numbers(problem)), rng))

    def rephrase(self, problem: Problem, rng: random.Random) -> str:
        """Gold with each commutative step flipped or not."""
        gold = gold_program(problem)
        if not gold.steps:
            return ir.render(gold)
        flips = [s.flipped() if s.operator in ir.COMMUTATIVE and rng.random() < 0.5 else s for s in gold.steps]
        return ir.render(Program.of(flips))

    def edit(self, text: str, hypothesis: str, faults: Sequence[Fault], rng: random.Random) -> str:
        program = parse(hypothesis)
        if isinstance(program, ParseFailure) or not program.steps:
            return self.guess
        n_numbers = 1 + max((int(n) for n in re.findall(r"\bnumber([0-9]{1,4})\b", text)), default=1)
        return ir.render(_follow(program, faults, n_numbers, rng))

    def generate(self, seed: int, index: int, level: str | None = None) -> Problem:
        return story(seed, index, level or self.default_level)


def numbers(problem: Problem) -> tuple[float, ...]:
    """The values behind number0, number1, ..."""
    values: tuple[float, ...] | None = problem.metadata.get("numbers")
    if values is None:
        raise DataError(f"Problem {problem.uid!r} has no metadata['numbers']: the values behind number0, number1, ...")
    return values


def gold_program(problem: Problem) -> Program:
    """The parsed gold of a problem that has one."""
    return problem.read_gold(parse, "program")


def same_value(value: float, answer: float | str | None) -> bool:
    """Whether an executed value is the gold answer (relative tolerance 1e-4, as answers are rounded)."""
    return isinstance(answer, float | int) and math.isclose(value, answer, rel_tol=1e-4, abs_tol=1e-6)


# ------------------------------------------------------------------------------------------ perturbations
# Each edit returns a changed program, or None where the program has no place for it.

Edit = Callable[[Program, int, random.Random], Program | None]


def _replace_step(program: Program, index: int, step: Step) -> Program:
    return Program.of([*program.steps[:index], step, *program.steps[index + 1 :]])


def _operator(program: Program, n_numbers: int, rng: random.Random) -> Program | None:
    if not program.steps:
        return None
    i = rng.randrange(len(program.steps))
    others = [o for o in ir.OPERATORS if o != program.steps[i].operator]
    return _replace_step(program, i, replace(program.steps[i], operator=rng.choice(others)))


def _operand(program: Program, n_numbers: int, rng: random.Random) -> Program | None:
    choices: list[Operand] = [Number(k) for k in range(n_numbers)]
    if not program.steps:
        return Program((), rng.choice(choices))
    i, slot = rng.randrange(len(program.steps)), rng.choice(ir.SLOTS)
    choices += [StepRef(k) for k in range(i)]
    others = [c for c in choices if c != program.steps[i].operand(slot)]
    return _replace_step(program, i, program.steps[i].with_operand(slot, rng.choice(others))) if others else None


def _swap(program: Program, n_numbers: int, rng: random.Random) -> Program | None:
    ordered = [i for i, s in enumerate(program.steps) if s.operator not in ir.COMMUTATIVE]
    if not ordered:
        return None
    i = rng.choice(ordered)
    return _replace_step(program, i, program.steps[i].flipped())


def _missing_step(program: Program, n_numbers: int, rng: random.Random) -> Program | None:
    """One step is left out; whoever used it takes one of its operands instead."""
    n = len(program.steps)
    if n < 2:
        return None
    lost = rng.randrange(n)
    return Program.of(ir.drop_step(program.steps, lost, rng.choice(program.steps[lost].operands)))


def _extra_step(program: Program, n_numbers: int, rng: random.Random) -> Program:
    """One more step: at the end, or on an operand before it is used."""
    operator = rng.choice(ir.OPERATORS)
    number = Number(rng.randrange(n_numbers)) if n_numbers else program.result
    n = len(program.steps)
    place = rng.randint(0, n)
    if place == n:
        return Program.of([*program.steps, Step(operator, program.result, number)])
    slot = rng.choice(ir.SLOTS)
    new = Step(operator, program.steps[place].operand(slot), number)
    steps = ir.insert_step(program.steps, place, new)
    steps[place + 1] = steps[place + 1].with_operand(slot, StepRef(place))
    return Program.of(steps)


_EDITS: dict[str, Edit] = {
    "operator": _operator,
    "operand": _operand,
    "swap": _swap,
    "missing_step": _missing_step,
    "extra_step": _extra_step,
}


# ----------------------------------------------------------------------------------------- following feedback


def _follow(program: Program, faults: Sequence[Fault], n_numbers: int, rng: random.Random) -> Program:
    """Each slot that the faults name gets another value at random; steps are added or removed as told."""
    steps = list(program.steps)
    for fault in faults:
        if fault.step is not None and fault.slot is not None and fault.step < len(steps):
            steps[fault.step] = _other_slot(steps[fault.step], fault.step, fault.slot, n_numbers, rng)
    # From the last step to the first, so that earlier positions stay what the feedback means.
    for fault in sorted(faults, key=lambda f: -(f.step or 0)):
        if fault.kind == "extra_step" and len(steps) > 1 and fault.step is not None and fault.step < len(steps):
            steps = ir.drop_step(steps, fault.step, steps[fault.step].first)
        elif fault.kind == "missing_step" and len(steps) < ir.MAX_STEPS:
            place = min(fault.step or 0, len(steps))
            operands = _operands(place, n_numbers)
            new = Step(rng.choice(ir.OPERATORS), rng.choice(operands), rng.choice(operands))
            steps = ir.insert_step(steps, place, new)
    return Program.of(steps)


def _other_slot(step: Step, index: int, slot: str, n_numbers: int, rng: random.Random) -> Step:
    if slot == "operator":
        return replace(step, operator=rng.choice([o for o in ir.OPERATORS if o != step.operator]))
    others = [o for o in _operands(index, n_numbers) if o != step.operand(slot)]
    return step.with_operand(slot, rng.choice(others)) if others else step


def _operands(step: int, n_numbers: int) -> list[Operand]:
    return [*(Number(i) for i in range(n_numbers)), *(StepRef(k) for k in range(step))]
