"""The learned critic: a language model that reads problem and hypothesis and writes feedback."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.prompts import critic_prompts
from agents.seq2seq import Seq2Seq
from refiner_env.types import Critic, Feedback, Problem, Task

SETTINGS = "critic.json"
"""Beside the model: the threshold."""


class LearnedCritic(Critic):
    """Accepts what it finds right with at least the threshold's probability; else its greedy feedback. Never sees gold.

    The probability is that of writing the accepting phrase and nothing else. Feedback is read back into typed
    faults by the task.

    Args:
        threshold: trades accepting for rejecting; above 1 nothing is accepted. Chosen by
            `trainers.calibration` on development problems.
    """

    def __init__(self, lm: Seq2Seq, task: Task[Any], threshold: float = 0.5) -> None:
        self.lm, self.task, self.threshold = lm, task, threshold

    @classmethod
    def load(cls, folder: str | Path, task: Task[Any]) -> LearnedCritic:
        """The critic saved in a folder, or a plain model as a critic with the default threshold."""
        settings = Path(folder) / SETTINGS
        return cls(Seq2Seq.load(folder), task, **(json.loads(settings.read_text()) if settings.exists() else {}))

    def save(self, folder: str | Path) -> None:
        """Write model, tokenizer and threshold."""
        self.lm.save(folder)
        (Path(folder) / SETTINGS).write_text(json.dumps({"threshold": self.threshold}) + "\n")

    def with_threshold(self, threshold: float) -> LearnedCritic:
        """The same model with another threshold."""
        return type(self)(self.lm, self.task, threshold)

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        accepting = self.task.feedback(())
        prompts = critic_prompts([p.text for p in problems], hypotheses)
        probabilities = self.lm.probabilities(prompts, accepting.text)
        rejected = [i for i, p in enumerate(probabilities) if p < self.threshold]
        texts = self.lm.generate([prompts[i] for i in rejected], not_first=accepting.text)
        feedback = [accepting] * len(prompts)
        for i, text in zip(rejected, texts, strict=True):
            feedback[i] = replace(self.task.read_feedback(text), accepted=False)
        return [replace(f, accept_probability=p) for f, p in zip(feedback, probabilities, strict=True)]
