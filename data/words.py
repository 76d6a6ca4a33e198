"""Common English words in groups (`words.txt`), for exercises and for variations of a problem."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def word_groups() -> Mapping[str, tuple[str, ...]]:
    """Group -> its words: first names (`she`, `he`), plural `things`, `people`, `units`, `verbs`, ..."""
    text = Path(__file__).with_name("words.txt").read_text(encoding="utf-8").replace("\n  ", " ")
    groups = (line.split(": ") for line in text.strip().split("\n"))
    return {group: tuple(words.split()) for group, words in groups}
