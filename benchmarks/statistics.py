"""Means and 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float


def interval(fractions: Sequence[float], n: int) -> Interval:
    """The mean of one fraction per seed.

    Several seeds: Student's t over seeds. One seed: Wilson's score interval over its `n` problems, which
    says nothing about other seeds.
    """
    from scipy import stats

    mean = sum(fractions) / len(fractions)
    if len(fractions) == 1:
        low, high = stats.binomtest(round(mean * n), n).proportion_ci(CONFIDENCE, method="wilson")
        return Interval(mean, float(low), float(high))
    half = _half(fractions)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """The mean of a - b over two or more seeds, paired by seed: Student's t."""
    apart = [x - y for x, y in zip(a, b, strict=True)]
    mean, half = sum(apart) / len(apart), _half(apart)
    return Interval(mean, mean - half, mean + half)


def _half(values: Sequence[float]) -> float:
    """Half of Student's interval of the mean."""
    from scipy import stats

    mean, n = sum(values) / len(values), len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)
