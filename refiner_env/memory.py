"""What an agent has tried in an episode, so that it does not propose it again."""

from __future__ import annotations

from collections.abc import Sequence

from refiner_env.types import Observations

REMEMBERED = 1 << 16
"""Hypotheses held; the oldest go first."""


class Memory:
    """What was tried in each episode so far, the hypothesis shown included, whoever wrote it.

    An episode goes on where this hypothesis of this problem was proposed the turn before; that tells apart episodes on
    equal problems, one after the other or side by side. An episode may begin with somebody else's hypothesis.
    """

    def __init__(self) -> None:
        self._tried: dict[tuple[str, int, str], frozenset[str]] = {}

    def tried(self, observations: Observations) -> list[frozenset[str]]:
        """What was tried before, for each observation."""
        rows = zip(observations["problem"], observations["turn"].tolist(), observations["hypothesis"], strict=True)
        return [self._tried.get((x, turn - 1, z), frozenset([z])) if turn else frozenset() for x, turn, z in rows]

    def add(self, observations: Observations, hypotheses: Sequence[str]) -> None:
        """Remember what is proposed now."""
        turns, before = observations["turn"].tolist(), self.tried(observations)
        for x, turn, tried, z in zip(observations["problem"], turns, before, hypotheses, strict=True):
            self._tried.pop((x, turn, z), None)  # to the end of the line
            self._tried[x, turn, z] = tried | {z}
        while len(self._tried) > REMEMBERED:
            del self._tried[next(iter(self._tried))]
