"""Endless seeded batches over problems."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from refiner_env.types import Problem

POOL = 16
"""Batches drawn at once, at most, and sorted by length: padding falls from a third of a batch of stories to a tenth."""


def shuffled(problems: Sequence[Problem], batch_size: int, rng: random.Random) -> Iterator[list[int]]:
    """Endless batches of places in `problems`, always full, each place once a pass.

    A batch holds texts of similar length; which ones, and the order of the batches, is random.
    """
    # At most one pass is sorted at once: sorting several would put the copies of a problem into one batch.
    n_batches = max(1, min(POOL, len(problems) // batch_size))
    size = n_batches * batch_size
    order: list[int] = []
    while True:
        while len(order) < size:
            order += rng.sample(range(len(problems)), len(problems))
        pool, order = sorted(order[:size], key=lambda i: len(problems[i].text)), order[size:]
        yield from rng.sample([pool[i : i + batch_size] for i in range(0, size, batch_size)], n_batches)


def share_of(items: Sequence[int], share: float, rng: random.Random) -> list[int]:
    """A seeded share of the items, at least one, in their order."""
    count = max(1, round(share * len(items)))
    return sorted(rng.sample(list(items), count))
