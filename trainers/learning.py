"""The one training loop: every trainer gives it a step, and it does the rest.

A step adds gradients and depends on weights, optimizer, seed and its own number alone: whatever is drawn in it is
seeded anew with its number. Therefore a checkpoint is weights, optimizer and counters, a step can be done again when
memory runs out, and several processes plan the same batch without talking.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from signal import Signals
from typing import Any, TypeVar

import torch
from accelerate.utils import set_seed
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from agents.decoding import BACKENDS
from agents.lm import LanguageModel
from refiner_env.errors import Interrupted, TrainingError
from trainers.checkpoints import Checkpoints
from trainers.interruption import Interruption
from trainers.processes import gathered, once, processes, sharded_by, share, total
from trainers.runs import PRECISIONS, Outcome, Run, RunOptions, Spent
from trainers.sharding import FSDP, Placement, full

T = TypeVar("T")
CHECKS = 8
"""How often weights are scored on development problems in one training, the same for every arm."""


class Learner:
    """A model with its optimizer: accumulate losses with `backward`, then `step`.

    Args:
        beside: modules that go with it, trained or not (`trainers.sharding.Placement`).

    Attributes:
        spent: of all processes, up to the last step.
        now: of this process, in the present step.
    """

    def __init__(
        self,
        lm: LanguageModel,
        learning_rate: float,
        options: RunOptions = RunOptions(),
        beside: Mapping[str, torch.nn.Module] | None = None,
    ) -> None:
        self.lm, self.learning_rate, self.options = lm, learning_rate, options
        self.placement = placement()(lm, options, beside)
        self.trained, self.optimizer = self.placement.trained, self.placement.optimizer
        self.spent, self.now = Spent(), Spent()
        self.micro = options.micro
        self.uids: list[str] = []
        self.skipped_in_row = 0
        self.largest = 0
        prepare(lm, options)

    def backward(
        self,
        uids: Sequence[str],
        prompts: Sequence[str],
        targets: Sequence[str],
        weight: float = 1.0,
        weights: Sequence[float] | None = None,
    ) -> torch.Tensor:
        """Add the gradient of `weight` times the loss (`LanguageModel.loss`) over all processes, part by part.

        Args:
            uids: which problems these are, for messages.
            prompts, targets, weights: this process's share.

        Returns:
            The loss before `weight`, scalar: what this process adds to that of all. Nothing waits for it.
        """
        self.uids += uids
        lengths = [len(p) + len(t) for p, t in zip(self.lm.ids(prompts), self.lm.ids(targets), strict=True)]
        parts = self.lm.parts(lengths, self.micro)
        self.largest = max(self.largest, *map(len, parts), 0)
        alone = len(parts) == 1 and processes().num_processes == 1
        (count,) = [0.0] if alone else total(self.lm.loss_count(targets, weights))
        summed = torch.zeros((), device=self.lm.model.device)
        idle = max(gathered([len(parts)])) - len(parts) if self.placement.sharded else 0
        for places in parts:
            mine = [weights[i] for i in places] if weights is not None else None
            loss = self.lm.loss([prompts[i] for i in places], [targets[i] for i in places], mine)
            count = count or loss.count
            self.placement.backward(loss.total * (weight / count))
            summed += loss.total.detach()
            self.now.tokens += loss.tokens
        for _ in range(idle):
            self.placement.backward(self.lm.loss([""], [""]).total * 0.0)
        return summed / (count or 1)

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the model may generate; all processes enter and leave."""
        return self.placement.whole()

    def step(self, done: float) -> bool:
        """One optimizer step, counted; `done` is the fraction of training behind us, for the learning rate.

        Returns:
            Whether it was done. Where the gradient is not finite it is skipped, and the weights are untouched.
        """
        finite = self.move(done)
        self.skipped_in_row = 0 if finite else self.skipped_in_row + 1
        now = total(self.now.tokens, self.now.rollout_tokens, self.now.critic_failures)
        tokens, written, failures = map(int, now)
        self.spent += Spent(1, tokens, written, critic_failures=failures, skipped=int(not finite))
        self.forget()
        return finite

    def move(self, done: float) -> bool:
        """Change the weights by the gradients of all processes, if these are finite; whether they were."""
        return self.placement.step(self.learning_rate * scheduled(done, self.options))

    def forget(self) -> None:
        """Begin a step: nothing is added yet."""
        self.placement.forget()
        self.now, self.uids, self.largest = Spent(), [], 0

    @property
    def at_once(self) -> int:
        """The most examples passed at once in the present step; before any, those that may be generated at once."""
        return self.largest or self.lm.most_at_once

    def halve(self) -> None:
        """Pass and generate half as many examples at once from now on."""
        if self.largest:
            self.micro = max(1, self.largest // 2)
        self.lm.most_at_once = max(1, self.lm.most_at_once // 2)


def placement() -> type[Placement]:
    """Where accelerate's settings ask models to lie."""
    if sharded_by() == "DeepSpeed":
        from trainers.zero import ZeRO  # needs an extra

        return ZeRO
    return FSDP if sharded_by() else Placement


def prepare(lm: LanguageModel, options: RunOptions) -> None:
    """Have a model compute as the options say, ready to be trained."""
    lm.precision = PRECISIONS[options.precision]
    lm.backend = BACKENDS[options.decoding]  # one that is frozen would decode the weights from before
    lm.most_at_once = min(lm.most_at_once, options.micro or lm.most_at_once)
    if options.gradient_checkpointing:
        lm.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lm.model.train()


def scheduled(done: float, options: RunOptions) -> float:
    """The learning rate after this fraction of training, as a share of its peak."""
    if done < options.warmup:
        return min(1.0, (done + 1e-3) / options.warmup)
    left = (1 - done) / (1 - options.warmup) if options.warmup < 1 else 1.0
    return {"linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}[options.schedule]


@dataclass(frozen=True)
class Batch:
    """What one step of supervised training learns from."""

    uids: list[str]
    prompts: list[str]
    targets: list[str]

    def share(self) -> Batch:
        """This process's part."""
        return Batch(share(self.uids), share(self.prompts), share(self.targets))


def supervised(batch_of: Callable[[int], Batch]) -> Step:
    """The step that learns the targets of batch `number`."""

    def step(learner: Learner, number: int) -> Figures:
        mine = batch_of(number).share()
        return {"loss": learner.backward(mine.uids, mine.prompts, mine.targets)}

    return step


Figures = Mapping[str, float | torch.Tensor]
"""By name. Tensors are what this process adds to those of all, read when the step is done; numbers are the same in all.
"""
Step = Callable[[Learner, int], Figures]
"""(learner, number of the step from 0) -> its figures. It calls `backward`, and depends on nothing but the learner's
weights, the run's seed and the number."""
Score = Callable[[], Mapping[str, float]]
"""Figures on development problems, by which the weights are chosen: the first decides."""


class BestWeights:
    """Scores weights on development problems, and keeps those that score best.

    Args:
        score: the figures; the first decides.
        checkpoints: where the best are written, too.
        keep: False keeps the figures alone.

    Attributes:
        checks: all figures so far, each with its `step`.
        best: those of the best weights; empty where none are kept.
        stale: checks since then.
    """

    def __init__(
        self, learner: Learner, score: Score | None, checkpoints: Checkpoints | None = None, *, keep: bool = True
    ) -> None:
        self.learner, self.score, self.checkpoints, self.keep = learner, score, checkpoints, keep and score is not None
        self.checks: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self.stale = 0
        self._weights: dict[str, torch.Tensor] = {}

    @property
    def latest(self) -> dict[str, float]:
        """The last figures, without their step."""
        return {k: v for k, v in (self.checks[-1] if self.checks else {}).items() if k != "step"}

    def check(self, step: int) -> None:
        """Score the weights after this many steps, and keep them if they are the best so far."""
        if self.score is None:
            return
        lm = self.learner.lm
        generated = lm.generated_tokens
        with self.learner.whole():
            figures = dict(self.score())
        lm.generated_tokens = generated  # scoring is not rollout
        name = next(iter(figures))
        better = self.keep and (not self.best or figures[name] > self.best[name])
        if better:  # first, as it may be done again for want of memory
            own = lm.trained()
            self._weights = {n: w.clone() for n, w in self.learner.placement.weights().items() if n in own}
            if kept := self.checkpoints:
                weights = {name: full(w) for name, w in self._weights.items()}
                once(lambda: kept.save_best(step, weights))
        self.checks.append({"step": step, **figures})
        self.stale += self.keep  # where nothing is chosen, nothing gets better or worse
        if better:
            self.best, self.stale = self.checks[-1], 0

    def restore(self) -> None:
        """Put the best weights back."""
        if self._weights:
            self.learner.placement.put_back(self._weights)

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold of it, for JSON."""
        return {"checks": self.checks, "best": self.best.get("step"), "stale": self.stale}

    def resume(self, state: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
        """Take up what `state` gave, with the best weights."""
        self.checks, self.stale, self._weights = list(state["checks"]), state["stale"], dict(weights)
        self.best = next((c for c in self.checks if c["step"] == state["best"]), {})


def fit(
    lm: LanguageModel,
    step: Step,
    run: Run,
    *,
    learning_rate: float,
    steps: int | None = None,
    token_budget: int | None = None,
    score: Score | None = None,
    score_start: bool = False,
    checks: int = CHECKS,
    keep_best: bool = True,
    writers: Sequence[LanguageModel] = (),
    beside: Mapping[str, torch.nn.Module] | None = None,
    records: list[dict[str, float]] | None = None,
) -> Outcome:
    """Train `lm` in place for a number of steps or of tokens, whichever is given.

    Args:
        score: taken `checks` times in all, the end included.
        score_start: also before training; then the weights before it may be chosen, too.
        keep_best: whether the best weights stay, or the last.
        writers: models whose generated tokens count as rollout; those of `score` never do.
        beside: modules that go with it, trained or not (`Learner`). The best weights do not hold them.
        records: takes the figures of every step, of those before a resumption, too.

    Raises:
        TrainingError: too many steps in a row without a finite gradient.
        CheckpointError: a checkpoint cannot be written, or the last one is damaged.
        Interrupted: SIGTERM or Ctrl-C; a checkpoint was written first.
    """
    learner, kept = Learner(lm, learning_rate, run.options, beside), run.checkpoints

    best = BestWeights(learner, score, kept, keep=keep_best)
    spent, resumed = learner.spent, kept.latest() if kept else None
    if kept:
        run.update.resume(resumed or 0)
    if kept and resumed is not None:
        tensors, state = kept.load(resumed)
        learner.placement.restore(tensors)
        best.resume(state, tensors.get("best", {}))
        learner.spent = spent = Spent(**state["spent"])
        learner.micro = learner.micro or state["micro"]
        lm.cut_prompts = spent.cut_prompts if processes().is_main_process else 0
        if records is not None:
            records[:] = state["records"]
    started = time.monotonic() - spent.wall_s

    def progress() -> float:
        return min(1.0, learner.spent.steps / steps if steps else learner.spent.tokens / (token_budget or 1))

    def so_far() -> Spent:
        (cut,) = total(lm.cut_prompts)
        return replace(learner.spent, wall_s=time.monotonic() - started, cut_prompts=int(cut))

    def checkpoint(kept: Checkpoints) -> None:
        number, tensors = learner.spent.steps, learner.placement.state()
        state = {"spent": asdict(so_far()), "micro": learner.micro, "records": records, **best.state()}
        once(lambda: kept.save(number, tensors, state))

    def check(number: int) -> None:
        def scored() -> None:
            seed_step(run.seed, 0)  # every check with the same noise
            best.check(number)

        _with_room(learner, run, number, scored)

    if score_start and not best.checks:
        check(0)
    done, patience = progress(), run.options.patience
    with Interruption() as interruption:
        while done < 1.0 and not (patience and best.stale >= patience):
            figures = _one_step(learner, step, run, done, writers)
            if records is not None:
                records.append(dict(figures))
            before, done = done, progress()
            number = learner.spent.steps
            if int(done * checks) > int(before * checks):
                check(number)
            counts = {k: v for k in ("critic_failures", "skipped") if (v := getattr(learner.spent, k))}
            run.update(done, step=number, **figures, **best.latest, **counts, tokens=learner.spent.tokens)
            interrupted = interruption.agreed()
            if kept and (interrupted or (kept.due(number) and not learner.skipped_in_row)):
                checkpoint(kept)
            if interrupted:
                last = kept.steps() if kept else []
                going_on = f"--resume goes on from step {last[-1]}" if last else "nothing is kept"
                raise Interrupted(interrupted, f"{Signals(interrupted).name} after step {number}: {going_on}.")
    best.restore()
    learner.placement.join()
    return Outcome(so_far(), best.checks, best.best)


def _one_step(
    learner: Learner, step: Step, run: Run, done: float, writers: Sequence[LanguageModel]
) -> Mapping[str, float]:
    """One step and its figures; skipped where it is not finite."""
    number = learner.spent.steps
    written = sum(lm.generated_tokens for lm in writers)

    def taken() -> tuple[Figures, list[str], bool]:
        learner.forget()
        seed_step(run.seed, number)
        figures = step(learner, number)
        learner.now.rollout_tokens += sum(lm.generated_tokens for lm in writers) - written
        uids = learner.uids
        return figures, uids, learner.step(done)

    figures, uids, finite = _with_room(learner, run, number + 1, taken)
    if not finite:
        uids = list(dict.fromkeys(gathered(uids)))
        limit, shown = learner.options.max_skipped, ", ".join(uids[:8]) + (", ..." if len(uids) > 8 else "")
        told = f"step {number + 1} skipped: its gradient is not finite ({learner.skipped_in_row} in a row)"
        run.update.notice(told, step=number + 1, problems=uids)
        if learner.skipped_in_row >= limit:
            last = run.checkpoints.steps() if run.checkpoints else []
            kept = f"the last good checkpoint is that of step {last[-1]}" if last else "there is no checkpoint yet"
            raise TrainingError(
                f"{limit} steps in a row had no finite gradient; the last one's problems were {shown}. Training stops,"
                f" {kept}: begin anew with a lower learning rate or a smaller --run.clip."
            )
    return numbers(figures)


def _with_room(learner: Learner, run: Run, number: int, work: Callable[[], T]) -> T:
    """What `work` returns, of this step; where memory runs out, it is done again with half as many examples at once.

    Raises:
        TrainingError: less at once is not allowed, or not possible.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                raise
            at_once = learner.at_once
            several = processes().num_processes > 1 or learner.placement.sharded
            if learner.options.micro or several or at_once == 1:
                raise TrainingError(
                    f"Out of memory at step {number} with {at_once} examples at once: begin anew with"
                    " a smaller --run.micro-batch, or --run.gradient-checkpointing."
                ) from None
        # Outside of the except clause, or the error would hold on to what is to be freed.
        clear_device_cache(garbage_collection=True)
        learner.halve()
        run.update.notice(f"out of memory at step {number}: {at_once // 2} examples at once from now on")


def numbers(figures: Figures) -> dict[str, float]:
    """The figures of all processes. All tensors are read at once, for a GPU has to finish before the first."""
    tensors = {name: value for name, value in figures.items() if isinstance(value, torch.Tensor)}
    read = total(*torch.stack(list(tensors.values())).tolist()) if tensors else []
    summed = dict(zip(tensors, read, strict=True))
    return {name: summed[name] if name in summed else float(value) for name, value in figures.items()}


def seed_step(seed: int, number: int) -> None:
    """Seed Python, numpy and torch for one step. Dropout differs between processes; what is planned does not."""
    set_seed(step_seed(seed, number) % 2**32)
    torch.manual_seed(step_seed(seed, number, processes().process_index))


def step_seed(seed: int, *what: object) -> int:
    """A number below 2**63 for one of the things that a run draws."""
    words = "/".join(map(str, (seed, *what)))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8]) >> 1
