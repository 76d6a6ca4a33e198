"""One training among others: how it is run, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch

from refiner_env.decoding import FOLLOWING
from refiner_env.errors import OptionError
from refiner_env.options import option
from trainers.checkpoints import Checkpoints
from trainers.progress import SILENT, Update

AUTO = "auto"
SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class RunOptions:
    """How any training is run: optimizer, memory, interruptions."""

    schedule: str = option("linear", "how the learning rate goes on after its rise", choices=SCHEDULES)
    warmup: float = option(0.05, "share of training in which the learning rate rises", low=0.0, high=1.0)
    weight_decay: float = option(0.0, "AdamW weight decay, of matrices alone", low=0.0)
    clip: float = option(1.0, "gradients are scaled down to this norm; 0 leaves them", low=0.0)
    decoding: str = option(FOLLOWING[0], "what decodes the model while it is trained", choices=FOLLOWING)
    precision: str = option("float32", "what is computed in; weights stay float32", choices=tuple(PRECISIONS))
    micro_batch: str = option(
        AUTO, "examples passed at once, the rest of a batch accumulated; auto: all, halved when memory runs out"
    )
    gradient_checkpointing: bool = option(False, "compute activations anew in the backward pass, to save memory")
    patience: int = option(0, "development checks without a better score after which training ends; 0: never", low=0)
    max_skipped: int = option(10, "steps in a row without a finite gradient after which training stops", low=1)
    checkpoint_every: int = option(200, "steps between checkpoints; 0: only when interrupted", low=0)
    keep: int = option(2, "checkpoints kept while training", low=1)

    def __post_init__(self) -> None:
        """Raises OptionError where `micro_batch` is neither a number nor auto."""
        if self.micro_batch != AUTO and (not self.micro_batch.isdecimal() or int(self.micro_batch) < 1):
            raise OptionError(f"--run.micro-batch is {self.micro_batch!r}: give a number above 0, or auto.")

    @property
    def micro(self) -> int | None:
        """`micro_batch` as a number; None for auto."""
        return None if self.micro_batch == AUTO else int(self.micro_batch)


@dataclass(frozen=True)
class Run:
    """One training among others: its seed, where it shows and where it is kept."""

    seed: int = 0
    update: Update = SILENT
    options: RunOptions = field(default_factory=RunOptions)
    checkpoints: Checkpoints | None = None
    """With any in its folder, training goes on from the last. None keeps none."""


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
    skipped: int = 0
    """Steps whose gradient was not finite: the weights stayed as they were."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


@dataclass
class Outcome:
    """A finished training."""

    spent: Spent
    checks: list[dict[str, float]]
    """Figures on development problems in the order in which they were taken, each with its `step`."""
    best: dict[str, float]
    """Those of the weights that stayed; empty where none were taken."""
