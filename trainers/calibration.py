"""The threshold of a learned critic: what it accepts is chosen by what refinement gains on development problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.critic import LearnedCritic
from agents.generator import Generator
from agents.lm import LanguageModel
from refiner_env.types import Episode, Problem, Task
from trainers.rollout import play

NEVER_ACCEPT = 2.0
CANDIDATES = 40


def calibrated(
    critic: LearnedCritic,
    generator: LanguageModel,
    task: Task[Any],
    dev: Sequence[Problem],
    turns: int,
    history: int = 1,
) -> LearnedCritic:
    """The critic with the threshold under which `generator` is most often right on `dev` after `turns` turns.

    One rollout in which nothing is accepted tells the outcome of every threshold: feedback and the next hypothesis
    do not depend on it, only the turn at which an episode stops. The lowest of equally good thresholds is taken, as
    it leaves most hypotheses alone.
    """
    strict = critic.with_threshold(NEVER_ACCEPT)
    episodes = play(Generator(generator), task, dev, critic=strict, turns=turns, stop="never", history=history)
    seen = sorted(p for e in episodes for t in e.turns if (p := t.feedback.accept_probability) is not None)
    candidates = [0.0, *(seen[i * (len(seen) - 1) // CANDIDATES] for i in range(1, CANDIDATES + 1)), NEVER_ACCEPT]
    return critic.with_threshold(max(candidates, key=lambda threshold: _right(episodes, threshold)))


def _right(episodes: Sequence[Episode], threshold: float) -> int:
    """How many episodes end right when each stops at its first turn of at least this probability, if any."""
    total = 0
    for episode in episodes:
        accepted = (t for t in episode.turns if (t.feedback.accept_probability or 0.0) >= threshold)
        total += next(accepted, episode.at(len(episode.turns))).scores.ir_equivalent
    return total
