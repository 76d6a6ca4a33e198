"""TRL's PPO on the same models, in the same environments.

TRL 1.12's `PPOTrainer` (the last release that has one) is decoder-only: it concatenates query and
response and cuts at the query's length. Here the "query" is a single number that stands for the problem's row, and
three adapters look the rest up, for encoder-decoders and decoder-only models alike:

    Policy   generate: row -> prompt -> model -> response;  forward: one teacher-forced pass
    Value    a second model whose last hidden states give V(s), one scalar per response token
    Reward   decodes the response and steps the vector environment with it

so that PPO's rollouts are steps of the environments that everyone else acts in. It learns the first turn
only: that is what the paper's PPO baseline does too (RL4LMs with a BLEU reward, not TRL).
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import nn
from transformers import GenerationConfig, PrinterCallback, ProgressCallback, TrainerCallback

from agents.lm import Batch, Forced, LanguageModel
from agents.prompts import generator_prompts
from refiner_env.envs import RefinerVectorEnv
from refiner_env.options import option
from refiner_env.types import Problem, RewardFunction, Task
from trainers.learning import CHECKS, BestWeights, Spent
from trainers.progress import Update
from trainers.rollout import select

_NEVER = -1e4
"""Logit of a token that is never sampled: far below all others, yet finite, so that entropy stays finite."""


@dataclass(frozen=True)
class PPOOptions:
    """TRL PPO."""

    batch_size: int = option(128, "problems a rollout", low=2)
    epochs: int = option(
        1, "optimizer steps on each rollout; more leave fewer rollouts to a token budget", low=1, high=64
    )
    learning_rate: float = option(1e-4, "AdamW learning rate", low=0.0, high=1.0)
    kl_coef: float = option(0.02, "weight of the KL penalty towards the warm start", low=0.0)
    temperature: float = option(0.7, "sampling temperature of rollouts", low=0.01)
    reward: str = option("equivalent", "reward by name; bleu is the paper's")


class Rows:
    """The training problems as the environment shows them, by row.

    A row's id, which stands for its prompt in TRL's sequences, is never the padding's.
    """

    def __init__(self, lm: LanguageModel, env: RefinerVectorEnv) -> None:
        self.lm, self.env = lm, env
        self.prompts: dict[int, str] = {}
        self.trained_tokens = 0  # passed forward and backward, through the policy and through the value model

    def id_of(self, row: int) -> int:
        """The id of a row."""
        return row if row < self.lm.pad else row + 1

    def rows_of(self, sequences: torch.Tensor) -> list[int]:
        """The rows of sequences (N, 1 or more) that begin with their ids."""
        return [id if id < self.lm.pad else id - 1 for id in sequences[:, 0].tolist()]

    def begin(self, query: torch.Tensor) -> None:
        """Reset the environment to the rows of a query (N, 1); its first observations become the prompts."""
        rows = self.rows_of(query)
        observations, _ = self.env.reset(options={"index": rows})
        shown = select(observations, np.arange(len(rows)))
        self.prompts.update(zip(rows, generator_prompts(shown), strict=True))

    def encode(self, query: torch.Tensor) -> Batch:
        """Prompts of the rows in a query (N, 1 or more), tokenized and padded."""
        return self.lm.encode([self.prompts[row] for row in self.rows_of(query)])

    def teacher_forced(self, lm: LanguageModel, sequences: torch.Tensor, *, states: bool = False) -> Forced:
        """One pass of a model over sequences (N, 1 + R) of row and response; counted if it learns."""
        prompts, responses = self.encode(sequences), sequences[:, 1:]
        if torch.is_grad_enabled():
            self.trained_tokens += int(prompts["attention_mask"].sum()) + int((responses != lm.pad).sum())
        return lm.teacher_forced(prompts, responses, states=states)


def with_last_row(rows: torch.Tensor) -> torch.Tensor:
    """(N, R, D) -> (N, R + 1, D): TRL drops the last position, so a copy of it is appended."""
    return torch.cat([rows, rows[:, -1:]], dim=1)


def remove_dropout(model: nn.Module) -> None:
    """Set every dropout to zero. TRL's own helper misses the float in T5's attention, and then the KL of two
    equal models is not 0."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]  # nn.Module types attributes as modules


