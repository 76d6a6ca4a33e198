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
from trainers.learning import Learner, fit, step_seed
from trainers.processes import gathered, share, together, total
from trainers.runs import Outcome, Run


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
    env = _environment(options.batch_size * options.samples, task, train, generator, options)
    judged = _environment(len(dev), task, dev, generator, options)

    def step(learner: Learner, number: int) -> dict[str, float]:
        order = batch(len(train), options.batch_size, step_seed(run.seed, "problems"), number)
        return {"reward": critic_rl_step(learner, env, order, options.samples, step_seed(run.seed, number))}

    def earned(top_p: float | None) -> float:
        prompts = _review(judged, share(_firsts(judged, range(len(dev)), run.seed)))
        seeds = [step_seed(run.seed, "score", prompt) for prompt in prompts]
        return float(np.mean(gathered(_answer(judged, lm.generate(prompts, top_p=top_p, seeds=seeds)).tolist())))

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
    """Gradients of one rollout: `samples` feedbacks on each hypothesis of this process's share.

    Args:
        env: of at least as many sub-environments as `places`, and as feedbacks of a share.
        places: of all processes' problems.

    Returns:
        The rollout's mean reward, over all processes.
    """
    # One hypothesis for each group, or its rewards could not be compared.
    mine = set(together(places))
    groups = [(i, z) for i, z in _firsts(env, places, seed % 2**32) if i in mine for _ in range(samples)]
    prompts = _review(env, groups)
    seeds = [step_seed(seed, i, k % samples) for k, (i, _) in enumerate(groups)]
    with learner.whole():
        feedback = learner.lm.generate(prompts, top_p=1.0, seeds=seeds)
    rewards = _answer(env, feedback)
    advantages = group_advantages(rewards, samples)
    told = np.flatnonzero(advantages)  # a group whose feedbacks all earn the same teaches nothing
    learning, everything, earned = total(len(told), len(prompts), float(rewards.sum()))
    if learning:
        uids = [env.referee.problems[groups[i][0]].uid for i in told]
        chosen = [prompts[i] for i in told], [feedback[i] for i in told]
        learner.backward(uids, *chosen, weight=learning / everything, weights=advantages[told].tolist())
    return earned / everything


def _firsts(env: CriticVectorEnv, places: Sequence[int], seed: int) -> list[tuple[int, str]]:
    """These problems' places with the hypotheses to review: every process draws all, so that all agree."""
    observations, _ = env.reset(seed=seed, options={"index": places})
    return list(zip(places, observations["hypothesis"], strict=False))


def _review(env: CriticVectorEnv, firsts: Sequence[tuple[int, str]]) -> list[str]:
    """Put these hypotheses up for review, and return the critic's prompts."""
    given = {"index": [i for i, _ in firsts], "hypothesis": [z for _, z in firsts]}
    observations, _ = env.reset(options=given)
    n = len(firsts)
    return critic_prompts(observations["problem"][:n], observations["hypothesis"][:n])


def _answer(env: CriticVectorEnv, feedback: Sequence[str]) -> np.ndarray[Any, Any]:
    """The rewards of this feedback; sub-environments without any sit out."""
    rewards: np.ndarray[Any, Any] = env.step([*feedback, *[""] * (env.num_envs - len(feedback))])[1]
    return rewards[: len(feedback)]


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
