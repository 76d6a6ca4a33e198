"""TRL's PPO on a T5: the adapters are right, the environments are used, and reward rises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from transformers import GenerationConfig

from agents.lm import LanguageModel
from baselines import ppo
from baselines.ppo import Policy, PPOOptions, Rows, remove_dropout, train_ppo
from refiner_env import RefinerVectorEnv
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Attempt, Problem

OPTIONS = PPOOptions(batch_size=16, epochs=2, learning_rate=1e-12)


def test_every_dropout_is_removed(lm: LanguageModel) -> None:
    model = lm.clone()
    remove_dropout(model.model)
    model.model.train()
    prompts, targets = ["some text"], ["EOS"]
    assert model.loss(prompts, targets).mean.item() == model.loss(prompts, targets).mean.item()


def test_teacher_forcing_gives_the_sampling_distribution(
    lm: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    """Logits at position t are those from which response token t was sampled, for every row of a batch."""
    env = RefinerVectorEnv(
        4, task=task, problems=train, critic="none", max_turns=1, stop="never", autoreset_mode=AutoresetMode.DISABLED
    )
    model = lm.clone()
    remove_dropout(model.model)
    policy, query = Policy(model, Rows(model, env)), torch.tensor([[3], [1], [101], [8]])
    config = GenerationConfig(max_new_tokens=12, do_sample=True, temperature=1.0, top_k=0)
    with torch.no_grad():
        output = policy.generate(query, config)
        logits = policy(output.sequences).logits[:, :-1]
    responses = output.sequences[:, 1:]
    live = (responses != policy.lm.pad).cumprod(1).bool()
    sampled = torch.stack(output.scores, 1).log_softmax(-1).gather(2, responses[..., None])[..., 0]
    forced = logits.log_softmax(-1).gather(2, responses[..., None])[..., 0]
    assert torch.allclose(sampled[live], forced[live], atol=1e-4)
    assert logits.shape[1] == responses.shape[1] and (output.sequences[:, 0] == query[:, 0]).all()
    # and the prompt of each row is the environment's: row 3 is problem 2
    single = model.model(**model.encode([train[2].text]), labels=responses[:1]).logits
    single[..., policy.lm.pad] = -1e4
    assert torch.allclose(single[0].log_softmax(-1)[live[0]], logits[0].log_softmax(-1)[live[0]], atol=1e-4)


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


def test_importing_the_baseline_does_not_import_trl() -> None:
    assert "trl" not in vars(ppo)
