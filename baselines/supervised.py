"""supervised+: the warm start goes on without a critic until it has spent as many training tokens as REFINER."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.lm import LanguageModel
from refiner_env.types import Problem, Task
from trainers.learning import fit, supervised
from trainers.runs import Outcome, Run
from trainers.warm_start import first_accuracy, supervised_batches


def train_supervised_plus(
    lm: LanguageModel,
    task: Task[Any],
    train: Sequence[Problem],
    dev: Sequence[Problem],
    *,
    token_budget: int,
    batch_size: int,
    learning_rate: float,
    run: Run = Run(),
) -> Outcome:
    """Train the warm-started `lm` in place for `token_budget` tokens, on all training problems.

    The budget is overrun by less than one batch. Weights are chosen on `dev` by the accuracy of the first
    hypothesis, as often as REFINER's are.
    """
    return fit(
        lm,
        supervised(supervised_batches(train, batch_size, run.seed)),
        run,
        learning_rate=learning_rate,
        token_budget=token_budget,
        score=lambda: {"dev": first_accuracy(lm, task, dev)},
        score_start=True,
    )
