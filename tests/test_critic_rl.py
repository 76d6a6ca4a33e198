"""Reinforcement learning of a critic: advantages, one step, the whole command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Seen

from agents.critic import LearnedCritic
from agents.lm import LanguageModel
from agents.prompts import critic_prompts
from benchmarks.train import main as train
from refiner_env import CriticVectorEnv
from refiner_env.errors import OptionError
from refiner_env.tasks import MathWordProblem
from refiner_env.tasks.phrases import NO_HINT
from refiner_env.types import Problem
from trainers.critic_rl import CriticRLOptions, critic_rl_step, group_advantages, train_critic_rl
from trainers.learning import BestWeights, Learner
from trainers.runs import Outcome, Run, Spent

WRONG = "The operator in #0 is incorrect."


def test_advantages_are_rewards_above_the_mean_of_their_group() -> None:
    rewards = np.array([1.0, 0.0, 2.0, 5.0, 5.0, 5.0])
    assert group_advantages(rewards, 3).tolist() == [0.0, -1.0, 1.0, 0.0, 0.0, 0.0]


def test_a_weighted_loss_is_the_weighted_mean_of_the_single_ones(lm: LanguageModel) -> None:
    model = lm.clone()
    prompts, targets, weights = ["a b", "c d e", "f"], [NO_HINT, WRONG, "#0: add"], [0.5, -2.0, 0.0]
    with model.evaluating():
        single = [model.loss([p], [t]).mean.item() for p, t in zip(prompts, targets, strict=True)]
        together = model.loss(prompts, targets, weights).mean.item()
    assert together == pytest.approx(sum(w * s for w, s in zip(weights, single, strict=True)) / 3, abs=1e-5)


class Spoken:
    """What is sampled, in turn: the two feedbacks side by side in every group."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __call__(self, prompts: Sequence[str], **options: Any) -> list[str]:
        self.prompts = list(prompts)
        return [NO_HINT if i % 2 else WRONG for i in range(len(prompts))]


def test_a_step_makes_what_was_paid_likelier(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    learner, spoken = Learner(lm.clone(), 1e-3), Spoken()
    monkeypatch.setattr(learner.lm, "generate", spoken)
    env = CriticVectorEnv(8, task=task, problems=train, max_turns=1, right_share=1.0)  # accepting is always right
    env.reset(seed=0)
    before = after = [0.0, 0.0]
    for step in range(12):
        assert critic_rl_step(learner, env, [1, 2, 3, 4], 2, step) <= 0.5
        learner.step(0.5)
        groups = [spoken.prompts[i : i + 2] for i in range(0, 8, 2)]
        assert all(a == b for a, b in groups) and len({a for a, _ in groups}) == 4
        with learner.lm.evaluating():  # probabilities of an untrained model are too small to compare
            after = [learner.lm.loss([spoken.prompts[0]], [text]).mean.item() for text in (NO_HINT, WRONG)]
        before = before if step else after
    assert after[0] < before[0] and after[1] > before[1]


def test_groups_that_earn_the_same_teach_nothing(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = Learner(lm.clone(), 1e-3)
    monkeypatch.setattr(learner.lm, "generate", lambda prompts, **options: [NO_HINT] * len(prompts))
    env = CriticVectorEnv(8, task=task, problems=train, max_turns=1, right_share=1.0)
    env.reset(seed=0)
    assert critic_rl_step(learner, env, [1, 2], 4, 0) == 1.0
    assert learner.now.tokens == 0 and all(p.grad is None for p in learner.lm.model.parameters())


def test_training_is_seeded_and_keeps_the_best_on_development_problems(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem], dev: list[Problem], seen: Seen
) -> None:
    options = CriticRLOptions(steps=3, batch_size=2, samples=2)

    def run() -> tuple[list[dict[str, float]], list[dict[str, Any]], list[float]]:
        model, seen.metrics = lm.clone(), []
        model.max_new_tokens = 8
        outcome = train_critic_rl(model, task, train, dev, "scripted", options, Run(1, seen))
        assert outcome.spent.steps == 3 and outcome.spent.rollout_tokens > 0
        env = CriticVectorEnv(len(dev), task=task, problems=dev, max_turns=1, right_share=0.5)
        shown, _ = env.reset(seed=1, options={"index": range(len(dev))})
        kept = env.step(model.generate(critic_prompts(shown["problem"], shown["hypothesis"])))[1].mean()
        assert kept == pytest.approx(max(check["greedy_reward"] for check in outcome.checks))
        return outcome.checks, seen.metrics, [p.sum().item() for p in model.model.parameters()]

    assert run() == run()


SMALL = [
    *("--train.steps", "2", "--train.batch-size", "2", "--train.samples", "2"),
    *("--data.n-train", "20", "--data.n-dev", "4", "--data.n-test", "2"),
]


def test_the_command_goes_on_from_a_critic_and_writes_one(
    lm: LanguageModel, task: MathWordProblem, tmp_path: Path
) -> None:
    LearnedCritic(lm, task, threshold=0.25).save(tmp_path / "critic")
    out = tmp_path / "rl"
    assert train(["critic-rl", "--model", str(tmp_path / "critic"), "--out", str(out), *SMALL]) == 0
    assert LearnedCritic.load(out, task).threshold == 0.25
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2] and all(
        {"reward", "greedy_reward", "sampled_reward"} <= set(line) for line in lines
    )


def test_a_model_that_is_no_critic_yet_may_become_one(
    lm: LanguageModel, task: MathWordProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.train.open_model", lambda *args, **options: lm.clone())
    monkeypatch.setattr("benchmarks.train.train_critic_rl", lambda *args, **options: Outcome(Spent(), [], {}))
    assert train(["critic-rl", "--model", "scratch:tiny", "--out", str(tmp_path / "rl"), *SMALL]) == 0
    assert LearnedCritic.load(tmp_path / "rl", task).writes == "feedback"


def test_a_critic_that_writes_solutions_is_refused(lm: LanguageModel, task: MathWordProblem, tmp_path: Path) -> None:
    LearnedCritic(lm, task, writes="solution").save(tmp_path / "critic")
    with pytest.raises(OptionError, match=r"critic writes solutions: give a critic of --train\.writes feedback"):
        train(["critic-rl", "--model", str(tmp_path / "critic"), "--out", str(tmp_path / "rl"), *SMALL])
    assert not (tmp_path / "rl").exists()


def test_the_best_weights_are_kept_however_low_they_score(lm: LanguageModel) -> None:
    model, scores = lm.clone(), iter([-3.0, -5.0])
    best = BestWeights(Learner(model, 1e-3), lambda: {"reward": next(scores)})
    best.check(1)
    weights = next(model.model.parameters())
    kept = weights.detach().clone()
    torch.nn.init.zeros_(weights)
    best.check(2)
    best.restore()
    assert torch.equal(weights, kept)
