"""The scripted editor: a control that follows feedback at random, without any model.

Each place that the feedback names is changed at random, as the task's `edit` does it. It shows how much of a critic's
gain is search by elimination: whatever a trained generator gains beyond it, reading the feedback has contributed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from refiner_env.draws import Draws
from refiner_env.memory import Memory
from refiner_env.types import Agent, Observations, Task

TRIES = 20
"""How often it draws before it proposes something again."""


class ScriptedEditor(Agent):
    """Edits hypotheses as feedback says.

    What it chooses follows from the seed, the problem's text, and how often it edited for it since seeding.

    Args:
        seed: of its choices, until an environment seeds it.
        first: maps a problem's text to its first hypothesis; None starts from the task's guess.
        remembers: it draws another where it has tried one before in the episode, as the generator does.
    """

    def __init__(
        self, task: Task[Any], seed: int | str = 0, first: dict[str, str] | None = None, *, remembers: bool = False
    ) -> None:
        self.task, self.first = task, first or {}
        self.memory = Memory() if remembers else None
        self.seed(seed)

    def seed(self, seed: int | str) -> None:
        self._draws = Draws(seed)

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
        faults, rng = self.task.read_feedback(feedback).faults, self._draws.of(problem)
        drawn = (self.task.edit(problem, hypothesis, faults, rng) for _ in range(TRIES))
        return next((edited for edited in drawn if edited not in tried), hypothesis)
