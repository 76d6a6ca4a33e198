"""The learned critic: a language model that reads problem and hypothesis and says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.lm import LanguageModel
from agents.models import BASE_FOLDER, load_model
from agents.prompts import critic_prompts, generator_prompt
from refiner_env.errors import CheckpointError
from refiner_env.records import read_object
from refiner_env.types import Critic, Fault, Feedback, ParseFailure, Problem, Task

SETTINGS = "critic.json"
"""Beside the model: what it writes, and the threshold."""

WRITES = ("feedback", "solution")


class LearnedCritic(Critic):
    """Accepts what it finds right with at least the threshold's probability; else says what is wrong. Never sees gold.

    Either it writes the feedback itself, as in the paper; the task reads typed faults from it, and the probability is
    that of the accepting phrase. Or it writes its own solution, unaware of the hypothesis; feedback is what the task
    finds where the two differ, and the probability is that of writing the hypothesis, 1 where no difference is found.

    Args:
        threshold: trades accepting for rejecting; above 1 nothing is accepted that it has something to say about.
            Chosen by `trainers.calibration` on development problems.
        writes: one of `WRITES`.
    """

    def __init__(self, lm: LanguageModel, task: Task[Any], threshold: float = 0.5, writes: str = "feedback") -> None:
        self.lm, self.task, self.threshold, self.writes = lm, task, threshold, writes

    @classmethod
    def load(cls, folder: str | Path, task: Task[Any]) -> LearnedCritic:
        """The critic saved in a folder, or a plain model as a critic with the default settings."""
        return cls(load_model(folder), task, **saved_settings(folder))

    def save(self, folder: str | Path) -> None:
        """Write model, tokenizer and settings."""
        self.lm.save(folder)
        settings = {"threshold": self.threshold, "writes": self.writes}
        (Path(folder) / SETTINGS).write_text(json.dumps(settings) + "\n")

    def with_threshold(self, threshold: float) -> LearnedCritic:
        """The same model with another threshold."""
        return type(self)(self.lm, self.task, threshold, self.writes)

    @property
    def identity(self) -> str:
        decoded = f"{self.lm.identity}, {self.lm.backend.name}"  # ctranslate2-int8 says something else
        return f"learned of {self.task.name}({decoded}, {self.threshold}, {self.writes})"

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return (self._feedback if self.writes == "feedback" else self._compare)(problems, hypotheses)

    def _feedback(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        accepting = self.task.feedback(())
        prompts = critic_prompts([p.text for p in problems], hypotheses)
        probabilities = self.lm.probabilities(prompts, [accepting.text] * len(prompts))
        rejected = [i for i, p in enumerate(probabilities) if p < self.threshold]
        texts = self.lm.generate([prompts[i] for i in rejected], not_first=accepting.text)
        feedback = [accepting] * len(prompts)
        for i, text in zip(rejected, texts, strict=True):
            feedback[i] = replace(self.task.read_feedback(text), accepted=False)
        return [replace(f, accept_probability=p) for f, p in zip(feedback, probabilities, strict=True)]

    def _compare(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        prompts = [generator_prompt(p.text) for p in problems]
        solutions = self.lm.generate(prompts)
        probabilities = self.lm.probabilities(prompts, hypotheses)
        feedback = []
        for problem, z, solution, p in zip(problems, hypotheses, solutions, probabilities, strict=True):
            faults = self._differences(problem, z, solution)
            said = self.task.feedback(() if p >= self.threshold else faults)
            feedback.append(replace(said, accept_probability=p if faults else 1.0))
        return feedback

    def _differences(self, problem: Problem, hypothesis: str, solution: str) -> tuple[Fault, ...]:
        """The hypothesis's faults if the solution were right; none where the solution cannot be read."""
        unreadable = isinstance(self.task.parse(solution), ParseFailure)
        if unreadable and not isinstance(self.task.parse(hypothesis), ParseFailure):
            return ()
        return self.task.diagnose(replace(problem, gold=solution), hypothesis)


def saved_settings(folder: str | Path) -> dict[str, Any]:
    """Threshold and mode of the critic in a folder, as the arguments of `LearnedCritic`; none of a plain model."""
    file = Path(folder) / SETTINGS
    return read_object(file) if file.exists() else {}


def learned(task: Task[Any], folder: str = "", threshold: float | None = None) -> LearnedCritic:
    """The learned critic of a folder that `refiner train critic` or `refiner compare` wrote.

    Args:
        folder: without one, the base model, which has learned no feedback yet.
        threshold: in place of the one that was chosen in training.

    Raises:
        CheckpointError: nothing there to load, or a model that was trained to write hypotheses.
    """
    record = Path(folder) / "training.json"
    what = str(read_object(record).get("what")) if folder and record.is_file() else "critic"
    if not what.startswith("critic"):
        raise CheckpointError(f"{folder} holds a {what}, no critic: give a folder that refiner train critic wrote.")
    critic = LearnedCritic.load(folder or BASE_FOLDER, task)
    return critic if threshold is None else critic.with_threshold(threshold)
