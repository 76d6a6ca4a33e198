"""What an agent has tried in an episode, so that it does not propose it again."""

from __future__ import annotations

from collections.abc import Sequence

from refiner_env.types import Observations


class Memory:
    """The hypotheses of each problem's episode so far.

    Episodes are told apart by the problem's text; the first turn begins one. Equal problems side by side share one
    memory, which asks for no care: at equal turns they have tried the same.
    """

    def __init__(self) -> None:
        self._tried: dict[str, set[str]] = {}

    def tried(self, observations: Observations) -> list[frozenset[str]]:
        """What was tried before, for each observation."""
        rows = zip(observations["problem"], observations["turn"], strict=True)
        return [frozenset(self._tried.get(problem, ()) if turn else ()) for problem, turn in rows]

    def add(self, observations: Observations, hypotheses: Sequence[str]) -> None:
        """Remember what is proposed now."""
        for problem, turn in zip(observations["problem"], observations["turn"], strict=True):
            if not turn:
                self._tried[problem] = set()
        for problem, hypothesis in zip(observations["problem"], hypotheses, strict=True):
            self._tried.setdefault(problem, set()).add(hypothesis)
