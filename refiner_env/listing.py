"""`refiner envs`: what there is to act in."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import gymnasium as gym
from rich.console import Console
from rich.table import Column, Table

from refiner_env.critics import CRITICS
from refiner_env.rewards import REWARDS
from refiner_env.tasks import TASKS


def main(argv: Sequence[str]) -> int:
    """Print every environment id with its critic, and the rewards."""
    description = "List environment ids, with the critic inside and whether it sees gold, and the rewards by name."
    argparse.ArgumentParser(prog="refiner envs", description=description).parse_args(argv)
    console = Console()
    table = Table(Column("id", no_wrap=True), "critic", "sees gold", "what the critic does", title="Environments")
    for id, spec in gym.registry.items():
        if id.startswith("Refiner/"):
            name = spec.kwargs["critic"]
            critic = CRITICS.resolve(name)(TASKS.resolve(spec.kwargs["task"])())
            table.add_row(id, name, "yes" if critic.uses_gold else "no", _first_line(type(critic).__doc__))
    console.print(table)
    rewards = Table("reward", "what it pays", title="Rewards (all need gold)")
    for name in REWARDS.names():
        rewards.add_row(name, _first_line(REWARDS.resolve(name).__doc__))
    console.print(rewards)
    return 0


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]
