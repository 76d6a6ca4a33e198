"""Rollouts: agents act in environments, and episodes come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


def rollout(env: RefinerVectorEnv, agent: Agent, indices: Iterable[int]) -> Iterator[tuple[int, Episode]]:
    """One episode on each of these problems, however many: one that ends leaves, and the next takes its place.

    Args:
        env: a vector environment with autoreset disabled.
        indices: places in the environment's problems; taken as places become free, so they may be without end.

    Yields:
        (how many indices came before its own, the episode), in the order in which episodes end.
    """
    problems, waiting = env.referee.problems, enumerate(indices)
    playing: dict[int, tuple[int, int, list[Turn]]] = {}  # in which place: number, index, turns
    while True:
        free = [place for place in range(env.num_envs) if place not in playing]
        begun = dict(zip(free, waiting, strict=False))
        playing.update({place: (number, index, []) for place, (number, index) in begun.items()})
        if not playing:
            return
        if begun:
            mask = np.isin(np.arange(env.num_envs), list(begun))
            given = [playing[place][1] if place in playing else 0 for place in range(env.num_envs)]
            observations, _ = env.reset(options={"index": given, "reset_mask": mask})
        active = np.array(sorted(playing))
        actions = [""] * env.num_envs
        for place, action in zip(active, agent.act(select(observations, active)), strict=True):
            actions[place] = action
        observations, _, terminated, truncated, infos = env.step(actions)
        for place in active.tolist():
            playing[place][2].append(infos["turn"][place])
            if terminated[place] or truncated[place]:
                number, index, turns = playing.pop(place)
                yield number, Episode(problems[index], tuple(turns))


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
    ended = dict(rollout(env, agent, range(len(mine))))
    return gathered([ended[number] for number in range(len(mine))])
