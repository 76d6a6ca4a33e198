"""How far critics agree: with the oracle, and with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from refiner_env.types import Feedback


def faults_key(feedback: Feedback) -> list[tuple[str, str, str]]:
    """The faults that are named, in no order: kind, step and slot of each. Free words do not count."""
    return sorted((f.kind, str(f.step), str(f.slot)) for f in feedback.faults)


def agree(a: Feedback, b: Feedback) -> bool:
    """Whether two feedbacks say the same: the same verdict and the same faults. A failure agrees with nothing."""
    return not (a.failure or b.failure) and a.accepted is b.accepted and faults_key(a) == faults_key(b)


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
    kind_f1: float
    """F1 of the kinds of fault that it names, over all hypotheses (micro average); 1 where nobody names any."""

    @classmethod
    def of(cls, said: Sequence[Feedback], right: Sequence[Feedback]) -> CriticFigures:
        """What a critic said against what the oracle says, of at least one hypothesis. A failure accepts nothing."""
        both = list(zip(said, right, strict=True))

        def share(kind: bool, of_said: bool) -> float:
            chosen = [(s, r) for s, r in both if (s if of_said else r).accepted is kind]
            return sum(s.accepted is r.accepted for s, r in chosen) / len(chosen) if chosen else 0.0

        return cls(
            n=len(both),
            accepted=sum(s.accepted for s in said) / len(both),
            right=sum(r.accepted for r in right) / len(both),
            exact=sum(agree(s, r) for s, r in both) / len(both),
            accept_precision=share(True, of_said=True),
            accept_recall=share(True, of_said=False),
            reject_precision=share(False, of_said=True),
            reject_recall=share(False, of_said=False),
            kind_f1=_kind_f1(both),
        )

    def __str__(self) -> str:
        def of(verdict: str, share: float, precision: float, recall: float) -> str:
            if not share:
                return f"{verdict} none of them"
            return f"{verdict} {share:.0%} of them (precision {precision:.1%}, recall {recall:.1%})"

        return (
            f"feedback exactly right {self.exact:.1%}, F1 of kinds of fault {self.kind_f1:.1%}; "
            f"of {self.n} hypotheses {self.right:.0%} are right; "
            f"{of('accepts', self.accepted, self.accept_precision, self.accept_recall)}, "
            f"{of('rejects', 1 - self.accepted, self.reject_precision, self.reject_recall)}"
        )


def _kind_f1(both: Sequence[tuple[Feedback, Feedback]]) -> float:
    named = found = shared = 0
    for said, right in both:
        mine, theirs = (Counter(fault.kind for fault in feedback.faults) for feedback in (said, right))
        named, found, shared = named + mine.total(), found + theirs.total(), shared + (mine & theirs).total()
    return 2 * shared / (named + found) if named + found else 1.0
