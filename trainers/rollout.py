"""Rollouts: agents act in environments, and episodes come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from refiner_env.critics.boundary import ON_FAILURE
from refiner_env.envs import RefinerVectorEnv
from refiner_env.options import option
from refiner_env.types import Agent, Critic, Episode, Observations, Problem, Task, Turn
from trainers.processes import gathered, share

ON_CRITIC_FAILURE = option(
    "record", "what a failing critic does: record counts it and goes on, stop ends the run", choices=ON_FAILURE
)
CRITIC_TIMEOUT = option(0.0, "seconds that one call of a critic may take; 0 for any", low=0.0)


def select(observations: Observations, places: np.ndarray[Any, Any]) -> Observations:
    """The observations at these places only."""
    chosen: Observations = {
        "problem": [observations["problem"][i] for i in places],
        "hypothesis": [observations["hypothesis"][i] for i in places],
        "feedback": [observations["feedback"][i] for i in places],
        "turn": observations["turn"][places],
    }
    if "history" in observations:
        back = observations["history"]
        chosen["history"] = [{key: [texts[i] for i in places] for key, texts in turn.items()} for turn in back]
    return chosen


def rollout(env: RefinerVectorEnv, agent: Agent, indices: Sequence[int]) -> list[Episode]:
    """One episode on each of these problems; finished ones leave the batch.

    Args:
        env: a vector environment with autoreset disabled and at least len(indices) places.
        indices: places in the environment's problems.
    """
    observations, _ = env.reset(options={"index": indices})
    turns: list[list[Turn]] = [[] for _ in indices]
    active = np.arange(len(indices))
    while len(active):
        actions = [""] * env.num_envs
        for i, action in zip(active, agent.act(select(observations, active)), strict=True):
            actions[i] = action
        observations, _, terminated, truncated, infos = env.step(actions)
        for i in active:
            turns[i].append(infos["turn"][i])
        active = active[~(terminated | truncated)[active]]
    problems = env.referee.problems
    return [Episode(problems[i], tuple(t)) for i, t in zip(indices, turns, strict=True)]


def play(
    agent: Agent,
    task: Task[Any],
    problems: Sequence[Problem],
    *,
    critic: str | Critic,
    turns: int,
    stop: str,
    num_envs: int = 256,
    history: int = 1,
    on_critic_failure: str = "stop",
    critic_timeout: float | None = None,
) -> list[Episode]:
    """One episode on every problem, in order; several processes play a share each, and all get all episodes."""
    mine = share(problems)
    env = RefinerVectorEnv(
        max(1, min(num_envs, len(mine))),
        task=task,
        problems=mine or problems,
        critic=critic,
        max_turns=turns,
        stop=stop,
        history=history,
        on_critic_failure=on_critic_failure,
        critic_timeout=critic_timeout,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    episodes: list[Episode] = []
    for start in range(0, len(mine), env.num_envs):
        episodes += rollout(env, agent, range(start, min(start + env.num_envs, len(mine))))
    return gathered(episodes)
