"""Figures of episodes per turn, and of a critic's feedback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.negatives import CriticPair
from refiner_env.types import Critic, Episode, ParseFailure, Task


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
    )


@dataclass(frozen=True)
class CriticFigures:
    """A critic against the oracle on the same hypotheses. Fractions are in [0, 1]."""

    n: int
    accepted: float
    """Share of hypotheses that it accepts."""
    right: float
    """Share that is right."""
    exact: float
    """Feedback with the same faults as the oracle's, in any order (accepting included)."""
    accept_precision: float
    """Of the hypotheses it accepts, the share that is right; 0 if it accepts none."""
    accept_recall: float
    """Of the right hypotheses, the share that it accepts; 0 if none is right."""
    reject_precision: float
    reject_recall: float

    def __str__(self) -> str:
        def of(verdict: str, share: float, precision: float, recall: float) -> str:
            if not share:
                return f"{verdict} none of them"
            return f"{verdict} {share:.0%} of them (precision {precision:.1%}, recall {recall:.1%})"

        return (
            f"feedback exactly right {self.exact:.1%}; of {self.n} hypotheses {self.right:.0%} are right; "
            f"{of('accepts', self.accepted, self.accept_precision, self.accept_recall)}, "
            f"{of('rejects', 1 - self.accepted, self.reject_precision, self.reject_recall)}"
        )


def critic_figures(task: Task[Any], critic: Critic, pairs: Sequence[CriticPair]) -> CriticFigures:
    """Review every pair in one call and compare with its oracle feedback."""
    visible = [p.problem if critic.uses_gold else p.problem.without_gold() for p in pairs]
    said = critic.critique(visible, [p.hypothesis for p in pairs])
    right = [task.read_feedback(p.feedback) for p in pairs]
    both = list(zip(said, right, strict=True))

    def share(kind: bool, of_said: bool) -> float:
        chosen = [(s, r) for s, r in both if (s if of_said else r).accepted is kind]
        return sum(s.accepted is r.accepted for s, r in chosen) / len(chosen) if chosen else 0.0

    def faults(feedback: Any) -> list[tuple[str, str, str]]:
        return sorted((f.kind, str(f.step), str(f.slot)) for f in feedback.faults)

    return CriticFigures(
        n=len(pairs),
        accepted=sum(s.accepted for s in said) / len(pairs),
        right=sum(r.accepted for r in right) / len(pairs),
        exact=sum(s.accepted is r.accepted and faults(s) == faults(r) for s, r in both) / len(pairs),
        accept_precision=share(True, of_said=True),
        accept_recall=share(True, of_said=False),
        reject_precision=share(False, of_said=True),
        reject_recall=share(False, of_said=False),
    )
