"""What an environment draws from: a sequence of problems, or several named ones (splits)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from typing import Any, overload

import numpy as np

from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.types import Problem, Task

DEFAULT_SEED = 0
DEFAULT_SIZE = 10_000

ProblemSource = Sequence[Problem] | Mapping[str, Sequence[Problem]]


class ProceduralProblems(Sequence[Problem]):
    """The first `size` problems of a task's generator at one of its levels, made when they are asked for."""

    def __init__(
        self, task: Task[Any], seed: int = DEFAULT_SEED, size: int = DEFAULT_SIZE, level: str | None = None
    ) -> None:
        self.task, self.seed, self.size, self.level = task, seed, size, level

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> list[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | list[Problem]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(f"index {index} of {self.size} problems")
        return _generated(self.task, self.seed, index % self.size, self.level)


@lru_cache(maxsize=1 << 14)
def _generated(task: Task[Any], seed: int, index: int, level: str | None) -> Problem:
    return task.generate(seed, index, level)


class Problems:
    """The problems of an environment, by split; one split is in use.

    Args:
        source: a sequence, a mapping of names to sequences (the first is in use at first), or None for procedural ones.

    Raises:
        OptionError: it is none of these, or a sequence is empty.
    """

    def __init__(self, source: ProblemSource | None, task: Task[Any]) -> None:
        given = ProceduralProblems(task) if source is None else source
        self.splits: dict[str, Sequence[Problem]] = dict(given) if isinstance(given, Mapping) else {"": given}
        for name, problems in self.splits.items():
            what = f"problems[{name!r}]" if name else "problems"
            if not hasattr(problems, "__len__"):
                raise OptionError(
                    f"{what} is {problems!r:.80}: give a sequence of problems, or None for procedural ones."
                )
            if not len(problems):
                raise OptionError(f"{what} is empty: give at least one problem, or None for procedural ones.")
            first: Any = None if isinstance(problems, Set) else problems[0]  # from users, so it may be anything
            if not isinstance(first, Problem):
                raise OptionError(f"{what} is {problems!r:.80}: it must be a sequence of Problem.")
        if not self.splits:
            raise OptionError("problems is empty: give at least one split, or None for procedural problems.")
        self.split = next(iter(self.splits))

    @property
    def current(self) -> Sequence[Problem]:
        """Those of the split in use."""
        return self.splits[self.split]

    def use(self, split: Any) -> None:
        """Draw from this split from now on; None keeps the one in use.

        Raises:
            UnknownNameError: no such split.
        """
        if split is None:
            return
        if not isinstance(split, str) or split not in self.splits:
            raise UnknownNameError("split", str(split), [name for name in self.splits if name])
        self.split = split

    def checked(self, index: Any) -> int:
        """A place in the split in use.

        Raises:
            OptionError: there is no such place.
        """
        size = len(self.current)
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < size:
            raise OptionError(f"reset option index is {index!r}: there are {size} problems, 0 to {size - 1}.")
        return int(index)

    def draw(self, rng: np.random.Generator) -> int:
        """A place in the split in use, at random."""
        return int(rng.integers(len(self.current)))

    def info(self, index: int) -> dict[str, Any]:
        """What `reset` tells of the problem at a place: `uid` and `index`, and the `split` where there are several."""
        told = {"uid": self.current[index].uid, "index": index}
        return {**told, "split": self.split} if self.split else told
