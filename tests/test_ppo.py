"""TRL's PPO on a T5: the adapters are right, the environments are used, reward rises, and nothing stops it for good."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from agents.decoding import Batch, Decoding, Row
from agents.encoder_decoder import EncoderDecoder
from agents.lm import LanguageModel
from agents.lora import LoraOptions, add_adapter
from agents.models import open_model
from baselines import ppo
from baselines.ppo import Policy, PPOOptions, Rollout, remove_dropout, train_ppo
from benchmarks.train import main
from refiner_env import RefinerVectorEnv
from refiner_env.errors import OptionError, TrainingError
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Attempt, Problem
from trainers.checkpoints import Checkpoints
from trainers.learning import Learner
from trainers.progress import Update
from trainers.runs import Outcome, Run, RunOptions
from trainers.sharding import Placement

OPTIONS = PPOOptions(batch_size=16, epochs=2, learning_rate=1e-12)
LEARNING = PPOOptions(batch_size=6, epochs=2, learning_rate=1e-3)


class Killed(BaseException):
    """Ends a training from inside."""


class Shown(Update):
    """Keeps what is shown.

    Args:
        last: the step after which the training is killed; 0 never.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last
        self.figures: list[dict[str, Any]] = []
        self.notices: list[str] = []
        self.resumed = 0

    def __call__(self, done: float, **metrics: Any) -> None:
        self.figures.append({"done": done, **metrics})
        if metrics["step"] == self.last:
            raise Killed

    def notice(self, text: str, **fields: Any) -> None:
        self.notices.append(text)

    def resume(self, step: int) -> None:
        self.resumed = step


def weights(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in lm.model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def costs(outcome: Outcome) -> dict[str, float]:
    return {name: value for name, value in asdict(outcome.spent).items() if name != "wall_s"}


def test_every_dropout_is_removed(lm: LanguageModel) -> None:
    model = lm.clone()
    remove_dropout(model.model)
    model.model.train()
    prompts, targets = ["some text"], ["EOS"]
    assert model.loss(prompts, targets).mean.item() == model.loss(prompts, targets).mean.item()


@pytest.fixture(params=["encoder-decoder", "decoder-only"])
def rollout(request: pytest.FixtureRequest, lm: LanguageModel, task: MathWordProblem, train: list[Problem]) -> Rollout:
    """Responses of a model of either kind to prompts of different lengths, written at a temperature of 0.7."""
    torch.manual_seed(1)
    model = lm.clone() if request.param == "encoder-decoder" else open_model("scratch:decoder-tiny", task, train)
    model.max_new_tokens = 12
    remove_dropout(model.model)
    env = RefinerVectorEnv(
        40, task=task, problems=train, critic="none", max_turns=1, stop="never", autoreset_mode=AutoresetMode.DISABLED
    )
    found = Rollout(model, env, 0.7)
    found.begin(range(100, 140))
    found.write()
    found.responses[3] = [*found.responses[3][:4], int(model.tokenizer.eos_token_id)]  # or all are as long
    found.lengths[3] = 5
    return found


def column(row: Row) -> torch.Tensor:
    return torch.tensor(row)[:, None]


def one_by_one(rollout: Rollout, of: str) -> list[torch.Tensor]:
    """What each problem's own pass gives, (L, V) or (L, D)."""
    lm = rollout.lm
    pairs = zip(rollout.prompts, rollout.responses, strict=True)
    return [getattr(lm, of)(lm.batch([p]), lm.padded([r]))[0] for p, r in pairs]


def test_the_prompts_are_the_environments(rollout: Rollout, train: list[Problem]) -> None:
    assert rollout.prompts == rollout.lm.prompt_rows([p.text for p in train[100:140]])
    assert {len(p) for p in rollout.prompts} != {len(rollout.prompts[0])}


@pytest.mark.parametrize("micro", [None, 7])
def test_two_logits_are_as_good_as_a_vocabularys(rollout: Rollout, micro: int | None) -> None:
    """For the tokens' probabilities at the rollout's temperature and for their gradient, in any order."""
    rollout.micro = micro
    parameters = list(rollout.lm.model.parameters())
    policy, order = Policy(rollout.lm, rollout), torch.arange(40).flip(0)
    two = policy(rollout.sequences[order]).logits[:, :-1] / 0.7
    chosen = (rollout.sequences[order, 1:] == 1).long()
    of_two = two.log_softmax(-1).gather(-1, chosen[..., None])[..., 0].masked_fill(chosen == 0, 0).flip(0)
    assert rollout.trained_tokens == sum(len(r) for r in rollout.prompts + rollout.responses)
    of_all = [
        (logits / 0.7).index_fill(-1, torch.tensor([rollout.lm.pad]), -1e4).log_softmax(-1).gather(-1, row)[:, 0]
        for logits, row in zip(one_by_one(rollout, "teacher_forced"), map(column, rollout.responses), strict=True)
    ]
    for row, expected in zip(of_two, of_all, strict=True):
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-4, rtol=1e-4)
    weights = torch.rand(40)
    rollout.backward((of_two.sum(1) * weights).sum(), Placement(rollout.lm, RunOptions()))
    found = [p.grad for p in parameters if p.grad is not None]
    expected_ones = torch.autograd.grad(sum(w * row.sum() for w, row in zip(weights, of_all, strict=True)), parameters)
    one, other = (torch.cat([g.flatten() for g in gradient]) for gradient in (found, expected_ones))
    assert (one - other).norm() < 1e-4 * other.norm()


