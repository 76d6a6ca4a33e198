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
    deviation = math.sqrt(sum((f - mean) ** 2 for f in fractions) / (len(fractions) - 1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(fractions) - 1)) * deviation / math.sqrt(len(fractions))
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))
