"""The training loop: memory, precision, schedules, steps that fail, interruptions, and going on after them."""

from __future__ import annotations

import math
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Seen
from scipy.stats import chisquare
from torch.utils._python_dispatch import TorchDispatchMode

from agents.decoding import NARROW, PASS, Decoding, Leaving, NucleusSampling, Row, draws
from agents.lm import LanguageModel
from baselines.ppo import remove_dropout
from refiner_env.errors import Interrupted, OptionError, TrainingError
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem
from trainers.checkpoints import Checkpoints
from trainers.critic import CriticOptions, train_critic
from trainers.critic_rl import CriticRLOptions, train_critic_rl
from trainers.learning import Batch, Learner, fit, numbers, scheduled, supervised
from trainers.refiner import RefinerOptions, train_refiner
from trainers.runs import Outcome, Run, RunOptions
from trainers.warm_start import WarmStartOptions, solved, supervised_batches, warm_start

Gradients = dict[str, torch.Tensor]


def gradients(lm: LanguageModel, problems: list[Problem], **options: Any) -> Gradients:
    """What one step's loss adds."""
    return learned(lm, problems, **options)[1]


def learned(lm: LanguageModel, problems: list[Problem], **options: Any) -> tuple[Learner, Gradients]:
    """A learner that has these problems' gradients, and those."""
    model = lm.clone()
    learner, whole = Learner(model, 1e-3, RunOptions(**options)), solved(problems)
    remove_dropout(model.model)
    learner.backward(whole.uids, whole.prompts, whole.targets)
    return learner, {name: p.grad for name, p in learner.trained.items() if p.grad is not None}


def furthest(a: Gradients, b: Gradients) -> float:
    """The largest difference of two gradients, over the largest entry of the first."""
    largest = max(float(g.abs().max()) for g in a.values())
    return max(float((a[name] - b[name]).abs().max()) for name in a) / largest


def test_accumulated_gradients_are_those_of_the_whole_batch(lm: LanguageModel, train: list[Problem]) -> None:
    whole = gradients(lm, train[:7])
    assert furthest(whole, gradients(lm, train[:7], micro_batch="3")) < 1e-4
    assert furthest(whole, gradients(lm, train[:6])) > 1e-2  # or nothing would show


