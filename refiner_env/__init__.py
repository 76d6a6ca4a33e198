"""Environments in which a language model writes an intermediate representation and a critic answers.

Importing this package registers the environments with Gymnasium:

    gym.make("refiner_env:Refiner/MathWordProblem-v0", critic="oracle", max_turns=4)
    gym.make_vec("refiner_env:Refiner/MathWordProblem-v0", num_envs=64)
"""

from refiner_env.critic_referee import AGENTS
from refiner_env.critics import (
    CRITIC_ACTS,
    CRITICS,
    NoCritic,
    OracleCritic,
    register_critic,
    register_entry_points,
    register_environment,
    resolve_critic,
)
from refiner_env.envs import CriticEnv, CriticVectorEnv, RefinerEnv, RefinerVectorEnv
from refiner_env.problems import ProceduralProblems
from refiner_env.rewards import REWARDS
from refiner_env.tasks import TASKS
from refiner_env.types import Agent, Attempt, Critic, Episode, Fault, Feedback, Problem, Scores, StopReason, Task, Turn

__version__ = "0.1.0"

for _task in TASKS.names():
    register_environment(f"Refiner/{_task}-v0", _task, "oracle")
    register_environment(f"Refiner/{_task}.{CRITIC_ACTS}-v0", _task)
register_entry_points()

__all__ = [
    "AGENTS",
    "CRITICS",
    "REWARDS",
    "TASKS",
    "Agent",
    "Attempt",
    "Critic",
    "CriticEnv",
    "CriticVectorEnv",
    "Episode",
    "Fault",
    "Feedback",
    "NoCritic",
    "OracleCritic",
    "Problem",
    "ProceduralProblems",
    "RefinerEnv",
    "RefinerVectorEnv",
    "Scores",
    "StopReason",
    "Task",
    "Turn",
    "register_critic",
    "register_environment",
    "resolve_critic",
]
