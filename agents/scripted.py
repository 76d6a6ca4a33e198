"""The scripted editor: a control that follows feedback at random, without any model.

Each slot that the feedback names gets another value at random; steps are added or removed as told. It
shows how much of a critic's gain is search by elimination: whatever a trained generator gains beyond
it, reading the feedback has contributed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from agents.memory import Memory
from refiner_env.tasks import program as ir
from refiner_env.tasks.math_word_problem import MathWordProblem
from refiner_env.tasks.program import Number, Operand, Program, Step, StepRef
from refiner_env.types import Agent, Fault, Observations, ParseFailure

CONSTANT_GUESS = "#0: subtract ( number0, number1 ) | EOS"
"""The first hypothesis where none is given, and the restart after one that cannot be read."""

TRIES = 20
"""How often it draws before it proposes something again."""


class ScriptedEditor(Agent):
    """Edits programs as feedback says.

    Args:
        rng: where its choices come from.
        first: maps a problem's text to its first hypothesis; None starts from the constant guess.
        remembers: it draws another where it has tried one before in the episode, as the generator does.
    """

    def __init__(self, rng: random.Random, first: dict[str, str] | None = None, *, remembers: bool = False) -> None:
        self.rng, self.first, self.task = rng, first or {}, MathWordProblem()
        self.memory = Memory() if remembers else None

    def act(self, observations: Observations) -> list[str]:
        tried = self.memory.tried(observations) if self.memory else [()] * len(observations["problem"])
        columns = (observations["problem"], observations["hypothesis"], observations["feedback"], observations["turn"])
        hypotheses = [
            self._another(problem, hypothesis, feedback, before) if turn else self.first.get(problem, CONSTANT_GUESS)
            for problem, hypothesis, feedback, turn, before in zip(*columns, tried, strict=True)
        ]
        if self.memory:
            self.memory.add(observations, hypotheses)
        return hypotheses

    def _another(self, problem: str, hypothesis: str, feedback: str, tried: Collection[str]) -> str:
        drawn = (self._edit(problem, hypothesis, feedback) for _ in range(TRIES))
        return next((edited for edited in drawn if edited not in tried), hypothesis)

    def _edit(self, problem: str, hypothesis: str, feedback: str) -> str:
        program = ir.parse(hypothesis)
        if isinstance(program, ParseFailure) or not program.steps:
            return CONSTANT_GUESS
        numbers = 1 + max((int(n) for n in re.findall(r"\bnumber([0-9]{1,4})\b", problem)), default=1)
        return ir.render(self._apply(program, self.task.read_feedback(feedback).faults, numbers))

    def _apply(self, program: Program, faults: Sequence[Fault], n_numbers: int) -> Program:
        steps = list(program.steps)
        for fault in faults:
            if fault.step is not None and fault.slot is not None and fault.step < len(steps):
                steps[fault.step] = self._change(steps[fault.step], fault, n_numbers)
        # From the last step to the first, so that earlier positions stay what the feedback means.
        for fault in sorted(faults, key=lambda f: -(f.step or 0)):
            if fault.kind == "extra_step" and len(steps) > 1 and fault.step is not None and fault.step < len(steps):
                steps = ir.drop_step(steps, fault.step, steps[fault.step].first)
            elif fault.kind == "missing_step" and len(steps) < ir.MAX_STEPS:
                place = min(fault.step or 0, len(steps))
                steps = ir.insert_step(steps, place, self._step(place, n_numbers))
        return Program.of(steps)

    def _change(self, step: Step, fault: Fault, n_numbers: int) -> Step:
        if fault.slot == "operator":
            return replace(step, operator=self.rng.choice([o for o in ir.OPERATORS if o != step.operator]))
        assert fault.slot in ir.SLOTS and fault.step is not None  # read_feedback gives no other
        others = [o for o in _operands(fault.step, n_numbers) if o != step.operand(fault.slot)]
        return step.with_operand(fault.slot, self.rng.choice(others)) if others else step

    def _step(self, place: int, n_numbers: int) -> Step:
        operands = _operands(place, n_numbers)
        return Step(self.rng.choice(ir.OPERATORS), self.rng.choice(operands), self.rng.choice(operands))


def _operands(step: int, n_numbers: int) -> list[Operand]:
    return [*(Number(i) for i in range(n_numbers)), *(StepRef(k) for k in range(step))]
