"""Faults of a program against gold: align the steps by edit distance, then compare slot by slot.

REFINER's own oracle compares white-space positions, so one missing step makes every later slot look
wrong, and a commutative swap counts as two errors. Here a missing or extra step is one fault, gold is
taken in its most similar order and orientation, and a program that is not equivalent to gold always
has at least one fault.
"""

from __future__ import annotations

from collections.abc import Callable

from refiner_env.tasks.program import (
    COMMUTATIVE,
    SLOTS,
    Operand,
    Program,
    Step,
    StepRef,
    execute,
    orderings,
    slot_fault,
)
from refiner_env.types import Fault

_GAP = 2.0
"""Cost of a missing or extra step: two aligned steps that share nothing (3 slots) still beat two gaps."""
_SHIFT = 0.01
"""Cost of a reference to another step number: breaks ties towards the alignment that keeps references."""


def faults_against(hypothesis: Program, gold: Program, numbers: tuple[float, ...]) -> tuple[Fault, ...]:
    """The fewest faults over gold's equivalent step orders; plus the fault that stops execution, if any."""
    candidates = (_faults(hypothesis, order, len(numbers)) for order in orderings(gold))
    faults = min(candidates, key=len)
    stopped = execute(hypothesis, numbers)
    if isinstance(stopped, Fault) and stopped.kind in ("division_by_zero", "overflow"):
        faults += (stopped,)
    return faults


def _faults(hypothesis: Program, gold: Program, n_numbers: int) -> tuple[Fault, ...]:
    if not hypothesis.steps or not gold.steps:
        return _without_steps(hypothesis, gold)
    pairs = _align(hypothesis.steps, gold.steps)
    gold_of = {h: g for h, g in pairs if h is not None and g is not None}
    same = _matcher(hypothesis.steps, gold.steps, gold_of)
    faults: list[Fault] = []
    for h, g in pairs:
        if h is None:
            faults.append(Fault("missing_step", _insertion_point(pairs, g)))
        elif g is None:
            faults.append(Fault("extra_step", h, span=hypothesis.steps[h].span))
        else:
            faults += _step_faults(h, hypothesis.steps[h], gold.steps[g], same, n_numbers)
    return tuple(faults)


def _without_steps(hypothesis: Program, gold: Program) -> tuple[Fault, ...]:
    """One of the two is a bare operand."""
    missing = tuple(Fault("missing_step", i) for i in range(len(gold.steps)))
    extra = tuple(Fault("extra_step", i, span=s.span) for i, s in enumerate(hypothesis.steps))
    if missing or extra:
        return missing + extra
    return () if hypothesis.result == gold.result else (Fault("bare"),)


def _align(hypothesis: tuple[Step, ...], gold: tuple[Step, ...]) -> list[tuple[int | None, int | None]]:
    """Order-preserving alignment of least cost: pairs (hypothesis step, gold step), None for a gap."""
    n, m = len(hypothesis), len(gold)
    cost = [[_GAP * (i + j) for j in range(m + 1)] for i in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            substitution = cost[i - 1][j - 1] + _distance(hypothesis[i - 1], gold[j - 1])
            cost[i][j] = min(substitution, cost[i - 1][j] + _GAP, cost[i][j - 1] + _GAP)
    pairs: list[tuple[int | None, int | None]] = []
    i, j = n, m
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + _distance(hypothesis[i - 1], gold[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and cost[i][j] == cost[i - 1][j] + _GAP:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


def _distance(a: Step, b: Step) -> float:
    operator = float(a.operator != b.operator)
    straight = _operand_distance(a.first, b.first) + _operand_distance(a.second, b.second)
    if not straight or b.operator not in COMMUTATIVE:
        return operator + straight
    return operator + min(straight, _operand_distance(a.first, b.second) + _operand_distance(a.second, b.first))


def _operand_distance(a: Operand, b: Operand) -> float:
    """References are compared by kind: which step they mean is known only after the alignment."""
    if a == b:
        return 0.0
    return _SHIFT if isinstance(a, StepRef) and isinstance(b, StepRef) else 1.0


def _orientations(gold: Step) -> tuple[tuple[Operand, Operand], ...]:
    return (gold.operands, gold.operands[::-1]) if gold.operator in COMMUTATIVE else (gold.operands,)


def _step_faults(
    h: int, step: Step, gold: Step, same: Callable[[Operand, Operand], bool], n_numbers: int
) -> list[Fault]:
    operator_span, *operand_spans = step.slot_spans
    faults = [] if step.operator == gold.operator else [Fault("operator", h, "operator", span=operator_span)]

    def wrong_slots(orientation: tuple[Operand, Operand]) -> list[int]:
        return [i for i in (0, 1) if not same(step.operands[i], orientation[i])]

    for i in min(map(wrong_slots, _orientations(gold)), key=len):
        kind = slot_fault(step.operands[i], h, n_numbers) or "operand"
        faults.append(Fault(kind, h, SLOTS[i], span=operand_spans[i]))
    return faults


def _matcher(
    hypothesis: tuple[Step, ...], gold: tuple[Step, ...], gold_of: dict[int, int]
) -> Callable[[Operand, Operand], bool]:
    """Whether an operand of the hypothesis is one of gold, or would be with missing steps in and extra ones out.

    A slot that an operand of a missing step fills, or that an extra step fills in place of one of its operands,
    is no fault of its own: the missing or extra step says it.
    """

    known: dict[tuple[Operand, Operand], bool] = {}

    def same(mine: Operand, right: Operand) -> bool:
        if isinstance(mine, StepRef) and isinstance(right, StepRef) and mine.step in gold_of:
            if gold_of[mine.step] == right.step:
                return True
        elif not isinstance(mine, StepRef) and mine == right:
            return True
        elif not isinstance(mine, StepRef) and not isinstance(right, StepRef):
            return False
        # Without memory, a chain of steps that use each other twice takes exponential time.
        if (mine, right) not in known:
            known[mine, right] = same_beyond_gaps(mine, right)
        return known[mine, right]

    def same_beyond_gaps(mine: Operand, right: Operand) -> bool:
        if isinstance(right, StepRef) and right.step not in gold_of.values():
            return any(same(mine, operand) for operand in _inputs(gold, right.step))
        if isinstance(mine, StepRef) and mine.step not in gold_of:
            return any(same(operand, right) for operand in _inputs(hypothesis, mine.step))
        return False

    return same


def _inputs(steps: tuple[Step, ...], k: int) -> list[Operand]:
    """The operands of step k that do not point ahead."""
    operands = steps[k].operands if k < len(steps) else ()
    return [o for o in operands if not isinstance(o, StepRef) or o.step < k]


def _insertion_point(pairs: list[tuple[int | None, int | None]], g: int | None) -> int:
    """The hypothesis step before which gold step `g` should stand."""
    return sum(1 for h, other in pairs[: pairs.index((None, g))] if h is not None)
