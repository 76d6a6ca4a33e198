"""Seeded batches over problems. A batch is a function of its number, so a resumed training finds its place by it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache


def batch(size: int, batch_size: int, seed: int, number: int) -> list[int]:
    """The indices of batch `number`, from 0: each pass over 0..size-1 in a new order, batches always full.

    Texts of different length share a batch on purpose: sorting them by length saves padding, but length tells
    the kind of story, and batches of one kind trained worse than mixed ones.
    """
    places = range(number * batch_size, (number + 1) * batch_size)
    return [_order(size, seed, place // size)[place % size] for place in places]


@lru_cache(maxsize=64)
def _order(size: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"order {seed} {epoch}").sample(range(size), size)


def share_of(items: Sequence[int], share: float, rng: random.Random) -> list[int]:
    """A seeded share of the items, at least one, in their order."""
    count = max(1, round(share * len(items)))
    return sorted(rng.sample(list(items), count))
