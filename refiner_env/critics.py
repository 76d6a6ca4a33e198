"""Critics that need no model, and how critics are named.

A critic's factory takes the task and returns the critic. Wherever a critic is named, `resolve_critic`
accepts a registered name, `package.module:object`, `path/file.py:object`, or the folder of a learned
critic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from refiner_env.errors import OptionError
from refiner_env.registry import Registry, load_object
from refiner_env.tasks import TASKS
from refiner_env.types import Critic, Feedback, Problem, Task

CriticFactory = Callable[[Task[Any]], Critic]
CRITICS: Registry[CriticFactory] = Registry("critic", also=", or the folder of a learned critic")


class OracleCritic(Critic):
    """Compares with gold and names every fault. For training, and as the upper bound of feedback."""

    uses_gold = True

    def __init__(self, task: Task[Any]) -> None:
        self.task = task

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        pairs = zip(problems, hypotheses, strict=True)
        return [self.task.feedback(self.task.diagnose(problem, hypothesis)) for problem, hypothesis in pairs]


class NoCritic(Critic):
    """Says nothing and accepts nothing: what is left is trying again."""

    def __init__(self, task: Task[Any]) -> None:
        pass

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return [Feedback(accepted=False, text="")] * len(hypotheses)


def register_critic(name: str, factory: CriticFactory) -> None:
    """Make a critic usable by name, and register its environment `Refiner/<Task>.<name>-v0` for every task."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise OptionError(f"The critic name {name!r} makes no environment id: use letters, digits, '_', '-' and '.'.")
    CRITICS.register(name, factory)
    for task in TASKS.names():
        register_environment(f"Refiner/{task}.{name}-v0", task, name)


def register_environment(id: str, task: str, critic: str) -> None:
    """Register one environment id, single and vector."""
    gym.register(
        id,
        entry_point="refiner_env.envs:RefinerEnv",
        vector_entry_point="refiner_env.envs:RefinerVectorEnv",
        kwargs={"task": task, "critic": critic},
    )


def resolve_critic(critic: str | Critic, task: Task[Any]) -> Critic:
    """A critic from its name, `module:object`, `file.py:object`, the folder of a learned critic, or itself."""
    if isinstance(critic, Critic):
        return critic
    if not isinstance(critic, str):
        raise OptionError(f"critic is {critic!r}: give a name, a path or a Critic.")
    if critic not in CRITICS.names() and (Path(critic) / "config.json").is_file():
        loaded: Critic = load_object("agents.critic:LearnedCritic").load(critic, task)
        return loaded
    return CRITICS.resolve(critic)(task)
