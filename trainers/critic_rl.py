"""The critic as a policy: trained by what its feedback is worth to a frozen generator.

REINFORCE with group-relative advantages, as CTRL (arXiv 2502.03492) trains critics: for each hypothesis several
feedbacks are sampled, each is paid in the critic's environment (`refiner_env.critic_referee`), and its advantage is the
reward above the mean of its group. One update for each rollout, so there are no ratios to clip, and no value model.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from agents.lm import LanguageModel
from agents.prompts import critic_prompts
from refiner_env.envs import CriticVectorEnv
from refiner_env.options import option
from refiner_env.types import Agent, Problem, Task
from trainers.batches import shuffled
from trainers.learning import CHECKS, BestWeights, Learner, Spent
from trainers.progress import Update


@dataclass(frozen=True)
class CriticRLOptions:
    """Reinforcement learning of a critic."""

    steps: int = option(120, "optimizer steps", low=1)
    batch_size: int = option(16, "hypotheses a step", low=1)
    samples: int = option(8, "feedbacks sampled for each hypothesis", low=2)
    learning_rate: float = option(1e-4, "peak AdamW learning rate", low=0.0, high=1.0)
    reward: str = option("equivalent", "what a hypothesis is worth, by name or as a sum; the critic is paid the gain")
    judgment_weight: float = option(1.0, "reward for being right about right and wrong", low=0.0)
    first: str = option(
        "perturbation",
        "what is reviewed: perturbations of gold, or what the generator writes by itself",
        choices=("perturbation", "generator"),
    )
    right_share: float = option(
        0.5, "share of perturbations that are none, to be accepted; less pays for rejecting all", low=0.0, high=1.0
    )


def train_critic_rl(
    lm: LanguageModel,
    task: Task[Any],
    train: Sequence[Problem],
    dev: Sequence[Problem],
    generator: str | Agent,
    options: CriticRLOptions,
    *,
    seed: int,
    update: Update,
) -> tuple[Spent, list[tuple[float, float]]]:
    """Train the critic `lm` in place; the weights whose greedy feedback earns most on `dev` stay.

    Args:
        generator: who answers, frozen: whatever `resolve_agent` accepts.

    Returns:
        What it spent, and the mean rewards of greedy and of sampled feedback on `dev`, before training and at every
        check. Sampled feedback is what training improves, greedy feedback what a critic gives.
    """
    started, rng, written = time.monotonic(), random.Random(seed), lm.generated_tokens
    learner = Learner(lm, options.learning_rate)
    size = options.batch_size * options.samples
    env = _environment(size, task, train, generator, options)
    judged = _environment(len(dev), task, dev, generator, options)
    rewards: list[tuple[float, float]] = []

    def earned(top_p: float | None) -> float:
        observations, _ = judged.reset(seed=seed, options={"index": range(len(dev))})
        prompts = critic_prompts(observations["problem"], observations["hypothesis"])
        return float(judged.step(lm.generate(prompts, top_p=top_p))[1].mean())

    def score() -> float:
        rewards.append((earned(None), earned(1.0)))
        return rewards[-1][0]

    best = BestWeights(lm, score)
    best.check()
    batches = shuffled(len(train), options.batch_size, rng)
    env.reset(seed=seed)
    for step in range(options.steps):
        reward = critic_rl_step(learner, env, next(batches), options.samples)
        learner.step(step / options.steps)
        done = (step + 1) / options.steps
        if done * CHECKS >= len(rewards):
            best.check()
        greedy, sampled = rewards[-1]
        update(done, step=step + 1, reward=reward, dev_reward=greedy, dev_sampled_reward=sampled)
    best.restore()
    learner.spent.rollout_tokens = lm.generated_tokens - written
    learner.spent.wall_s = time.monotonic() - started
    learner.spent.cut_prompts = lm.cut_prompts
    return learner.spent, rewards


def critic_rl_step(learner: Learner, env: CriticVectorEnv, batch: Sequence[int], samples: int) -> float:
    """Gradients of one rollout of `samples` feedbacks on each hypothesis. Returns the rollout's mean reward."""
    observations, _ = env.reset(options={"index": batch})
    # One hypothesis for each group, or its rewards could not be compared.
    groups = [(i, z) for i, z in zip(batch, observations["hypothesis"], strict=False) for _ in range(samples)]
    observations, _ = env.reset(options={"index": [i for i, _ in groups], "hypothesis": [z for _, z in groups]})
    prompts = critic_prompts(observations["problem"], observations["hypothesis"])
    feedback = learner.lm.generate(prompts, top_p=1.0)
    rewards = env.step(feedback)[1]
    advantages = group_advantages(rewards, samples)
    told = np.flatnonzero(advantages)  # a group whose feedbacks all earn the same teaches nothing
    if len(told):
        chosen = [prompts[i] for i in told], [feedback[i] for i in told]
        learner.backward(*chosen, weight=len(told) / len(prompts), weights=advantages[told].tolist())
    return float(rewards.mean())


def group_advantages(rewards: np.ndarray[Any, Any], samples: int) -> np.ndarray[Any, Any]:
    """Rewards above the mean of their group. Shape (groups * samples,), groups side by side, in and out."""
    groups: np.ndarray[Any, Any] = rewards.reshape(-1, samples)
    above: np.ndarray[Any, Any] = groups - groups.mean(1, keepdims=True)
    return above.reshape(-1)


def _environment(
    size: int, task: Task[Any], problems: Sequence[Problem], generator: str | Agent, options: CriticRLOptions
) -> CriticVectorEnv:
    return CriticVectorEnv(
        size,
        AutoresetMode.DISABLED,
        task=task,
        problems=problems,
        generator=generator,
        reward=options.reward,
        max_turns=1,
        first=options.first,
        right_share=options.right_share,
        judgment_weight=options.judgment_weight,
    )
