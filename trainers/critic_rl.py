"""The critic as a policy: trained by what its feedback is worth to a frozen generator.

REINFORCE with group-relative advantages, as CTRL (arXiv 2502.03492) trains critics: for each hypothesis several
feedbacks are sampled, each is paid in the critic's environment (`refiner_env.critic_referee`), and its advantage is the
reward above the mean of its group. One update for each rollout, so there are no ratios to clip, and no value model.
"""

from __future__ import annotations

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
from trainers.batches import batch
from trainers.learning import Learner, Outcome, Run, fit, step_seed
from trainers.processes import gathered, most_of, share, total


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
    run: Run = Run(),
) -> Outcome:
    """Train the critic `lm` in place; the weights whose greedy feedback earns most on `dev` stay.

    Args:
        generator: who answers, frozen: whatever `resolve_agent` accepts.

    Returns:
        What it spent, and by `greedy_reward` and `sampled_reward` the mean rewards of greedy and of sampled feedback on
        `dev`, before training and at every check. Sampled feedback is what training improves, greedy what a critic
        gives.
    """
    env = _environment(most_of(options.batch_size) * options.samples, task, train, generator, options)
    mine = share(dev)
    judged = _environment(max(1, len(mine)), task, mine or dev, generator, options)

    def step(learner: Learner, number: int) -> dict[str, float]:
        order = batch(len(train), options.batch_size, step_seed(run.seed, "problems"), number)
        return {"reward": critic_rl_step(learner, env, share(order), options.samples, step_seed(run.seed, number))}

    def earned(top_p: float | None) -> float:
        observations, _ = judged.reset(seed=run.seed, options={"index": range(len(mine))})
        prompts = critic_prompts(observations["problem"], observations["hypothesis"])
        seeds = [step_seed(run.seed, "score", prompt) for prompt in prompts]
        rewards = judged.step(lm.generate(prompts, top_p=top_p, seeds=seeds))[1]
        return float(np.mean(gathered(rewards[: len(mine)].tolist())))

    return fit(
        lm,
        step,
        run,
        learning_rate=options.learning_rate,
        steps=options.steps,
        score=lambda: {"greedy_reward": earned(None), "sampled_reward": earned(1.0)},
        score_start=True,
        writers=[lm],
    )


def critic_rl_step(learner: Learner, env: CriticVectorEnv, places: Sequence[int], samples: int, seed: int) -> float:
    """Gradients of one rollout of `samples` feedbacks on each of this process's hypotheses.

    Returns:
        The rollout's mean reward, over all processes.
    """
    observations, _ = env.reset(seed=seed % 2**32, options={"index": places})
    # One hypothesis for each group, or its rewards could not be compared.
    groups = [(i, z) for i, z in zip(places, observations["hypothesis"], strict=False) for _ in range(samples)]
    observations, _ = env.reset(options={"index": [i for i, _ in groups], "hypothesis": [z for _, z in groups]})
    prompts = critic_prompts(observations["problem"], observations["hypothesis"])
    seeds = [step_seed(seed, i, k % samples) for k, (i, _) in enumerate(groups)]
    feedback = learner.lm.generate(prompts, top_p=1.0, seeds=seeds)
    rewards = env.step(feedback)[1]
    advantages = group_advantages(rewards, samples)
    told = np.flatnonzero(advantages)  # a group whose feedbacks all earn the same teaches nothing
    learning, everything, earned = total(len(told), len(prompts), float(rewards.sum()))
    if learning:
        uids = [env.referee.problems[groups[i][0]].uid for i in told]
        chosen = [prompts[i] for i in told], [feedback[i] for i in told]
        learner.backward(uids, *chosen, weight=learning / everything, weights=advantages[told].tolist())
    return earned / everything


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
