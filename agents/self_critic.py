"""The generator as its own critic, without training: Self-Refine (arXiv 2303.17651)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.lm import LanguageModel
from agents.models import BASE_FOLDER, load_model
from agents.prompts import plain
from refiner_env.critics.prompting import Prompting
from refiner_env.types import Critic, Feedback, Problem, Task


class SelfCritic(Critic):
    """Asks a language model in words for feedback, and accepts where it replies "No hint.". Never sees gold.

    Meant for models that follow instructions, which Self-Refine's are; a small one trained on a task alone does not,
    and what it says is mostly no feedback. Examples that do not fit its longest prompt are left out, then the
    instructions; what is judged is cut only where it is too long by itself.

    Args:
        lm: the generator, not copied: it is asked as it is trained.
        shots: worked examples in each prompt (`Prompting`).
    """

    def __init__(self, lm: LanguageModel, task: Task[Any], shots: int = 1) -> None:
        self.lm, self.task, self.prompting = lm, task, Prompting(task, shots)

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        prompts = [self._prompt(problem.text, z) for problem, z in zip(problems, hypotheses, strict=True)]
        return [self.prompting.read(reply) for reply in self.lm.generate(prompts)]

    @property
    def identity(self) -> str:
        return f"self of {self.task.name}({self.lm.identity}, {self.lm.backend.name}, {self.prompting.digest})"

    def _prompt(self, problem: str, hypothesis: str) -> str:
        texts = [plain(text) for text in self.prompting.texts(problem, hypothesis)]
        return next(filter(self.lm.fits, texts), texts[-1])


def self_critic(task: Task[Any], folder: str = "", shots: int = 1) -> SelfCritic:
    """The model of a folder as its own critic.

    Args:
        folder: one that `refiner train` wrote, or a Hugging Face id; without one, our base model, which was never
            trained to follow instructions.
        shots: worked examples in each prompt.
    """
    return SelfCritic(load_model(folder or BASE_FOLDER), task, shots)
