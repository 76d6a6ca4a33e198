"""What every trainer shares: the optimizer step, the budget, and the choice of the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from agents.lm import LanguageModel
from refiner_env.errors import RefinerError
from trainers.progress import SILENT, Update

Batch = tuple[list[str], list[str]]
"""(prompts, targets) of equal length."""

WARMUP = 0.05
"""Share of training in which the learning rate rises; it falls linearly after."""
MAX_GRADIENT_NORM = 1.0
CHECKS = 8
"""How often weights are scored on development problems in one training, the same for every arm."""


@dataclass
class Spent:
    """What training has cost so far, on top of the weights that it started from."""

    steps: int = 0
    tokens: int = 0
    """Tokens passed forward and backward, padding not counted."""
    rollout_tokens: int = 0
    """Tokens generated in training."""
    wall_s: float = 0.0
    """Time, scoring on development problems included."""
    cut_prompts: int = 0
    """Prompts that were too long for the model and lost their end."""
    critic_failures: int = 0
    """Reviews in which the critic raised, hung or gave something else; training went on without them."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.steps + other.steps,
            self.tokens + other.tokens,
            self.rollout_tokens + other.rollout_tokens,
            self.wall_s + other.wall_s,
            self.cut_prompts + other.cut_prompts,
            self.critic_failures + other.critic_failures,
        )


class Learner:
    """A model with its optimizer: accumulate losses with `backward`, then `step`."""

    def __init__(self, lm: LanguageModel, learning_rate: float) -> None:
        self.lm, self.learning_rate = lm, learning_rate
        self.trained = [p for p in lm.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=learning_rate, weight_decay=0.0, fused=True)
        self.spent = Spent()
        lm.model.train()

    def backward(
        self, prompts: list[str], targets: list[str], weight: float = 1.0, weights: Sequence[float] | None = None
    ) -> float:
        """Add the gradient of `weight` times the loss (`LanguageModel.loss`); returns the loss before this factor."""
        loss = self.lm.loss(prompts, targets, weights)
        (loss.mean * weight).backward()
        self.spent.tokens += loss.tokens
        return loss.mean.item()

    def step(self, done: float) -> None:
        """One optimizer step; `done` is the fraction of training behind us, for the learning rate.

        Raises:
            RefinerError: the gradient is not finite; the weights are untouched.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.trained, MAX_GRADIENT_NORM)
        if not torch.isfinite(norm):
            raise RefinerError(f"Gradient norm {norm} at step {self.spent.steps}: lower the learning rate.")
        rate = self.learning_rate * (min(1.0, (done + 1e-3) / WARMUP) if done < WARMUP else (1 - done) / (1 - WARMUP))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.spent.steps += 1


@dataclass
class BestWeights:
    """Keeps the weights that score best on development problems."""

    lm: LanguageModel
    score: Callable[[], float]
    best: float = -math.inf
    _weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def check(self) -> float:
        """Score the present weights and keep them if they are the best so far. Returns the score."""
        generated = self.lm.generated_tokens
        score = self.score()
        self.lm.generated_tokens = generated  # scoring is not rollout
        if score > self.best:
            self.best = score
            self._weights = {k: p.detach().clone() for k, p in self._trained()}
        return score

    def restore(self) -> None:
        """Put the best weights back."""
        with torch.no_grad():
            for name, parameter in self._trained() if self._weights else ():
                parameter.copy_(self._weights[name])

    def _trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """What training changes: all of a model, or its adapter."""
        return ((name, p) for name, p in self.lm.model.named_parameters() if p.requires_grad)


def fit(
    lm: LanguageModel,
    batches: Iterator[Batch],
    *,
    learning_rate: float,
    steps: int | None = None,
    token_budget: int | None = None,
    score: Callable[[], float] | None = None,
    score_start: bool = False,
    update: Update = SILENT,
) -> Spent:
    """Supervised training for a number of steps or of tokens, whichever is given.

    Args:
        batches: endless (prompts, targets).
        score: development score by which the weights are chosen, `CHECKS` times in all, the end
            included; None keeps the last weights.
        score_start: the weights before training may be chosen too, as they are when an arm goes on from a
            warm start.

    Returns:
        What it spent; scoring counts as time, not as tokens.
    """
    started = time.monotonic()
    learner, best = Learner(lm, learning_rate), BestWeights(lm, score) if score else None
    checked, done = 0, 0.0
    dev = {"dev": best.check()} if best and score_start else {}
    while done < 1.0:
        prompts, targets = next(batches)
        loss = learner.backward(prompts, targets)
        learner.step(done)
        spent = learner.spent
        done = spent.steps / steps if steps else spent.tokens / (token_budget or 1)
        if best and done * CHECKS >= checked + 1:
            checked, dev = int(done * CHECKS), {"dev": best.check()}
        update(min(done, 1.0), step=spent.steps, loss=loss, **dev)
    if best:
        best.restore()
    learner.spent.wall_s = time.monotonic() - started
    learner.spent.cut_prompts = lm.cut_prompts
    return learner.spent
