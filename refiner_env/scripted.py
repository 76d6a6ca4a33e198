"""The scripted editor: a control that follows feedback at random, without any model.

Each place that the feedback names is changed at random, as the task's `edit` does it. It shows how much of a critic's
gain is search by elimination: whatever a trained generator gains beyond it, reading the feedback has contributed.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

from refiner_env.memory import Memory
from refiner_env.types import Agent, Observations, Task

TRIES = 20
"""How often it draws before it proposes something again."""


class ScriptedEditor(Agent):
    """Edits hypotheses as feedback says.

    Args:
        rng: where its choices come from.
        first: maps a problem's text to its first hypothesis; None starts from the task's guess.
        remembers: it draws another where it has tried one before in the episode, as the generator does.
    """

    def __init__(
        self, task: Task[Any], rng: random.Random, first: dict[str, str] | None = None, *, remembers: bool = False
    ) -> None:
        self.task, self.rng, self.first = task, rng, first or {}
        self.memory = Memory() if remembers else None

    def seed(self, seed: int) -> None:
        self.rng.seed(seed)

    def act(self, observations: Observations) -> list[str]:
        tried: Sequence[Collection[str]] = [()] * len(observations["problem"])
        if self.memory:
            tried = self.memory.tried(observations)
        columns = (observations["problem"], observations["hypothesis"], observations["feedback"], observations["turn"])
        hypotheses = [
            self._another(problem, hypothesis, feedback, before) if turn else self.first.get(problem, self.task.guess)
            for problem, hypothesis, feedback, turn, before in zip(*columns, tried, strict=True)
        ]
        if self.memory:
            self.memory.add(observations, hypotheses)
        return hypotheses

    def _another(self, problem: str, hypothesis: str, feedback: str, tried: Collection[str]) -> str:
        faults = self.task.read_feedback(feedback).faults
        drawn = (self.task.edit(problem, hypothesis, faults, self.rng) for _ in range(TRIES))
        return next((edited for edited in drawn if edited not in tried), hypothesis)
