"""Trainings of `test_processes.py`: run by one process and by several, each of which saves what it saw."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from agents.generator import Generator
from agents.lm import LanguageModel, Loss
from agents.models import open_model
from baselines.ppo import PPOOptions, train_ppo
from refiner_env.errors import Interrupted, RefinerError
from refiner_env.scripted import ScriptedEditor
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Agent, Attempt
from trainers.checkpoints import Checkpoints
from trainers.critic import CriticOptions, train_critic
from trainers.critic_rl import CriticRLOptions, train_critic_rl
from trainers.processes import once, processes
from trainers.progress import Update
from trainers.refiner import RefinerOptions, train_refiner
from trainers.runs import Outcome, Run, RunOptions
from trainers.warm_start import WarmStartOptions, warm_start

TASK = MathWordProblem()
TRAIN = [TASK.generate(1, i, "easy") for i in range(8)]
DEV = TRAIN[:3]
Training = Callable[[LanguageModel, Run], Outcome]


class Seen(Update):
    """Keeps figures and notices; kills its process, where it is the last, after step `kill_after`."""

    def __init__(self, kill_after: int = 0) -> None:
        self.rows: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.kill_after = kill_after

    def __call__(self, done: float, **figures: Any) -> None:
        self.rows.append(figures)
        if figures["step"] == self.kill_after and last():
            os.kill(os.getpid(), signal.SIGTERM)

    def notice(self, text: str, **fields: Any) -> None:
        self.notices.append(fields)


def last() -> bool:
    return processes().process_index == processes().num_processes - 1


def trainings(folder: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """What each training came to, by name; all of them where none is named."""
    torch.manual_seed(0)
    base = open_model("scratch:tiny", TASK, TRAIN)
    base.max_new_tokens = 12

    def fresh() -> LanguageModel:
        lm = base.clone()
        lm.max_new_tokens = 12
        return lm

    def seen(name: str, training: Training, options: RunOptions = RunOptions(), kill_after: int = 0) -> dict[str, Any]:
        """Its figures, and the weights and optimizer of its last checkpoint."""
        lm, update, kept = fresh(), Seen(kill_after), Checkpoints(folder / name, options.checkpoint_every, options.keep)
        outcome = training(lm, Run(0, update, options, kept))
        last_step = kept.steps()[-1]
        spent = {k: v for k, v in vars(outcome.spent).items() if k != "wall_s"}
        found = {"spent": spent, "checks": outcome.checks, "steps": kept.steps(), "rows": update.rows}
        return found | {"notices": update.notices, "tensors": kept.load(last_step)[0], "weights": dict(lm.trained())}

    def warm(steps: int, size: int) -> Training:
        options = WarmStartOptions(steps=steps, batch_size=size, learning_rate=1e-2)
        return lambda lm, run: warm_start(lm, TASK, TRAIN, DEV, options, run)

    def interrupted(training: Training) -> Training:
        def trained(lm: LanguageModel, run: Run) -> Outcome:
            try:
                training(lm, run)
            except Interrupted as stop:
                steps = run.checkpoints.steps() if run.checkpoints else []
                found["stopped"] = {"steps": steps, "number": int(stop.number)}
            again = fresh()
            outcome = training(again, run)
            lm.model = again.model
            return outcome

        return trained

    def not_finite(lm: LanguageModel, run: Run) -> Outcome:
        plain = lm.loss

        def loss(*args: Any) -> Loss:
            computed, bad = plain(*args), last() and len(run.update.rows) == 1  # type: ignore[attr-defined]
            return Loss(computed.total * float("nan"), computed.count, computed.tokens) if bad else computed

        lm.loss = loss  # type: ignore[method-assign]
        return warm(3, 5)(lm, run)

    def feedback(generator: Agent) -> Training:
        def trained(lm: LanguageModel, run: Run) -> Outcome:
            texts = (TASK.feedback(()).text, "The operator in #0 is incorrect.")
            lm.generate = lambda prompts, *, top_p, seeds: [texts[s % 2] for s in seeds]  # type: ignore[method-assign]
            options = CriticRLOptions(steps=2, batch_size=7, samples=3, reward=f"{__file__}:length")
            return train_critic_rl(lm, TASK, TRAIN, DEV, generator, options, run)

        return trained

    def critic(lm: LanguageModel, run: Run) -> Outcome:
        options = CriticOptions(steps=2, batch_size=5, own_samples=1)
        return train_critic(lm, TASK, TRAIN, DEV, options, run, generator=base)

    def refiner(critic: str) -> Training:
        options = RefinerOptions(steps=2, batch_size=7, turns=2)  # one problem of the second batch is in it twice
        return lambda lm, run: train_refiner(lm, TASK, TRAIN, DEV, options, run, critic=critic)

    def ppo(size: int) -> Training:
        options = PPOOptions(batch_size=size, epochs=2, learning_rate=3e-4)
        budget = 900 * size  # several updates
        return lambda lm, run: train_ppo(lm, TASK, TRAIN, options, run, token_budget=budget, reward=length)[0]

    found: dict[str, Any] = {}
    every, in_parts = RunOptions(checkpoint_every=1), RunOptions(checkpoint_every=4, micro_batch="2")
    planned: dict[str, tuple[Any, ...]] = {
        "warm start": (warm(12, 8), RunOptions(checkpoint_every=12)),
        "interrupted": (interrupted(warm(4, 5)), in_parts, 2),
        "uninterrupted": (warm(4, 5), in_parts),
        "one problem": (warm(2, 1), every),
        "not finite": (not_finite, every),
        "patience": (warm(16, 1), RunOptions(checkpoint_every=1, patience=2)),
        "critic": (critic, every),
        "refiner": (refiner("oracle"), every),
        "refiner, noisy critic": (refiner("noisy(consensus, 0.5)"), every),
        "critic-rl": (feedback(Generator(base)), every),
        "critic-rl, scripted editor": (feedback(ScriptedEditor(TASK)), every),
        "ppo": (interrupted(ppo(5)), in_parts, 2),
        "ppo of one problem": (ppo(1), every),
    }
    for name in names or planned:
        found[name] = seen(name, *planned[name])
    try:
        once(_refuse)
    except RefinerError as error:
        found["refused"] = str(error)
    return found


def length(attempt: Attempt) -> float:
    """A reward that differs between hypotheses: were all the same, advantages would be rounding, whitened."""
    return len(attempt.hypothesis) % 3 / 2


def _refuse() -> None:
    raise RefinerError(f"said by process {processes().process_index}")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    torch.save(trainings(out, sys.argv[2:]), out / f"seen-{processes().process_index}.pt")
