"""Training pairs for a critic: right and perturbed hypotheses with the oracle's feedback as target.

REFINER's published files hold no such pairs for a critic; here they are made, seeded, from any task and any
problems.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refiner_env.types import Problem, Task


@dataclass(frozen=True, slots=True)
class CriticPair:
    """One example for a critic."""

    problem: Problem
    hypothesis: str
    feedback: str
    """The target: what the oracle says of the hypothesis."""


def critic_pair(task: Task[Any], problem: Problem, hypothesis: str) -> CriticPair:
    """The pair of a given hypothesis, labelled by the oracle."""
    return CriticPair(problem, hypothesis, task.feedback(task.diagnose(problem, hypothesis)).text)


def critic_pairs(
    task: Task[Any], problems: Sequence[Problem], rng: random.Random, *, no_hint_share: float
) -> list[CriticPair]:
    """One pair per problem: with probability `no_hint_share` a right hypothesis, else a perturbed one."""
    pairs = []
    for problem in problems:
        right = rng.random() < no_hint_share
        hypothesis = task.rephrase(problem, rng) if right else task.perturb(problem, rng)
        pairs.append(critic_pair(task, problem, hypothesis))
    return pairs
