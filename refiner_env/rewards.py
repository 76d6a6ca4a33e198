"""Rewards by name. Each looks at one turn and gives a number in [0, 1]; all of them need gold."""

from __future__ import annotations

from refiner_env.errors import OptionError
from refiner_env.registry import Registry
from refiner_env.types import Problem, RewardFunction, Scores

REWARDS: Registry[RewardFunction] = Registry("reward")


def exact_match(problem: Problem, hypothesis: str, scores: Scores) -> float:
    """1 for the same hypothesis as gold, spelling and spacing aside."""
    return float(scores.ir_exact)


def equivalent(problem: Problem, hypothesis: str, scores: Scores) -> float:
    """1 for a hypothesis equivalent to gold."""
    return float(scores.ir_equivalent)


def answer(problem: Problem, hypothesis: str, scores: Scores) -> float:
    """1 for a hypothesis that gives the gold answer."""
    return float(scores.answer)


def bleu(problem: Problem, hypothesis: str, scores: Scores) -> float:
    """Sentence BLEU-4 against gold, the reward of the paper's PPO baseline (RL4LMs), by sacrebleu."""
    from sacrebleu import sentence_bleu

    return min(1.0, sentence_bleu(hypothesis, [problem.gold or ""], tokenize="none").score / 100)


for _reward in (exact_match, equivalent, answer, bleu):
    REWARDS.register(_reward.__name__, _reward)


def resolve_reward(reward: str | RewardFunction) -> RewardFunction:
    """A reward function from its name, `module:object`, `file.py:object`, or itself."""
    function = REWARDS.resolve(reward) if isinstance(reward, str) else reward
    if not callable(function):
        raise OptionError(f"reward is {reward!r}: give a name or a function of problem, hypothesis and scores.")
    return function
