"""Figures of episodes per turn, and of a critic's feedback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.negatives import CriticPair
from refiner_env.agreement import CriticFigures
from refiner_env.types import Critic, Episode, ParseFailure, Task
from trainers.processes import gathered, share


@dataclass(frozen=True)
class TurnFigures:
    """How a set of episodes stands after `turns` turns. Fractions are in [0, 1]."""

    turns: int
    n: int
    ir_exact: float
    ir_equivalent: float
    answer_acc: float
    fixed: int
    """Problems wrong at turn 1 and right now (by `ir_equivalent`)."""
    broken: int
    """Problems right at turn 1 and wrong now."""
    mean_turns: float
    unparsable: float
    """Share of standing hypotheses that do not parse; they count as wrong."""
    critic_failures: int
    """Reviews so far in which the critic raised, hung or gave something else; the loop went on without it."""


def turn_figures(task: Task[Any], episodes: Sequence[Episode], turns: int) -> TurnFigures:
    """The figures after `turns` turns; an episode that ended earlier stands by its last hypothesis."""
    standing = [e.at(turns) for e in episodes]
    first = [e.at(1).scores.ir_equivalent for e in episodes]
    now = [t.scores.ir_equivalent for t in standing]
    n = len(episodes)
    return TurnFigures(
        turns=turns,
        n=n,
        ir_exact=sum(t.scores.ir_exact for t in standing) / n,
        ir_equivalent=sum(now) / n,
        answer_acc=sum(t.scores.answer for t in standing) / n,
        fixed=sum(b and not a for a, b in zip(first, now, strict=True)),
        broken=sum(a and not b for a, b in zip(first, now, strict=True)),
        mean_turns=sum(min(len(e.turns), turns) for e in episodes) / n,
        unparsable=sum(isinstance(task.parse(t.hypothesis), ParseFailure) for t in standing) / n,
        critic_failures=sum(bool(t.feedback.failure) for e in episodes for t in e.turns[:turns]),
    )


def critic_figures(task: Task[Any], critic: Critic, pairs: Sequence[CriticPair]) -> CriticFigures:
    """Review every pair in one call, of each process on its share, and compare with its oracle feedback."""
    mine = share(pairs)
    visible = [p.problem if critic.uses_gold else p.problem.without_gold() for p in mine]
    said = gathered(critic.critique(visible, [p.hypothesis for p in mine]))
    return CriticFigures.of(said, [task.read_feedback(p.feedback) for p in pairs])