class Policy(nn.Module):
    """The model as PPOTrainer's policy or reference."""

    is_gradient_checkpointing = False

    def __init__(self, lm: LanguageModel, rows: Rows) -> None:
        super().__init__()
        self.model, self.config, self.generation_config = lm.model, lm.model.config, lm.model.generation_config
        self.lm, self.rows, self.generated_tokens = lm, rows, 0

    def generate(self, input_ids: torch.Tensor, generation_config: GenerationConfig, **_: Any) -> SimpleNamespace:
        """Sampled responses: sequences (N, 1 + R) that begin with the row, and scores, R times (N, V)."""
        self.rows.begin(input_ids)
        generation_config.update(**self.lm.start, suppress_tokens=[self.lm.pad])
        prompts = self.rows.encode(input_ids)
        output = self.model.generate(
            **prompts,
            generation_config=generation_config,
            return_dict_in_generate=True,
            output_scores=True,
        )
        responses = self.lm.completions(output.sequences, prompts)
        self.generated_tokens += int((responses != self.lm.pad).sum())
        return SimpleNamespace(sequences=torch.cat([input_ids, responses], dim=1), scores=output.scores)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        """Logits (N, 1 + R, V): position t predicts response token t."""
        logits = self.rows.teacher_forced(self.lm, input_ids).logits
        logits[..., self.lm.pad] = _NEVER
        return SimpleNamespace(logits=with_last_row(logits))


class ValueBackbone(nn.Module):
    """A copy of the model that returns its last hidden states, (N, 1 + R, D)."""

    def __init__(self, lm: LanguageModel, rows: Rows) -> None:
        super().__init__()
        self.model, self.lm, self.rows = lm.model, lm, rows

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        states = self.rows.teacher_forced(self.lm, input_ids, states=True).states
        assert states is not None
        return SimpleNamespace(hidden_states=(with_last_row(states),))


class Value(nn.Module):
    """PPOTrainer's value model: V(s) per response token. Never called a critic here."""

    base_model_prefix = "backbone"

    def __init__(self, lm: LanguageModel, rows: Rows) -> None:
        super().__init__()
        self.backbone = ValueBackbone(lm, rows)
        self.score = nn.Linear(lm.model.config.hidden_size, 1).to(lm.model.device)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)


class EnvironmentReward(nn.Module):
    """Steps the environment with the decoded responses and gives its rewards, at every position (N, 1 + R, 1)."""

    def __init__(self, lm: LanguageModel, env: RefinerVectorEnv) -> None:
        super().__init__()
        self.lm, self.env = lm, env

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        texts = self.lm.tokenizer.batch_decode(input_ids[:, 1:], skip_special_tokens=True)
        texts += [""] * (self.env.num_envs - len(texts))
        rewards = torch.as_tensor(self.env.step(texts)[1][: len(input_ids)], dtype=torch.float32)
        return SimpleNamespace(
            hidden_states=(rewards.to(input_ids.device)[:, None, None].expand(-1, input_ids.shape[1], 1),)
        )


class Reward(nn.Module):
    """PPOTrainer's reward model."""

    base_model_prefix = "backbone"

    def __init__(self, lm: LanguageModel, env: RefinerVectorEnv) -> None:
        super().__init__()
        self.backbone, self.score = EnvironmentReward(lm, env), nn.Identity()


class _BudgetSpentError(Exception):
    """PPOTrainer has no stop by tokens; this leaves its loop."""