def test_a_token_that_is_all_but_certain_has_finite_logits(rollout: Rollout) -> None:
    """Where nothing is left to other tokens, two logits could only be had from a probability of 1."""
    head = rollout.lm.model.get_output_embeddings().weight
    with torch.no_grad():
        head *= 1e3
    odds = rollout.odds(rollout.lm)
    log = (odds / 0.7).log_softmax(-1)[..., 1]
    rollout.backward(log.sum(), Placement(rollout.lm, RunOptions()))
    assert odds.isfinite().all() and head.grad.isfinite().all() and (log > -1e-6).any()


def test_values_see_each_token_before_and_the_whole_response_at_last(rollout: Rollout) -> None:
    states = rollout.passed(rollout.lm, rollout.lm.states)
    assert states.shape[:2] == rollout.sequences.shape
    for row, prompt, response in zip(states, rollout.prompts, rollout.responses, strict=True):
        lm, after = rollout.lm, [*response, rollout.lm.pad]
        expected = lm.states(lm.batch([prompt]), lm.padded([after]))[0]
        torch.testing.assert_close(row[: len(after)], expected, atol=1e-4, rtol=1e-4)
    head = rollout.lm.model.get_output_embeddings()
    logits = head(one_by_one(rollout, "states")[0])
    expected = one_by_one(rollout, "teacher_forced")[0]
    # T5 scales its states on the way to logits
    torch.testing.assert_close(logits / logits.norm(), expected / expected.norm(), atol=1e-4, rtol=1e-3)


def test_what_a_hub_model_adds_to_generation_is_left_out(rollout: Rollout) -> None:
    written = []
    for penalty in (None, 5.0):
        rollout.lm.model.generation_config.repetition_penalty = penalty
        torch.manual_seed(3)
        rollout.write()
        assert rollout.lm.model.generation_config.repetition_penalty == penalty
        written.append(rollout.responses)
    rollout.lm.model.generation_config.repetition_penalty = None
    assert written[0] == written[1]


def test_responses_are_written_at_the_temperature(rollout: Rollout) -> None:
    """One near 0 is greedy."""
    model, drawn = rollout.lm, list(rollout.responses)
    rollout.temperature = 1e-6
    rollout.write()
    assert rollout.responses == model.backend.generate(model, rollout.prompts, Decoding(12, never=model.pad)) != drawn


