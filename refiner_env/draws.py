"""Random numbers that follow from what they are drawn for, and from nothing that comes before or beside it."""

from __future__ import annotations

import random
from collections.abc import Iterable

REMEMBERED = 1 << 16
"""Keys of which it is known how often they came up; the one that came up longest ago goes first."""


class Draws:
    """A generator for each time that a key comes up: the n-th follows from seed, key and n alone.

    So whoever draws by problem draws the same whatever else is in the batch, in whatever order episodes end, and
    whichever process plays them; only what comes up for the same problem has to keep its order.
    """

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self._times: dict[str, int] = {}

    def of(self, key: str) -> random.Random:
        """The generator of this key, this time."""
        times = self._times.pop(key, 0)
        self._times[key] = times + 1
        if len(self._times) > REMEMBERED:
            del self._times[next(iter(self._times))]
        # Of bytes, seeding is the same in every process; texts may hold lone surrogates.
        return random.Random(f"{self.seed}/{times}/{key}".encode(errors="surrogatepass"))

    def seeds(self, keys: Iterable[str]) -> list[int]:
        """A number for each of the keys, which come up in this order."""
        return [self.of(key).getrandbits(64) for key in keys]
