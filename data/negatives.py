"""Training pairs for a critic: right and perturbed hypotheses with the oracle's feedback as target.

REFINER's published files hold no such pairs for a critic; here they are made, seeded, from any task and any
problems.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
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

    With probability `no_hint_share` a pair is right. For the others, the kinds of perturbation that are rarest so far
    are tried first, so that each becomes as frequent as the problems that have a place for it allow.
    """
    pairs: list[CriticPair] = []
    made = dict.fromkeys(task.perturbations, 0)
    for problem in problems:
        seen: set[str] = set()
        for _ in range(per_problem if problem.gold is not None else 0):
            right = rng.random() < no_hint_share
            for _ in range(ATTEMPTS):
                if right:
                    pair, kind = critic_pair(task, problem, task.rephrase(problem, rng)), ""
                else:
                    pair, kind = _rarest(task, problem, rng, made)
                if pair.hypothesis not in seen:
                    seen.add(pair.hypothesis)
                    pairs.append(pair)
                    if kind:
                        made[kind] += 1
                    break
    return pairs


def _rarest(task: Task[Any], problem: Problem, rng: random.Random, made: Mapping[str, int]) -> tuple[CriticPair, str]:
    """A wrong pair of the kind that is rarest in `made` of those that the problem has a place for, and that kind."""
    order = sorted(rng.sample(list(made), len(made)), key=lambda kind: made[kind])
    for kind in order:
        pair = critic_pair(task, problem, task.perturb(problem, rng, kind))
        if kind not in task.fault_kinds or kind in {fault.kind for fault in pair.faults}:
            break
    return pair, kind
