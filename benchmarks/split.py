"""Where the time of a rollout goes: model, critic, tokenizer, environment, and what is left."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from gymnasium.vector import SyncVectorEnv

from agents.lm import LanguageModel
from benchmarks.rounds import now
from refiner_env.critics import Boundary
from refiner_env.envs import TextVectorEnv

OTHER, CRITIC = "other", "critic"
PARTS = ("generator", CRITIC, "tokenizer", "environment", OTHER)
WHERE: tuple[tuple[type[Any], str, str], ...] = (
    (LanguageModel, "generate", "generator"),
    (LanguageModel, "likeliest", "generator"),
    (LanguageModel, "prompt_rows", "tokenizer"),
    (LanguageModel, "texts", "tokenizer"),
    (Boundary, "ask", CRITIC),
    (TextVectorEnv, "reset", "environment"),
    (TextVectorEnv, "step", "environment"),
    (SyncVectorEnv, "reset", "environment"),
    (SyncVectorEnv, "step", "environment"),
)
"""Whose method is which part. What one calls of another is the other's, but what a critic calls is the critic's."""


class Split:
    """Seconds of each part, and how often it was called."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._inside, self._since = [OTHER], now()

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())

    def timed(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """The same method on this clock."""

        @functools.wraps(method)
        def on_the_clock(*arguments: Any, **named: Any) -> Any:
            if self._inside[-1] == CRITIC:
                return method(*arguments, **named)
            self.calls[part] += 1
            self._turn()
            self._inside.append(part)
            try:
                return method(*arguments, **named)
            finally:
                self._turn()
                self._inside.pop()

        return on_the_clock

    def _turn(self) -> None:
        time = now()
        self.seconds[self._inside[-1]] += time - self._since
        self._since = time

    @classmethod
    @contextmanager
    def taken(cls) -> Iterator[Split]:
        """Of all that happens inside."""
        split = cls()
        with ExitStack() as patches:
            for owner, name, part in WHERE:
                patches.enter_context(mock.patch.object(owner, name, split.timed(part, getattr(owner, name))))
            yield split
            split._turn()
