"""The learned critic: a language model that reads problem and hypothesis and writes feedback."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.prompts import critic_prompts
from agents.seq2seq import Seq2Seq
from refiner_env.types import Critic, Feedback, Problem, Task


class LearnedCritic(Critic):
    """Greedy feedback of a `Seq2Seq`, read back into typed faults by the task. Never sees gold."""

    def __init__(self, lm: Seq2Seq, task: Task[Any]) -> None:
        self.lm, self.task = lm, task

    @classmethod
    def load(cls, folder: str | Path, task: Task[Any]) -> LearnedCritic:
        """The critic saved in a folder."""
        return cls(Seq2Seq.load(folder), task)

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        texts = self.lm.generate(critic_prompts([p.text for p in problems], hypotheses))
        return [self.task.read_feedback(text) for text in texts]
