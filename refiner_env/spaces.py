"""A Gymnasium space of text.

`gymnasium.spaces.Text` enumerates its characters and rejects ordinary language-model output; this one
accepts any string up to a length.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from hashlib import blake2b
from struct import pack
from typing import Any

import numpy as np
from gymnasium.spaces import Space

_PRINTABLE = bytes(ord(string.printable[i % len(string.printable)]) for i in range(256))
"""Every byte as a printable character."""


class TextSpace(Space[str]):
    """Every `str` of at most `max_length` characters."""

    def __init__(self, max_length: int = 100_000, seed: int | np.random.Generator | None = None) -> None:
        self.max_length = max_length
        super().__init__(dtype=str, seed=seed)

    def sample(self, mask: None = None, probability: None = None) -> str:
        """A random printable string of at most 32 characters."""
        longest = min(self.max_length, 32)
        # One number, spread by a hash: numpy takes ten times as long for so many bytes.
        drawn = blake2b(pack("d", self.np_random.random()), digest_size=1 + longest).digest()
        return drawn[1 : 1 + drawn[0] % (longest + 1)].translate(_PRINTABLE).decode("ascii")

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def to_jsonable(self, sample_n: Iterable[str]) -> list[str]:
        return list(sample_n)

    def from_jsonable(self, sample_n: list[Any]) -> list[str]:
        return [str(x) for x in sample_n]

    def __repr__(self) -> str:
        return f"TextSpace(max_length={self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextSpace) and other.max_length == self.max_length
