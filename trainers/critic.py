"""Training of the learned critic: p(feedback | x, z'), on right and perturbed hypotheses."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agents.critic import LearnedCritic
from agents.prompts import critic_prompts
from agents.seq2seq import Seq2Seq
from data.negatives import critic_pairs
from refiner_env.options import option
from refiner_env.types import Problem, Task
from trainers.batches import shuffled
from trainers.evaluation import critic_figures
from trainers.learning import Batch, Spent, fit
from trainers.progress import Update


@dataclass(frozen=True)
class CriticOptions:
    """The learned critic."""

    steps: int = option(600, "optimizer steps", low=1)
    batch_size: int = option(64, "hypotheses a step", low=1)
    learning_rate: float = option(1e-3, "peak AdamW learning rate", low=0.0, high=1.0)
    no_hint_share: float = option(0.25, "share of right hypotheses, to be accepted", low=0.0, high=1.0)


def train_critic(
    lm: Seq2Seq,
    task: Task[Any],
    train: Sequence[Problem],
    dev: Sequence[Problem],
    options: CriticOptions,
    *,
    seed: int,
    update: Update,
) -> Spent:
    """Train `lm` in place as a critic; the weights with most exact feedback on `dev` stay."""
    critic = LearnedCritic(lm, task)
    judged = critic_pairs(task, dev, random.Random(f"dev {seed}"), no_hint_share=options.no_hint_share)
    return fit(
        lm,
        critic_batches(task, train, options, random.Random(seed)),
        learning_rate=options.learning_rate,
        steps=options.steps,
        score=lambda: critic_figures(task, critic, judged).exact,
        update=update,
    )


def critic_batches(
    task: Task[Any], problems: Sequence[Problem], options: CriticOptions, rng: random.Random
) -> Iterator[Batch]:
    """Endless batches; every pass over the problems draws new hypotheses."""
    for places in shuffled(len(problems), options.batch_size, rng):
        pairs = critic_pairs(task, [problems[i] for i in places], rng, no_hint_share=options.no_hint_share)
        prompts = critic_prompts([p.problem.text for p in pairs], [p.hypothesis for p in pairs])
        yield prompts, [p.feedback for p in pairs]
