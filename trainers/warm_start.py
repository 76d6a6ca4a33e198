"""Supervised training of the generator without a critic: p(z | x)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agents.generator import Generator
from agents.lm import LanguageModel
from agents.prompts import generator_prompt
from refiner_env.options import option
from refiner_env.types import Problem, Task
from trainers.batches import batch, share_of
from trainers.evaluation import turn_figures
from trainers.learning import Batch, fit, step_seed, supervised
from trainers.rollout import play
from trainers.runs import Outcome, Run


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
    run: Run = Run(),
) -> Outcome:
    """Train `lm` in place on `warm_start_share` of the problems; the best weights on `dev` stay."""
    seen = [train[i] for i in warm_start_share(len(train), options.share, run.seed)]
    return fit(
        lm,
        supervised(supervised_batches(seen, options.batch_size, run.seed)),
        run,
        learning_rate=options.learning_rate,
        steps=options.steps,
        score=lambda: {"dev": first_accuracy(lm, task, dev)},
    )


def warm_start_share(n_train: int, share: float, seed: int) -> list[int]:
    """Places of the training problems that the warm start sees: everyone asks here, so all agree."""
    return share_of(range(n_train), share, random.Random(f"warm start {seed}"))


def supervised_batches(problems: Sequence[Problem], batch_size: int, seed: int) -> Callable[[int], Batch]:
    """Batches by number: first-turn prompts with gold targets."""
    order = step_seed(seed, "problems")
    return lambda number: solved([problems[i] for i in batch(len(problems), batch_size, order, number)])


def solved(problems: Sequence[Problem]) -> Batch:
    """Problems with their gold as targets."""
    return Batch(
        [p.uid for p in problems], [generator_prompt(p.text) for p in problems], [p.gold or "" for p in problems]
    )


def first_accuracy(lm: LanguageModel, task: Task[Any], problems: Sequence[Problem]) -> float:
    """`ir_equivalent` of greedy first hypotheses."""
    episodes = play(Generator(lm), task, problems, critic="none", turns=1, stop="never")
    return turn_figures(task, episodes, 1).ir_equivalent
