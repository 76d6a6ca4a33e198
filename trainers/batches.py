"""Endless seeded batches over problems."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence


def shuffled(size: int, batch_size: int, rng: random.Random) -> Iterator[list[int]]:
    """Index batches: each pass over 0..size-1 in a new order, every index once a pass, batches always full.

    Texts of different length share a batch on purpose: sorting them by length saves padding, but length tells
    the kind of story, and batches of one kind trained worse than mixed ones.
    """
    order: list[int] = []
    while True:
        while len(order) < batch_size:
            order += rng.sample(range(size), size)
        yield order[:batch_size]
        order = order[batch_size:]


def share_of(items: Sequence[int], share: float, rng: random.Random) -> list[int]:
    """A seeded share of the items, at least one, in their order."""
    count = max(1, round(share * len(items)))
    return sorted(rng.sample(list(items), count))
