"""Faults of a program that show without gold: what execution finds, and what hardly any right program does.

The rules stay as they flag at most about 1% of gold. Per cent of gold flagged / of wrong programs (`perturb`) found, on
the 2,819 training problems of `svamp` (MAWPS and ASDiv-A) whose gold gives their answer, and on 1,500 procedural
problems of each level, no gold of which is flagged:

| rule | svamp | procedural |
|---|---|---|
| a step that nothing uses | 0 / 3 | 5 |
| a number or step with itself, other than added | 0.5 / 20 | 12 |
| a value of 0 or below | 0.1 / 24 | 26 |
| a quotient below 1 | 0.5 / 10 | 13 |
| a value that is `TOO_LARGE` | 0.6 / 7 | 3 |
| a fraction of whole numbers where the question is how many | 0.9 / 15 | 16 |
| one number used, or none, of several | 1.0 / 21 | 9 |
| any | 3.1 / 63 | 59 |

In nine of ten of those a step that the oracle names is named, in half a slot that it names. Left out as they flag more
gold: a number added to itself (1.8%), a number of the question that is not used (4%), a result that is one of the
numbers (4%), or that is above 10,000 (1.6%).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from refiner_env.tasks.program import SLOTS, Number, Program, StepRef, slot_fault, step_values
from refiner_env.types import Fault

TOO_LARGE = 25
"""How many times larger than the largest number of the problem a value may be."""
_HOW_MANY = re.compile(r"\bhow many\b", re.IGNORECASE)


def faults_alone(program: Program, text: str, numbers: Sequence[float]) -> tuple[Fault, ...]:
    """The steps without use, and what stops execution or else what is odd about the values.

    Args:
        text: the problem's, for what is asked.
        numbers: the problem's.
    """
    values = step_values(program, numbers)
    return _unused_steps(program) + ((values,) if isinstance(values, Fault) else _odd(program, values, text, numbers))


def _unused_steps(program: Program) -> tuple[Fault, ...]:
    """The steps on which the answer does not rest."""
    used = {program.result}
    for i in range(len(program.steps) - 1, -1, -1):
        if StepRef(i) in used:
            used.update(program.steps[i].operands)
    return tuple(
        Fault("extra_step", i, span=step.span) for i, step in enumerate(program.steps) if StepRef(i) not in used
    )


def _odd(program: Program, values: Sequence[float], text: str, numbers: Sequence[float]) -> tuple[Fault, ...]:
    """The first odd value, as later ones may follow from it; else that all but one of the numbers are left out.

    What is named is what the oracle most often names where the rule is right: a negative difference, for example, has
    its operands swapped.
    """
    if not program.steps:
        odd = len(numbers) > 1 or slot_fault(program.result, 0, len(numbers))
        return (Fault("bare"),) if odd else ()
    largest = max(map(abs, numbers), default=math.inf)
    for i, (step, value) in enumerate(zip(program.steps, values, strict=True)):
        if step.first == step.second and step.operator != "add":
            return _wrong(program, i, "second")
        if value <= 0 or (step.operator == "divide" and value < 1):
            return _wrong(program, i, *SLOTS)
        if value > TOO_LARGE * largest:
            return _wrong(program, i, "operator")
    counting = bool(_HOW_MANY.search(text)) and all(float(number).is_integer() for number in numbers)
    if counting and not values[-1].is_integer():
        return _wrong(program, next(i for i, value in enumerate(values) if not value.is_integer()), "operator")
    used = {operand for step in program.steps for operand in step.operands if isinstance(operand, Number)}
    return _wrong(program, len(values) - 1, "second") if len(used) < 2 <= len(numbers) else ()


def _wrong(program: Program, i: int, *slots: str) -> tuple[Fault, ...]:
    """These slots of step i as faults."""
    spans = dict(zip(("operator", *SLOTS), program.steps[i].slot_spans, strict=True))
    return tuple(Fault("operand" if slot in SLOTS else slot, i, slot, span=spans[slot]) for slot in slots)