def test_parts_of_similar_length_are_little_padding_and_have_the_gradient_of_the_whole(
    lm: LanguageModel, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    parted: list[int] = []
    parts = LanguageModel.parts

    def watched(self: LanguageModel, lengths: list[int], most: int | None) -> list[list[int]]:
        found = parts(self, lengths, most)
        parted.append(len(found))
        return found

    def padding(learner: Learner) -> float:
        return 1 - learner.lm.passed_tokens / learner.lm.padded_tokens

    sentences = " ".join(p.text for p in train[:3])
    mixed = [replace(p, text=f"{p.text} {sentences}" if i % 2 else p.text) for i, p in enumerate(train[:40])]
    monkeypatch.setattr(LanguageModel, "parts", watched)
    (one, of_one), (other, of_other) = learned(lm, mixed), learned(lm, mixed, micro_batch="4")
    monkeypatch.setattr(LanguageModel, "parts", lambda self, lengths, most: [list(range(len(lengths)))])
    whole, of_whole = learned(lm, mixed)
    assert parted[0] > 1 and parted[1] > parted[0] and one.largest > 4 >= other.largest
    assert padding(other) < 0.5 * padding(whole) and padding(one) < 0.8 * padding(whole)
    assert one.now.tokens == other.now.tokens == whole.now.tokens
    assert furthest(of_whole, of_one) < 1e-4 and furthest(of_whole, of_other) < 1e-4


class Reads(TorchDispatchMode):
    """Counts the numbers that Python takes from tensors, for each of which it would wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_between_passes_and_one_number_by_the_optimizer(
    lm: LanguageModel, train: list[Problem]
) -> None:
    learner, whole = Learner(lm.clone(), 1e-3, RunOptions(micro_batch="2")), solved(train[:6])
    with Reads() as the_models:  # transformers looks whether anything is padding
        batch, targets = (
            learner.lm.encode(whole.prompts[:2]),
            learner.lm.padded(learner.lm.target_rows(whole.targets[:2])),
        )
        learner.lm.teacher_forced(batch, targets)
    with Reads() as reads:
        loss = learner.backward(whole.uids, whole.prompts, whole.targets)
    assert reads.count == 3 * the_models.count
    with Reads() as reads:
        assert learner.move(0.5)
    assert reads.count == 1 and math.isfinite(numbers({"loss": loss})["loss"])


def test_gradient_checkpointing_changes_no_gradient_and_bf16_little(lm: LanguageModel, train: list[Problem]) -> None:
    whole = gradients(lm, train[:4])
    assert furthest(whole, gradients(lm, train[:4], gradient_checkpointing=True)) < 1e-5
    assert 1e-6 < furthest(whole, gradients(lm, train[:4], precision="bf16")) < 0.1


def test_weights_stay_float32_under_bf16(lm: LanguageModel, task: MathWordProblem, train: list[Problem]) -> None:
    model = lm.clone()
    run = Run(options=RunOptions(precision="bf16"))
    warm_start(model, task, train[:8], train[:2], WarmStartOptions(steps=2, batch_size=4), run)
    assert {p.dtype for p in model.model.parameters()} == {torch.float32} and model.precision == torch.bfloat16


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", [1.0, 0.5, 0.0]), ("cosine", [1.0, 0.5, 0.0]), ("constant", [1.0, 1.0, 1.0])],
)
def test_the_learning_rate_rises_and_then_follows_its_schedule(schedule: str, expected: list[float]) -> None:
    options = RunOptions(schedule=schedule, warmup=0.2)
    assert [scheduled(done, options) for done in (0.2, 0.6, 1.0)] == pytest.approx(expected)
    rise = [scheduled(done, options) for done in (0.0, 0.1, 0.19)]
    assert 0 < rise[0] < 0.01 and rise == sorted(rise) and rise[2] < 1.0
    assert scheduled(0.0, replace(options, warmup=0.0)) == 1.0


def test_matrices_alone_decay_and_gradients_are_clipped(lm: LanguageModel, train: list[Problem]) -> None:
    options = RunOptions(weight_decay=0.5, schedule="constant", warmup=0.0)
    learner = Learner(lm.clone(), 0.1, options)
    before = {name: p.detach().clone() for name, p in learner.trained.items()}
    learner.step(0.5)  # no gradient: decay alone
    for name, p in learner.trained.items():
        assert torch.allclose(p, before[name] * (0.95 if p.ndim > 1 else 1.0), rtol=1e-4), name
    for clip, largest in ((0.01, 0.011), (0.0, float("inf"))):
        learner = Learner(lm.clone(), 0.0, RunOptions(clip=clip))
        kept: list[float] = []
        learner.optimizer.register_step_pre_hook(
            lambda *_, learner=learner, kept=kept: kept.append(  # type: ignore[misc]
                float(torch.stack([p.grad.norm() for p in learner.trained.values() if p.grad is not None]).norm())
            )
        )
        whole = solved(train[:4])
        learner.backward(whole.uids, whole.prompts, whole.targets)
        learner.step(0.5)
        assert kept[0] <= largest and (clip or kept[0] > 0.1)


def test_training_ends_early_when_development_no_longer_gains(lm: LanguageModel, train: list[Problem]) -> None:
    scores = iter([0.1, 0.5, 0.4, 0.5, 0.9, 0.9, 0.9, 0.9])
    outcome = fit(
        lm.clone(),
        supervised(supervised_batches(train, 2, 0)),
        Run(options=RunOptions(patience=2)),
        learning_rate=1e-3,
        steps=8,
        score=lambda: {"dev": next(scores)},
    )
    assert outcome.spent.steps == 4 and outcome.best == {"step": 2, "dev": 0.5}
    assert [c["dev"] for c in outcome.checks] == [0.1, 0.5, 0.4, 0.5]


def test_without_a_choice_of_weights_there_is_no_patience_to_lose(lm: LanguageModel, train: list[Problem]) -> None:
    step, run = supervised(supervised_batches(train, 2, 0)), Run(options=RunOptions(patience=1))
    outcome = fit(
        lm.clone(), step, run, learning_rate=1e-3, steps=4, score=lambda: {"copy": 0.0}, checks=4, keep_best=False
    )
    assert outcome.spent.steps == 4 and outcome.best == {}


class Small:
    """Memory for so many examples at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.sizes: list[int] = []
        loss = LanguageModel.loss

        def bounded(lm: LanguageModel, prompts: list[str], *rest: Any) -> Any:
            self.sizes.append(len(prompts))
            if len(prompts) > room:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return loss(lm, prompts, *rest)

        monkeypatch.setattr(LanguageModel, "loss", bounded)


def test_a_batch_is_halved_when_memory_runs_out_and_the_step_is_done_again(
    lm: LanguageModel, train: list[Problem], seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS, "cpu", 10_000)  # so that nothing but memory parts a batch

    def weights(room: int) -> tuple[dict[str, torch.Tensor], Outcome]:
        model = lm.clone()
        remove_dropout(model.model)  # so that the parts can be compared with the whole
        with monkeypatch.context() as patch:
            small = Small(patch, room)
            step = supervised(supervised_batches(train, 8, 0))
            outcome = fit(model, step, Run(0, seen), learning_rate=1e-4, steps=2)
            assert small.sizes == ([8, 8] if room == 8 else [8, 4, 2, 2, 2, 2, 2, 2, 2, 2])
        return {name: p.detach() for name, p in model.trained().items()}, outcome

    (whole, spent), (parts, same) = weights(8), weights(3)
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 1e-5
    assert same.spent.tokens == spent.spent.tokens and same.spent.steps == 2
    assert [n["text"] for n in seen.notices] == [
        f"out of memory at step 1: {size} examples at once from now on" for size in (4, 2)
    ]


def test_without_room_for_one_example_or_with_a_size_that_was_asked_for_it_is_one_line(
    lm: LanguageModel, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = supervised(supervised_batches(train, 4, 0))
    for room, options in ((0, RunOptions()), (1, RunOptions(micro_batch="2"))):
        with monkeypatch.context() as patch:
            Small(patch, room)
            at_once = 2 if options.micro else 1
            with pytest.raises(TrainingError, match=f"Out of memory at step 1 with {at_once} examples.*--run.micro"):
                fit(lm.clone(), step, Run(options=options), learning_rate=1e-4, steps=2)
    with pytest.raises(OptionError, match=r"--run\.micro-batch is 'many': give a number above 0, or auto"):
        RunOptions(micro_batch="many")


def test_less_is_generated_at_once_where_memory_runs_out_in_scoring(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, generate, sizes = lm.clone(), Leaving.generate, []
    model.max_new_tokens, model.most_at_once = 4, 8

    def bounded(backend: Leaving, lm: LanguageModel, prompts: list[Row], decoding: Decoding) -> list[Row]:
        sizes.append(lm.most_at_once)
        if lm.most_at_once > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(backend, lm, prompts, decoding)

    monkeypatch.setattr(Leaving, "generate", bounded)
    outcome = warm_start(model, task, train, train[:5], WarmStartOptions(steps=2, batch_size=4), Run(0, seen))
    assert sizes == [8, 4, 4] and len(outcome.checks) == 2
    assert [n["text"] for n in seen.notices] == ["out of memory at step 1: 4 examples at once from now on"]


def test_less_is_generated_at_once_where_memory_runs_out_before_anything_is_passed(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, generate, sizes = lm.clone(), Leaving.generate, []
    model.max_new_tokens, model.most_at_once = 4, 8

    def bounded(backend: Leaving, lm: LanguageModel, prompts: list[Row], decoding: Decoding) -> list[Row]:
        if decoding.top_p and len(prompts) == 8:  # a rollout
            sizes.append(lm.most_at_once)
            if lm.most_at_once > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(backend, lm, prompts, decoding)

    monkeypatch.setattr(Leaving, "generate", bounded)
    options = CriticRLOptions(steps=1, batch_size=4, samples=2)
    assert train_critic_rl(model, task, train, train[:2], "scripted", options, Run(0, seen)).spent.steps == 1
    assert sizes == [8, 4, 2] and [n["text"] for n in seen.notices] == [
        f"out of memory at step 1: {size} examples at once from now on" for size in (4, 2)
    ]


def poisoned(batch_of: Callable[[int], Batch], bad: set[int]) -> Callable[[Learner, int], Mapping[str, float]]:
    """A step whose loss is not finite at these numbers."""

    def step(learner: Learner, number: int) -> Mapping[str, float]:
        b = batch_of(number)
        weight = float("nan") if number in bad else 1.0
        return {"loss": learner.backward(b.uids, b.prompts, b.targets, weight)}

    return step


def test_a_step_without_finite_gradient_is_skipped_counted_and_told(
    lm: LanguageModel, train: list[Problem], seen: Seen
) -> None:
    batch_of = supervised_batches(train, 2, 0)
    outcome = fit(lm.clone(), poisoned(batch_of, {1, 2}), Run(0, seen), learning_rate=1e-4, steps=4)
    assert (outcome.spent.steps, outcome.spent.skipped) == (4, 2)
    assert [m.get("skipped", 0) for m in seen.metrics] == [0, 1, 2, 2]
    assert [n["problems"] for n in seen.notices] == [batch_of(1).uids, batch_of(2).uids]
    assert "step 3 skipped: its gradient is not finite (2 in a row)" in seen.notices[1]["text"]


def test_too_many_skipped_steps_stop_with_the_problems_and_the_last_good_checkpoint(
    lm: LanguageModel, train: list[Problem], tmp_path: Path
) -> None:
    batch_of, checkpoints = supervised_batches(train, 2, 0), Checkpoints(tmp_path, 1, 3)
    run = Run(options=RunOptions(max_skipped=3), checkpoints=checkpoints)
    with pytest.raises(TrainingError) as error:
        fit(lm.clone(), poisoned(batch_of, {0, 3, 4, 5}), run, learning_rate=1e-4, steps=9)
    told = str(error.value)
    assert "3 steps in a row" in told and "last good checkpoint is that of step 3" in told
    assert all(uid in told for uid in batch_of(5).uids) and "\n" not in told
    assert checkpoints.steps() == [2, 3]  # none of a step that was skipped


Trainer = Callable[[LanguageModel, Run], Outcome]


def trainers(lm: LanguageModel, task: MathWordProblem, train: list[Problem]) -> dict[str, Trainer]:
    """Each of them, small, with everything in it that is drawn."""
    dev = train[40:43]
    small = RefinerOptions(steps=5, batch_size=3, turns=3)
    paid = CriticRLOptions(steps=5, batch_size=2, samples=2)
    return {
        "warm start": lambda m, run: warm_start(m, task, train, dev, WarmStartOptions(steps=5, batch_size=3), run),
        "critic": lambda m, run: train_critic(
            m, task, train[:20], dev, CriticOptions(steps=5, batch_size=3), run, generator=lm
        ),
        "noisy": lambda m, run: train_refiner(m, task, train, dev, small, run, critic="noisy(oracle, 0.5)"),
        "unseen": lambda m, run: train_refiner(m, task, train, dev, replace(small, source="unseen"), run, seen=[1, 2]),
        "critic-rl": lambda m, run: train_critic_rl(m, task, train, dev, "scripted", paid, run),
    }


class Stop(Seen):
    """Raises after a step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def __call__(self, done: float, **metrics: Any) -> None:
        super().__call__(done, **metrics)
        if metrics["step"] == self.at:
            raise ZeroDivisionError


@pytest.mark.parametrize("name", ["warm start", "critic", "noisy", "unseen", "critic-rl"])
def test_a_training_that_was_cut_goes_on_as_if_it_had_not_been(
    name: str, lm: LanguageModel, task: MathWordProblem, train: list[Problem], tmp_path: Path
) -> None:
    """With dropout, sampling, a critic that errs at random, and checkpoints older than the cut."""
    run_one = trainers(lm, task, train)[name]

    def fresh() -> LanguageModel:
        model = lm.clone()
        model.max_new_tokens = 8
        torch.manual_seed(5)  # as the command does before each training
        return model

    lm.max_new_tokens, before = 8, lm.max_new_tokens
    whole, uncut = fresh(), Seen()
    outcome = run_one(whole, Run(3, uncut))
    checkpoints = Checkpoints(tmp_path, 2, 2)
    parts: list[dict[str, Any]] = []
    for at in (1, 3, 4):
        stopping = Stop(at)
        with pytest.raises(ZeroDivisionError):
            run_one(fresh(), Run(3, stopping, checkpoints=checkpoints))
        parts = [m for m in parts if m["step"] <= stopping.resumed[0]] + stopping.metrics
    model, seen = fresh(), Seen()
    again = run_one(model, Run(3, seen, checkpoints=checkpoints))
    parts = [m for m in parts if m["step"] <= seen.resumed[0]] + seen.metrics
    lm.max_new_tokens = before
    assert seen.resumed == [2] and parts == uncut.metrics
    assert replace(again.spent, wall_s=0.0) == replace(outcome.spent, wall_s=0.0)
    assert again.checks == outcome.checks and again.best == outcome.best
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, model.model.state_dict()[key]), key


@pytest.mark.parametrize(
    ("number", "skipped"), [(signal.SIGTERM, set()), (signal.SIGTERM, {1}), (signal.SIGINT, set())]
)
def test_a_signal_ends_training_after_the_step_with_a_checkpoint(
    number: signal.Signals, skipped: set[int], lm: LanguageModel, train: list[Problem], tmp_path: Path
) -> None:
    class Signalled(Seen):
        def __call__(self, done: float, **metrics: Any) -> None:
            super().__call__(done, **metrics)
            if metrics["step"] == 2:
                os.kill(os.getpid(), number)

    checkpoints = Checkpoints(tmp_path, 0, 1)
    step = poisoned(supervised_batches(train, 2, 0), skipped)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"{number.name} after step 2: --resume goes on from step 2"):
        fit(lm.clone(), step, Run(0, Signalled(), checkpoints=checkpoints), learning_rate=1e-4, steps=5)
    assert checkpoints.steps() == [2] and signal.getsignal(number) == before
    seen = Seen()
    fit(lm.clone(), step, Run(0, seen, checkpoints=checkpoints), learning_rate=1e-4, steps=5)
    assert [m["step"] for m in seen.metrics] == [3, 4, 5]


# ------------------------------------------------------------------------------------------------- sampling


def test_samples_follow_the_nucleus_of_the_distribution() -> None:
    chances = torch.tensor([0.05, 0.4, 0.02, 0.3, 0.03, 0.2])
    scores = chances.log().repeat(4_000, 1)
    sampled = NucleusSampling(0.8, draws(range(4_000), 1))(torch.zeros(4_000, 1), scores).argmax(-1)
    counts = Counter(sampled.tolist())
    assert set(counts) == {1, 3, 5}  # the fewest that reach 0.8
    expected = [4_000 * p / 0.9 for p in (0.4, 0.3, 0.2)]
    assert chisquare([counts[1], counts[3], counts[5]], expected).pvalue > 0.001
    warmer = NucleusSampling(1.0, draws(range(4_000), 1), 2.0)(torch.zeros(4_000, 1), scores).argmax(-1)
    flatter = 4_000 * (scores[0].double() / 2).softmax(-1)
    assert chisquare(torch.bincount(warmer, minlength=6).numpy(), flatter.numpy()).pvalue > 0.001
    everything = NucleusSampling(1.0, draws(range(4_000), 1))(torch.zeros(4_000, 1), scores).argmax(-1)
    found = torch.bincount(everything, minlength=6)
    assert chisquare(found.numpy(), (4_000 * chances).numpy()).pvalue > 0.001


def test_a_nucleus_among_few_tokens_is_that_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(600, 500, generator=torch.manual_seed(0)) * torch.linspace(0.1, 9, 600)[:, None]
    nucleus = scores.softmax(-1).sort(descending=True).values.cumsum(-1) < 0.7
    assert 0 < int((nucleus.sum(-1) >= NARROW).sum()) < 600  # some are wider, and some are not
    sampled = []
    for narrow in (NARROW, 500):
        monkeypatch.setattr("agents.decoding.NARROW", narrow)
        sampled.append(NucleusSampling(0.7, draws(range(600), 1))(torch.zeros(600, 1), scores).argmax(-1))
    assert torch.equal(*sampled)


def test_no_draw_below_1_samples_an_impossible_token() -> None:
    drawn = torch.tensor([[1 - 2**-30]], dtype=torch.float64)
    scores = torch.tensor([[0.0, 1.0, -math.inf]])
    assert NucleusSampling(1.0, drawn)(torch.zeros(1, 1), scores).argmax(-1).tolist() == [1]


def test_a_sample_follows_from_its_seed_alone(lm: LanguageModel, train: list[Problem]) -> None:
    prompts, seeds = [p.text for p in train[:6]], [11, 22, 33, 44, 55, 66]
    together = lm.generate(prompts, top_p=0.9, seeds=seeds)
    assert together == [lm.generate([p], top_p=0.9, seeds=[s])[0] for p, s in zip(prompts, seeds, strict=True)]
    assert lm.generate(prompts, top_p=0.9, seeds=seeds[::-1]) != together