def test_each_model_passes_once_over_a_rollout(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Policy, value model and reference; and with each further epoch, policy and value model."""
    passes, prompts = Counter[str](), 0
    batched = EncoderDecoder.prompt_rows

    def watched(of: str) -> None:
        method = getattr(EncoderDecoder, of)

        def counted(self: EncoderDecoder, *given: Any) -> torch.Tensor:
            passes[of] += 1
            return method(self, *given)  # type: ignore[no-any-return]

        monkeypatch.setattr(EncoderDecoder, of, counted)

    def tokenized(self: EncoderDecoder, texts: list[str]) -> list[Row]:
        nonlocal prompts
        prompts += 1
        return batched(self, texts)

    watched("teacher_forced")
    watched("states")
    monkeypatch.setattr(EncoderDecoder, "prompt_rows", tokenized)
    for epochs in (1, 3):
        model = lm.clone()
        model.max_new_tokens = 6
        passes.clear()
        prompts = 0
        options = replace(LEARNING, epochs=epochs)
        _, records = train_ppo(model, task, train, options, token_budget=800)
        assert passes == {"teacher_forced": (1 + epochs) * len(records), "states": epochs * len(records)}
        assert prompts == len(records) > 0


def test_at_no_learning_rate_the_ratio_is_one_and_the_kl_zero(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    model = lm.clone()
    model.max_new_tokens = 16
    outcome, records = train_ppo(model, task, train, OPTIONS, token_budget=4_000)
    first = records[0]
    assert first["ratio"] == pytest.approx(1.0, abs=1e-5)
    assert first["kl"] == pytest.approx(0.0, abs=1e-4)
    assert first["approx_kl"] == pytest.approx(0.0, abs=1e-8)
    assert outcome.spent.steps == len(records) * OPTIONS.epochs and outcome.spent.tokens >= 4_000


def test_reward_rises_on_a_toy_problem(lm: LanguageModel, task: MathWordProblem, train: list[Problem]) -> None:
    """Pay for naming a number: PPO finds it, and the trained model does so more often than before."""
    model = lm.clone()
    model.max_new_tokens = 8

    def reward(attempt: Attempt) -> float:
        return float("number" in attempt.hypothesis)

    def share(of: LanguageModel) -> float:
        torch.manual_seed(0)
        return sum("number" in t for t in of.generate([p.text for p in train], top_p=1.0)) / len(train)

    before = share(model)
    torch.manual_seed(0)
    np.random.seed(0)
    options = PPOOptions(batch_size=32, epochs=4, learning_rate=1e-3, kl_coef=0.0, temperature=1.0)
    _, records = train_ppo(model, task, train, options, token_budget=140_000, reward=reward)
    rewards = [r["reward"] for r in records]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.3
    assert share(model) > before + 0.3


def test_rollouts_are_steps_of_the_vector_environment(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[list[str], list[str]]] = []
    step: Callable[..., object] = RefinerVectorEnv.step

    def watched(self: RefinerVectorEnv, actions: list[str]) -> object:
        steps.append(([state.problem.uid for state in self._states], list(actions)))
        return step(self, actions)

    monkeypatch.setattr(RefinerVectorEnv, "step", watched)
    seen: list[tuple[str, str]] = []

    def reward(attempt: Attempt) -> float:
        seen.append((attempt.problem.uid, attempt.hypothesis))
        return 0.0

    model = lm.clone()
    model.max_new_tokens = 6
    _, records = train_ppo(model, task, train, OPTIONS, token_budget=4_000, reward=reward)
    assert len(steps) == len(records)
    assert seen == [pair for uids, actions in steps for pair in zip(uids, actions, strict=True)]
    assert len({uid for uid, _ in seen}) > 16


@pytest.mark.parametrize(
    ("kind", "last"), [("encoder-decoder", 1), ("encoder-decoder", 3), ("decoder-only", 3), ("adapter", 3)]
)
def test_a_resumed_training_equals_the_uninterrupted_one(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], tmp_path: Path, kind: str, last: int
) -> None:
    torch.manual_seed(0)
    start = open_model("scratch:decoder-tiny", task, train) if kind == "decoder-only" else lm.clone()
    start.max_new_tokens = 6
    if kind == "adapter":
        start.save(tmp_path / "base")
        start.model.config.name_or_path = str(tmp_path / "base")
        add_adapter(start, LoraOptions(r=2))

    def trained(shown: Shown, folder: str) -> tuple[Any, ...]:
        rollouts: list[tuple[str, str]] = []

        def reward(attempt: Attempt) -> float:
            rollouts.append((attempt.problem.uid, attempt.hypothesis))
            return len(attempt.hypothesis) % 3 / 2

        def score() -> dict[str, float]:
            return {"moved": float(not same(weights(model), weights(start)))}  # the first check after 0 is the best

        model = start.clone()
        run = Run(5, shown, RunOptions(), Checkpoints(tmp_path / folder, every=2, keep=2))
        try:
            result = train_ppo(model, task, train, LEARNING, run, token_budget=4_500, reward=reward, score=score)
        except Killed:
            return ()
        return *result, weights(model), rollouts

    whole, first, second = Shown(), Shown(last), Shown()
    outcome, records, final, rollouts = trained(whole, "whole")
    assert len(records) > 3 and not same(final, weights(start)) and outcome.best["step"] in (1, 2)
    assert not trained(first, "cut")
    resumed_outcome, resumed_records, resumed_final, resumed_rollouts = trained(second, "cut")
    kept = last // 2 * 2
    assert second.resumed == kept
    assert same(final, resumed_final) and records == resumed_records
    assert costs(outcome) == costs(resumed_outcome) and outcome.checks == resumed_outcome.checks
    assert first.figures == whole.figures[:last] and second.figures == whole.figures[kept:]
    assert resumed_rollouts == rollouts[kept * LEARNING.batch_size :]


def test_after_a_resumption_the_ratio_is_one_and_the_kl_is_to_the_warm_start(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], tmp_path: Path
) -> None:
    start = lm.clone()
    start.max_new_tokens = 6
    options = PPOOptions(batch_size=8, epochs=1, learning_rate=1e-3, temperature=1.0)

    def trained(shown: Shown) -> list[dict[str, float]]:
        run = Run(0, shown, RunOptions(), Checkpoints(tmp_path, every=2, keep=1))
        return train_ppo(start.clone(), task, train, options, run, token_budget=3_000)[1]

    with pytest.raises(Killed):
        trained(Shown(last=3))
    shown = Shown()
    records = trained(shown)
    assert shown.resumed == 2 and len(records) > 3
    for record in records:
        assert record["ratio"] == pytest.approx(1.0, abs=1e-5) and record["approx_kl"] == pytest.approx(0.0, abs=1e-8)
    assert records[0]["kl"] == pytest.approx(0.0, abs=1e-4) and abs(records[2]["kl"]) > 1e-3


def broken_rewards(monkeypatch: pytest.MonkeyPatch, updates: set[int]) -> None:
    """The rewards of these updates, counted from 1, are not numbers."""
    forward, count = ppo.EnvironmentReward.forward, 0

    def broken(self: ppo.EnvironmentReward, input_ids: torch.Tensor, **other: Any) -> SimpleNamespace:
        nonlocal count
        count += 1
        (states,) = forward(self, input_ids, **other).hidden_states
        return SimpleNamespace(hidden_states=(states * (math.nan if count in updates else 1.0),))

    monkeypatch.setattr(ppo.EnvironmentReward, "forward", broken)


def broken_gradients(monkeypatch: pytest.MonkeyPatch, passes: set[int]) -> None:
    """The losses of these backward passes, counted from 1, are not numbers."""
    backward, count = ppo.Rollout.backward, 0

    def broken(self: Rollout, loss: torch.Tensor, placement: Placement) -> None:
        nonlocal count
        count += 1
        backward(self, loss * math.nan if count in passes else loss, placement)

    monkeypatch.setattr(ppo.Rollout, "backward", broken)


@pytest.mark.parametrize(
    "breaks", [lambda mp: broken_rewards(mp, {2}), lambda mp: broken_gradients(mp, {3})], ids=["rewards", "first epoch"]
)
def test_an_update_that_is_not_finite_leaves_the_weights_and_is_told(
    lm: LanguageModel,
    task: MathWordProblem,
    train: list[Problem],
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[pytest.MonkeyPatch], None],
) -> None:
    breaks(monkeypatch)
    model = lm.clone()
    model.max_new_tokens = 6
    after: list[dict[str, torch.Tensor]] = []

    class Watching(Shown):
        def __call__(self, done: float, **metrics: Any) -> None:
            super().__call__(done, **metrics)
            after.append(weights(model))

    shown = Watching()
    outcome, records = train_ppo(model, task, train, LEARNING, Run(0, shown), token_budget=4_000)
    assert same(after[0], after[1]) and not same(after[1], after[2])
    assert all(p.isfinite().all() for p in after[-1].values())
    assert outcome.spent.skipped == 1 and shown.figures[-1]["skipped"] == 1
    assert len(records) == len(after) and outcome.spent.tokens >= 4_000
    (notice,) = shown.notices
    assert notice.startswith("step 2 skipped: its gradient is not finite")


def test_too_many_updates_that_are_not_finite_end_with_their_problems(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_rewards(monkeypatch, {2, 3})
    model, seen = lm.clone(), []
    model.max_new_tokens = 6

    def reward(attempt: Attempt) -> float:
        seen.append(attempt.problem.uid)
        return 0.0

    run = Run(0, Shown(), RunOptions(max_skipped=2))
    with pytest.raises(TrainingError, match="2 steps in a row") as error:
        train_ppo(model, task, train, LEARNING, run, token_budget=10_000, reward=reward)
    assert len(seen) == 3 * LEARNING.batch_size and all(uid in str(error.value) for uid in seen[-LEARNING.batch_size :])


@pytest.mark.parametrize("micro_batch", ["1", "4", "auto"])
def test_an_update_in_parts_is_the_same_update(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], monkeypatch: pytest.MonkeyPatch, micro_batch: str
) -> None:
    """With auto, memory is made to run out above four examples.

    Rewards differ: were they all the same, advantages would be rounding, whitened.
    """
    gradients: list[dict[str, torch.Tensor]] = []
    largest: list[int] = []
    forced = EncoderDecoder.teacher_forced
    limit = 6

    def watched_move(self: Learner, done: float) -> bool:
        gradients.append({name: p.grad.clone() for name, p in self.trained.items() if p.grad is not None})
        raise Killed

    def watched(self: EncoderDecoder, batch: Batch, responses: torch.Tensor) -> torch.Tensor:
        if len(responses) > limit:
            raise RuntimeError("CUDA out of memory.")
        largest.append(len(responses))
        return forced(self, batch, responses)

    monkeypatch.setattr(Learner, "move", watched_move)
    monkeypatch.setattr(EncoderDecoder, "teacher_forced", watched)
    for parts in ("auto", micro_batch):
        model, shown = lm.clone(), Shown()
        model.max_new_tokens = 6
        largest.clear()
        run = Run(0, shown, RunOptions(micro_batch=parts))
        with pytest.raises(Killed):
            train_ppo(model, task, train, LEARNING, run, token_budget=3_000, reward=lambda a: len(a.hypothesis) % 3 / 2)
        limit = 4
    assert max(largest) == {"1": 1, "4": 4, "auto": 3}[micro_batch]
    assert len(shown.notices) == (micro_batch == "auto")
    whole, parted = gradients
    assert any("head" in name for name in whole) and whole.keys() == parted.keys()
    one, other = (torch.cat([gradient[name].flatten() for name in whole]) for gradient in (whole, parted))
    assert (one - other).norm() < 1e-3 * one.norm()


@pytest.mark.parametrize(("options", "rates"), [({}, [1e-3]), ({"warmup": 1.0}, None), ({"schedule": "linear"}, None)])
def test_the_learning_rate_is_constant_unless_asked_otherwise(
    lm: LanguageModel,
    task: MathWordProblem,
    train: list[Problem],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    rates: list[float] | None,
) -> None:
    model, seen = lm.clone(), []
    model.max_new_tokens = 6
    move = Learner.move

    def watched(self: Learner, done: float) -> bool:
        finite = move(self, done)
        seen.append(self.optimizer.param_groups[0]["lr"])
        return finite

    monkeypatch.setattr(Learner, "move", watched)
    train_ppo(model, task, train, PPOOptions(batch_size=6, learning_rate=1e-3, **options), token_budget=2_500)
    assert len(seen) > 2
    if rates:
        assert set(seen) == set(rates)
    else:
        assert seen == sorted(seen, reverse="schedule" in options) and len(set(seen)) == len(seen)


def test_the_schedule_of_other_trainers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--run\.schedule is not PPO's, which has its own: give --train\.schedule"):
        main(["ppo", "--model", "refiner-tiny", "--out", str(tmp_path / "ppo"), "--run.schedule", "cosine"])
    assert not (tmp_path / "ppo").exists()


def test_in_reduced_precision_and_with_checkpointed_gradients_the_ratio_is_near_one(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    model = lm.clone()
    model.max_new_tokens = 6
    run = Run(0, Shown(), RunOptions(precision="bf16", gradient_checkpointing=True, weight_decay=0.01))
    outcome, records = train_ppo(model, task, train, LEARNING, run, token_budget=2_500)
    assert records[0]["kl"] == pytest.approx(0.0, abs=0.1) and not outcome.spent.skipped
    assert all(math.isfinite(value) for record in records for value in record.values())
    assert not same(weights(model), weights(lm))


def test_importing_the_baseline_does_not_import_trl() -> None:
    assert "trl" not in vars(ppo)
