"""Rewards by name, by weighted sum, or as functions of an `Attempt`.

`equivalent`, `0.8*answer + 0.2*dense`, `equivalent - 0.1*turns`, `path/file.py:mine`, `{"dense": 0.5, mine: 1.0}`. The
parts of a reward are reported with every turn (`Turn.reward_parts`, `info["reward_parts"]`), before weights.

All but `turns` need gold: they are for training and measuring, and nobody who acts sees them before the turn is over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refiner_env.errors import OptionError
from refiner_env.registry import Registry
from refiner_env.types import Attempt, RewardFunction

REWARDS: Registry[RewardFunction] = Registry("reward", also=", or a weighted sum such as 0.8*answer + 0.2*dense")


def exact_match(attempt: Attempt) -> float:
    """1 for the same hypothesis as gold, spelling and spacing aside, else 0. Needs gold."""
    return float(attempt.scores.ir_exact)


def equivalent(attempt: Attempt) -> float:
    """1 for a hypothesis equivalent to gold, else 0. Needs gold."""
    return float(attempt.scores.ir_equivalent)


def answer(attempt: Attempt) -> float:
    """1 for a hypothesis that gives the gold answer, else 0. Needs gold."""
    return float(attempt.scores.answer)


def dense(attempt: Attempt) -> float:
    """The share of places (slots, steps) that are right, in [0, 1]. Needs gold."""
    return attempt.task.right_share(attempt.problem, attempt.hypothesis)


def bleu(attempt: Attempt) -> float:
    """Sentence BLEU-4 with gold, in [0, 1]: the reward of the paper's PPO baseline (RL4LMs). Needs gold."""
    from sacrebleu import sentence_bleu

    return min(1.0, sentence_bleu(attempt.hypothesis, [attempt.problem.gold or ""], tokenize="none").score / 100)


def improvement(attempt: Attempt) -> float:
    """Right now minus right the turn before, in {-1, 0, 1}; the first turn counts from wrong. Needs gold."""
    right = attempt.before is not None and attempt.task.score(attempt.problem, attempt.before).ir_equivalent
    return float(attempt.scores.ir_equivalent) - float(right)


def turns(attempt: Attempt) -> float:
    """1 for every turn after the first, 0 for that: with a negative weight, the price of another try. Needs no gold."""
    return float(attempt.turn > 0)


for _reward in (exact_match, equivalent, answer, dense, bleu, improvement, turns):
    REWARDS.register(_reward.__name__, _reward)


@dataclass(frozen=True)
class Reward:
    """A weighted sum of reward functions."""

    parts: tuple[tuple[str, float, RewardFunction], ...]
    """(name, weight, function)."""

    def __call__(self, attempt: Attempt) -> tuple[float, dict[str, float]]:
        """The reward, and its parts before weights."""
        total, values = 0.0, {}
        for name, weight, function in self.parts:
            given: Any = function(attempt)  # a user's function may give anything
            try:
                values[name] = value = float(given)
            except (TypeError, ValueError):
                value = math.nan
            if not math.isfinite(value):
                raise OptionError(f"The reward {name!r} gave {given!r:.80}: it must give a finite number.")
            total += weight * value
        return total, values


RewardSpec = str | Reward | RewardFunction | Mapping[str | RewardFunction, float]
"""Whatever names a reward."""

_PATH = re.compile(r"[^*+]*:\s*\w+")
"""`module:object` or `file.py:object`, which stand alone."""
_TERM = re.compile(r"\s*(?P<sign>[+-]?)\s*(?:(?P<weight>[0-9.]+(?:[eE][+-]?[0-9]+)?)\s*\*\s*)?(?P<name>\w+)\s*")


def resolve_reward(reward: RewardSpec) -> Reward:
    """A reward from a name, a sum, `module:object`, `file.py:object`, a function, or a mapping of these to weights.

    Raises:
        UnknownNameError: a name is not registered; OptionError: a weight is no number, or a sum cannot be read.
    """
    if isinstance(reward, Reward):
        return reward
    if isinstance(reward, str):
        given: Mapping[str | RewardFunction, float] = {reward: 1.0} if _PATH.fullmatch(reward) else _terms(reward)
    elif isinstance(reward, Mapping):
        given = reward
    else:
        given = {reward: 1.0}
    if not given:
        raise OptionError("reward is empty: give a name, a function, or a mapping of these to weights.")
    parts: dict[str, tuple[str, float, RewardFunction]] = {}
    pairs: Any = given.items()  # from users, so nothing is sure yet
    for part, weight in pairs:
        function: Any = REWARDS.resolve(part) if isinstance(part, str) else part
        if not callable(function):
            raise OptionError(f"reward is {part!r}: give a name or a function of an Attempt.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise OptionError(f"The weight of the reward {part!r} is {weight!r}: it must be a finite number.")
        name = getattr(function, "__name__", type(function).__name__)
        name = name if name not in parts else f"{name} {len(parts)}"
        parts[name] = (name, float(weight), function)
    return Reward(tuple(parts.values()))


def _terms(text: str) -> dict[str | RewardFunction, float]:
    """`0.8*answer + 0.2*dense - turns` -> {answer: 0.8, dense: 0.2, turns: -1}."""
    terms: dict[str | RewardFunction, float] = {}
    place = 0
    while place < len(text) or not terms:
        match = _TERM.match(text, place)
        if not match or (terms and not match["sign"]):
            raise OptionError(
                f"The reward {text!r} cannot be read: write a name, or a sum as 0.8*answer + 0.2*dense; what is named "
                "module:object or file.py:object stands alone."
            )
        try:
            weight = float(match["weight"] or 1)
        except ValueError:
            raise OptionError(f"The reward {text!r} has the weight {match['weight']!r}: it must be a number.") from None
        terms[match["name"]] = terms.get(match["name"], 0.0) + (-weight if match["sign"] == "-" else weight)
        place = match.end()
    return terms