class _Watch(TrainerCallback):
    """Reports each update, scores on development problems, and stops at the token budget."""

    def __init__(self, rows: Rows, budget: int, best: BestWeights | None, update: Update) -> None:
        self.rows, self.budget, self.best, self.update = rows, budget, best, update
        self.checked, self.updates = 0, 0
        self.dev = best.check() if best else 0.0
        self.records: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        logs = logs or {}
        names = {
            "reward": "objective/scores",
            "kl": "objective/kl",
            "ratio": "val/ratio",
            "approx_kl": "policy/approxkl_avg",
        }
        self.records.append({name: logs[key] for name, key in names.items()})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.updates += 1
        done = min(1.0, self.rows.trained_tokens / self.budget)
        if self.best and done * CHECKS >= self.checked + 1:
            self.checked, self.dev = int(done * CHECKS), self.best.check()
        dev = {"dev": self.dev} if self.best else {}
        self.update(done, step=self.updates, **self.records[-1], **dev)
        if done >= 1.0:
            raise _BudgetSpentError


def train_ppo(
    lm: LanguageModel,
    task: Task[Any],
    train: Sequence[Problem],
    options: PPOOptions,
    *,
    token_budget: int,
    seed: int,
    update: Update,
    score: Callable[[], float] | None = None,
    reward: RewardFunction | None = None,
) -> tuple[Spent, list[dict[str, float]]]:
    """Train the warm-started `lm` in place with TRL's PPO.

    Args:
        token_budget: stop after this many tokens passed forward and backward, those of the value model, which is
            as large as the policy, counted too.
        score: development score by which the weights are chosen; None keeps the last.
        reward: a reward function in place of `options.reward`.

    Returns:
        What it spent, and per update `reward` (mean over the rollout), `kl` to the warm start, `ratio` and `approx_kl`.
    """
    import datasets

    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.ppo import PPOConfig, PPOTrainer  # costs seconds of import: late

    started = time.monotonic()
    size = min(options.batch_size, len(train))
    env = RefinerVectorEnv(
        size,
        task=task,
        problems=train,
        critic="none",
        reward=reward or options.reward,
        max_turns=1,
        stop="never",
        autoreset_mode=AutoresetMode.DISABLED,
    )
    rows = Rows(lm, env)
    copies = lm.clone(), lm.clone()
    for model in (lm, *copies):
        remove_dropout(model.model)
    policy = Policy(lm, rows)
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=folder,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=1,
                num_mini_batches=1,  # more would change nothing but the logged statistics
                num_ppo_epochs=options.epochs,
                local_rollout_forward_batch_size=size,
                total_episodes=size * (1 + token_budget // options.epochs),  # never reached: the budget stops it
                learning_rate=options.learning_rate,
                lr_scheduler_type="constant",
                kl_coef=options.kl_coef,
                temperature=options.temperature,
                response_length=lm.max_new_tokens,
                stop_token="eos",
                num_sample_generations=0,
                bf16=False,
                gradient_checkpointing=False,
                use_cpu=lm.model.device.type == "cpu",
                report_to="none",
                save_strategy="no",
                seed=seed,
            ),
            processing_class=lm.tokenizer,
            model=policy,
            ref_model=Policy(copies[0], rows),
            reward_model=Reward(lm, env),
            value_model=Value(copies[1], rows),
            train_dataset=datasets.Dataset.from_dict({"input_ids": [[rows.id_of(i)] for i in range(len(train))]}),
            eval_dataset=datasets.Dataset.from_dict({"input_ids": [[rows.id_of(0)]]}),
        )
        for printing in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printing)
        trainer.accelerator.print = lambda *args, **kwargs: None
        watch = _Watch(rows, token_budget, BestWeights(lm, score) if score else None, update)
        trainer.add_callback(watch)
        gc.freeze()  # TRL collects garbage twice per update; without this, all of torch's modules are walked each time
        try:
            trainer.train()
        except _BudgetSpentError:
            pass
        finally:
            gc.unfreeze()
    if watch.best:
        watch.best.restore()
    steps = watch.updates * options.epochs
    return Spent(steps, rows.trained_tokens, policy.generated_tokens, time.monotonic() - started), watch.records
