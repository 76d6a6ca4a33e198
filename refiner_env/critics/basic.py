"""Critics that wrap nothing: the oracle, nobody, and what can be seen without gold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refiner_env.types import Critic, Feedback, Problem, Task


class OracleCritic(Critic):
    """Compares with gold and names every fault. For training, and as the upper bound of feedback."""

    uses_gold = True

    def __init__(self, task: Task[Any]) -> None:
        self.task = task

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        pairs = zip(problems, hypotheses, strict=True)
        return [self.task.feedback(self.task.diagnose(problem, hypothesis)) for problem, hypothesis in pairs]

    @property
    def identity(self) -> str:
        return f"oracle of {self.task.name}"


class NoCritic(Critic):
    """Says nothing and accepts nothing: what is left is trying again."""

    def __init__(self, task: Task[Any]) -> None:
        pass

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return [Feedback(accepted=False, text="")] * len(hypotheses)


class ExecutionCritic(Critic):
    """Runs the hypothesis and checks it against the problem alone; accepts what nothing speaks against.

    What it can see is the task's `check`. After CRITIC (arXiv 2305.11738): verify with a tool, then mend.
    """

    def __init__(self, task: Task[Any]) -> None:
        self.task = task

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        pairs = zip(problems, hypotheses, strict=True)
        return [self.task.feedback(self.task.check(problem, hypothesis)) for problem, hypothesis in pairs]

    @property
    def identity(self) -> str:
        return f"execution of {self.task.name}"
