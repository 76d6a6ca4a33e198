"""Training pairs for a critic: right and perturbed hypotheses with the oracle's feedback as target.

REFINER's published files hold no such pairs for a critic; here they are made, seeded, from any task and any
problems.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refiner_env.types import Fault, Problem, Task

ATTEMPTS = 8
"""Draws for a hypothesis that its problem does not have yet."""


@dataclass(frozen=True, slots=True)
class CriticPair:
    """One example for a critic."""

    problem: Problem
    hypothesis: str
    feedback: str
    """The target: what the oracle says of the hypothesis."""
    faults: tuple[Fault, ...] = ()
    """The same, typed. Empty for a right hypothesis."""


def critic_pair(task: Task[Any], problem: Problem, hypothesis: str) -> CriticPair:
    """The pair of a given hypothesis, labelled by the oracle."""
    faults = task.diagnose(problem, hypothesis)
    return CriticPair(problem, hypothesis, task.feedback(faults).text, faults)


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


def balanced_pairs(
    task: Task[Any], problems: Sequence[Problem], rng: random.Random, *, no_hint_share: float, per_problem: int
) -> list[CriticPair]:
    """Up to `per_problem` pairs for each problem with gold, no hypothesis twice for one problem.

    With probability `no_hint_share` a pair is right; the wrong ones ask for each of the task's perturbations equally
    often. A problem that has no place for a perturbation gets another.
    """
    pairs = []
    deck: list[str] = []
    for problem in problems:
        seen: set[str] = set()
        for _ in range(per_problem if problem.gold is not None else 0):
            right = rng.random() < no_hint_share
            if not right:
                deck = deck or rng.sample(task.perturbations, len(task.perturbations))
                kind = deck.pop()
            for _ in range(ATTEMPTS):
                hypothesis = task.rephrase(problem, rng) if right else task.perturb(problem, rng, kind)
                if hypothesis not in seen:
                    seen.add(hypothesis)
                    pairs.append(critic_pair(task, problem, hypothesis))
                    break
    return pairs
