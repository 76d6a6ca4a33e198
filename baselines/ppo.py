"""TRL's PPO on the same models, in the same environments.

TRL 1.12's `PPOTrainer` (the last release that has one) is decoder-only: it concatenates query and
response and cuts at the query's length. Here the "query" is a single number that stands for the problem's row, and
three adapters look the rest up, for encoder-decoders and decoder-only models alike:

    Policy   generate: row -> prompt -> model -> response;  forward: one teacher-forced pass
    Value    a second model whose last hidden states give V(s), one scalar per response token
    Reward   decodes the response and steps the vector environment with it

so that PPO's rollouts are steps of the environments that everyone else acts in. It learns the first turn
only: that is what the paper's PPO baseline does too (RL4LMs with a BLEU reward, not TRL).

A step of `trainers.learning.fit` is one update: TRL trains for one batch, and its last optimizer step is left to the
loop. So checkpoints, skipped steps and several processes are those of every other training: nothing but the weights of
policy and value model and their optimizer goes from one update to the next. The reference is the warm start itself.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig, PrinterCallback, ProgressCallback

from agents.decoding import Batch
from agents.lm import LanguageModel
from agents.prompts import generator_prompts
from refiner_env.envs import RefinerVectorEnv
from refiner_env.options import option
from refiner_env.types import Problem, RewardFunction, Task
from trainers.batches import batch
from trainers.learning import Learner, Score, fit, prepare, step_seed
from trainers.processes import most_of, processes, share
from trainers.rollout import select
from trainers.runs import SCHEDULES, Outcome, Run

_NEVER = -1e4
"""Logit of a token that is never sampled: far below all others, yet finite, so that entropy stays finite."""
_FIGURES = {
    "reward": "objective/scores",
    "kl": "objective/kl",
    "ratio": "val/ratio",
    "approx_kl": "policy/approxkl_avg",
}
"""What is shown of an update, and what TRL calls it."""


@dataclass(frozen=True)
class PPOOptions:
    """TRL PPO."""

    batch_size: int = option(128, "problems a rollout", low=2)
    epochs: int = option(
        1, "optimizer steps on each rollout; more leave fewer rollouts to a token budget", low=1, high=64
    )
    learning_rate: float = option(1e-4, "peak AdamW learning rate", low=0.0, high=1.0)
    schedule: str = option("constant", "how the learning rate goes on after its rise, here alone", choices=SCHEDULES)
    warmup: float = option(0.0, "share of training in which the learning rate rises, here alone", low=0.0, high=1.0)
    kl_coef: float = option(0.02, "weight of the KL penalty towards the warm start", low=0.0)
    temperature: float = option(0.7, "sampling temperature of rollouts", low=0.01)
    reward: str = option("equivalent", "reward by name; bleu is the paper's")


class Rows:
    """The training problems as the environment shows them, by row.

    A row's id, which stands for its prompt in TRL's sequences, is never the padding's.

    Attributes:
        trained_tokens: passed forward and backward, through the policy and through the value model.
        micro: how many sequences are passed at once; None for all.
    """

    def __init__(self, lm: LanguageModel, env: RefinerVectorEnv) -> None:
        self.lm, self.env = lm, env
        self.prompts: dict[int, str] = {}
        self.trained_tokens = 0
        self.micro: int | None = None

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

    def teacher_forced(self, lm: LanguageModel, sequences: torch.Tensor, *, states: bool = False) -> torch.Tensor:
        """One pass of a model over sequences (N, 1 + R) of row and response; counted if it learns.

        Only one part of `micro` sequences at a time holds activations: each part is passed again in the backward pass.

        Returns:
            Logits (N, R, V), or the last hidden states (N, R, D).
        """
        cut = self.lm.cut_prompts
        prompts, responses = self.encode(sequences), sequences[:, 1:]
        self.lm.cut_prompts = cut  # counted when the responses were generated
        if torch.is_grad_enabled():
            self.trained_tokens += int(prompts["attention_mask"].sum()) + int((responses != lm.pad).sum())

        def passed(part: slice) -> torch.Tensor:
            with lm.computing():
                inputs = {name: values[part] for name, values in prompts.items()}
                forced = lm.teacher_forced(inputs, responses[part], states=states)
            found = forced.states if states else forced.logits
            assert found is not None
            return found.float()

        size = self.micro or len(responses)
        parts = [slice(start, start + size) for start in range(0, len(responses), size)]
        if len(parts) == 1:
            return passed(parts[0])
        return torch.cat([checkpoint(passed, part, use_reentrant=False, preserve_rng_state=False) for part in parts])


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
        self.lm, self.rows = lm, rows

    def generate(self, input_ids: torch.Tensor, generation_config: GenerationConfig, **_: Any) -> SimpleNamespace:
        """Sampled responses: sequences (N, 1 + R) that begin with the row, and scores, R times (N, V)."""
        self.rows.begin(input_ids)
        generation_config.update(**self.lm.start, suppress_tokens=[self.lm.pad])
        prompts = self.rows.encode(input_ids)
        with self.lm.evaluating(), self.lm.computing():
            output = self.model.generate(
                **prompts,
                generation_config=generation_config,
                return_dict_in_generate=True,
                output_scores=True,
            )
        responses = self.lm.completions(output.sequences, prompts)
        self.lm.generated_tokens += int((responses != self.lm.pad).sum())
        return SimpleNamespace(sequences=torch.cat([input_ids, responses], dim=1), scores=output.scores)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        """Logits (N, 1 + R, V): position t predicts response token t."""
        logits = self.rows.teacher_forced(self.lm, input_ids)
        logits[..., self.lm.pad] = _NEVER
        return SimpleNamespace(logits=with_last_row(logits))


class ValueBackbone(nn.Module):
    """A copy of the model that returns its last hidden states, (N, 1 + R, D)."""

    def __init__(self, lm: LanguageModel, rows: Rows) -> None:
        super().__init__()
        self.model, self.lm, self.rows = lm.model, lm, rows

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        states = self.rows.teacher_forced(self.lm, input_ids, states=True)
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


class _Epochs:
    """The optimizer that PPOTrainer sees in one update: it does all steps but the last, which is the training loop's.

    A gradient that is not finite stays where it is, so that the last step finds it and skips the rest of the update.
    """

    def __init__(self, learner: Learner, epochs: int, done: float) -> None:
        self.learner, self.left, self.done = learner, epochs, done

    def step(self) -> None:
        self.left -= 1
        for p in self.learner.trained.values():
            if p.grad is not None:
                p.grad /= processes().num_processes  # TRL's loss is a mean over a process's own rows
        if self.left and self.learner.move(self.done):
            self.learner.optimizer.zero_grad()

    def zero_grad(self) -> None:
        """The learner does this itself."""


def train_ppo(
    lm: LanguageModel,
    task: Task[Any],
    train: Sequence[Problem],
    options: PPOOptions,
    run: Run = Run(),
    *,
    token_budget: int,
    score: Score | None = None,
    reward: RewardFunction | None = None,
) -> tuple[Outcome, list[dict[str, float]]]:
    """Train the warm-started `lm` in place with TRL's PPO.

    A step of the run, which checkpoints and `max_skipped` count, is one update: a rollout and its optimizer steps. The
    learning rate follows `options`, all else the run's options. With parts (`micro_batch`) the update is the same, at
    the price of a second forward pass; rollouts are generated whole. An update in which memory runs out is done again
    from the weights that it has reached: with one epoch, those it began with.

    Each of several processes rolls out its share of the rows, all shares of one size: the batch is rounded up to a
    multiple of them. TRL whitens advantages over a process's own rows and averages losses over its own tokens, so the
    result is near that of one process, and not equal to it.

    Args:
        token_budget: stop after this many tokens passed forward and backward, those of the value model, which is
            as large as the policy, counted too.
        score: development figures by which the weights are chosen; None keeps the last.
        reward: a reward function in place of `options.reward`.

    Returns:
        What it spent, with all optimizer steps, and per update `reward` (mean over the rollout), `kl` to the warm
        start, `ratio` and `approx_kl`.

    Raises:
        As `trainers.learning.fit`.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.ppo import PPOConfig, PPOTrainer  # costs seconds of import: late

    size = most_of(min(options.batch_size, len(train)))
    whole = size * processes().num_processes
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
    reference, valued = lm.clone(), lm.clone()
    for model in (lm, reference, valued):
        remove_dropout(model.model)
        prepare(model, run.options)
    value = Value(valued, rows)
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=folder,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=1,
                num_mini_batches=1,  # more would change nothing but the logged statistics
                num_ppo_epochs=options.epochs,
                local_rollout_forward_batch_size=size,
                total_episodes=whole,  # one update, whenever it is told to train
                kl_coef=options.kl_coef,
                temperature=options.temperature,
                response_length=lm.max_new_tokens,
                stop_token="eos",
                num_sample_generations=0,
                bf16=False,  # the adapters compute in the run's precision
                gradient_checkpointing=False,
                use_cpu=lm.model.device.type == "cpu",
                report_to="none",
                save_strategy="no",
            ),
            processing_class=lm.tokenizer,
            model=Policy(lm, rows),
            ref_model=Policy(reference, rows),
            reward_model=Reward(lm, env),
            value_model=value,
            train_dataset=[{"input_ids": [0]}],  # each update is handed its own
            eval_dataset=[{"input_ids": [0]}],
            optimizers=(SimpleNamespace(), SimpleNamespace(step=lambda: None, get_last_lr=lambda: [0.0])),  # the loop's
        )
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    trainer.accelerator.print = lambda *args, **kwargs: None
    # With several processes, gradients are added up once, before the optimizer's step, and not by DDP on the way.
    trainer.model = trainer.accelerator.unwrap_model(trainer.model)
    trainer.accelerator.free_memory()

    def step(learner: Learner, number: int) -> dict[str, float]:
        mine = share(batch(len(train), whole, step_seed(run.seed, "problems"), number))
        learner.uids += [train[i].uid for i in mine]
        learner.largest = min(size, learner.micro or size)
        rows.micro, rows.trained_tokens = learner.micro, 0
        trainer.optimizer = _Epochs(learner, options.epochs, min(1.0, learner.spent.tokens / token_budget))
        trainer.dataloader = [{"input_ids": torch.tensor([[rows.id_of(i)] for i in mine])}]
        trainer.train()
        learner.now.tokens += rows.trained_tokens
        logged = trainer.state.log_history.pop()
        return {name: logged[key] for name, key in _FIGURES.items()}

    records: list[dict[str, float]] = []
    gc.freeze()  # TRL collects garbage twice per update; without this, all of torch's modules are walked each time
    try:
        outcome = fit(
            lm,
            step,
            replace(run, options=replace(run.options, schedule=options.schedule, warmup=options.warmup)),
            learning_rate=options.learning_rate,
            token_budget=token_budget,
            score=score,
            score_start=True,
            writers=[lm],
            beside={f"value.{name}": p for name, p in value.named_parameters() if p.requires_grad},
            records=records,
        )
    finally:
        gc.unfreeze()
    spent = replace(outcome.spent, steps=outcome.spent.steps * options.epochs)
    return replace(outcome, spent=spent), records
