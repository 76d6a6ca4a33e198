"""`refiner envs`: what there is to act in."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import packages_distributions

import gymnasium as gym
from rich.console import Console
from rich.table import Column, Table

from refiner_env.critics import CRITICS, Deferred
from refiner_env.errors import reason
from refiner_env.options import Parser
from refiner_env.rewards import REWARDS
from refiner_env.tasks import MathWordProblem


def main(argv: Sequence[str]) -> int:
    """Print all critics, environment ids and rewards."""
    description = "List critics, whether they see gold and where they come from; environment ids; rewards."
    Parser(prog="refiner envs", description=description).parse_args(argv)
    console = Console(markup=False, emoji=False)  # what packages say of themselves may hold brackets
    critics = {name: _described(name) for name in CRITICS.names()}
    table = Table("critic", "gold", "from", "what it does", title="Critics")
    for name, (gold, origin, doc) in critics.items():
        table.add_row(name, gold, origin, doc)
    console.print(table)
    folded = [Column(heading, overflow="fold") for heading in ("critic", "gold", "from")]
    ids = Table(Column("id", no_wrap=True), *folded, title="Environments")
    for id, spec in gym.registry.items():
        if id.startswith("Refiner/"):
            critic = spec.kwargs.get("critic", "")
            gold, origin, _ = critics[critic] if critic else ("no", "refiner-env", "")
            ids.add_row(id, critic or "the one who acts", gold, origin)
    console.print(ids)
    rewards = Table("reward", "what it pays", title="Rewards, by name or as a sum: 0.8*answer + 0.2*dense")
    for name in REWARDS.names():
        rewards.add_row(name, _first_line(REWARDS.resolve(name).__doc__))
    console.print(rewards)
    return 0


def _described(name: str) -> tuple[str, str, str]:
    """(whether it sees gold, where it comes from, what it does) of a critic that is made without arguments."""
    factory = CRITICS.resolve(name)
    origin = factory.origin if isinstance(factory, Deferred) else ""
    try:
        if isinstance(factory, Deferred) and factory.uses_gold is None:
            factory = factory.load()
        known = factory.uses_gold if isinstance(factory, Deferred) else None
        gold = factory(MathWordProblem()).uses_gold if known is None else known
    except Exception as error:  # a package of somebody else's may fail in any way
        return "?", origin, f"cannot be made: {reason(error)}"
    return "yes" if gold else "no", origin or _distribution(factory), _first_line(factory.__doc__)


def _distribution(factory: object) -> str:
    """The distribution that an object's module belongs to, or the module where none is installed."""
    module: str = getattr(factory, "__module__", "")
    top = module.partition(".")[0]
    names = ["refiner-env"] if top == "refiner_env" else packages_distributions().get(top, [module])
    return names[0]


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]
