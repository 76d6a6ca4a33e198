"""Supervised training of the generator without a critic: p(z | x)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agents.generator import Generator
from agents.lm import LanguageModel
from agents.prompts import generator_prompt
from refiner_env.options import option
from refiner_env.types import Problem, Task
from trainers.batches import share_of, shuffled
from trainers.evaluation import turn_figures
from trainers.learning import Batch, Spent, fit
from trainers.progress import Update
from trainers.rollout import play


@dataclass(frozen=True)
class WarmStartOptions:
    """Supervised warm start. The paper uses 10% of the training data (section 4)."""

    steps: int = option(600, "optimizer steps", low=1)
    batch_size: int = option(64, "problems a step", low=1)
    learning_rate: float = option(1e-3, "peak AdamW learning rate", low=0.0, high=1.0)
    share: float = option(1.0, "share of the training problems that the warm start may see", low=0.0, high=1.0)


def warm_start(
    lm: LanguageModel,
    task: Task[Any],
    train: Sequence[Problem],
    dev: Sequence[Problem],
    options: WarmStartOptions,
    *,
    seed: int,
    update: Update,
) -> Spent:
    """Train `lm` in place on `warm_start_share` of the problems; the best weights on `dev` stay."""
    seen = [train[i] for i in warm_start_share(len(train), options.share, seed)]
    return fit(
        lm,
        supervised_batches(seen, options.batch_size, random.Random(seed)),
        learning_rate=options.learning_rate,
        steps=options.steps,
        score=lambda: first_accuracy(lm, task, dev),
        update=update,
    )


def warm_start_share(n_train: int, share: float, seed: int) -> list[int]:
    """Places of the training problems that the warm start sees: everyone asks here, so all agree."""
    return share_of(range(n_train), share, random.Random(f"warm start {seed}"))


def supervised_batches(problems: Sequence[Problem], batch_size: int, rng: random.Random) -> Iterator[Batch]:
    """Endless batches of first-turn prompts with gold targets."""
    for places in shuffled(len(problems), batch_size, rng):
        chosen = [problems[i] for i in places]
        yield [generator_prompt(p.text) for p in chosen], [p.gold or "" for p in chosen]


def first_accuracy(lm: LanguageModel, task: Task[Any], problems: Sequence[Problem]) -> float:
    """`ir_equivalent` of greedy first hypotheses."""
    episodes = play(Generator(lm), task, problems, critic="none", turns=1, stop="never")
    return turn_figures(task, episodes, 1).ir_equivalent
