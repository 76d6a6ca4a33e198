"""TRL's PPO on the same models, in the same environments.

TRL 1.12's `PPOTrainer` (the last release that has one) is decoder-only: it concatenates query and
response and cuts at the query's length. Here the "query" is a number that stands for a problem of the batch, a
response is one stand-in for each of its tokens, and three adapters look the rest up, for encoder-decoders and
decoder-only models alike:

    Policy   generate: prompt -> model -> response;  forward: one teacher-forced pass
    Value    a second model with a head on its last hidden states: V(s), one scalar per response token
    Reward   decodes the response and steps the vector environment with it

so that PPO's rollouts are steps of the environments that everyone else acts in. It learns the first turn
only: that is what the paper's PPO baseline does too (RL4LMs with a BLEU reward, not TRL).

A step of `trainers.learning.fit` is one update: TRL trains for one batch, and its last optimizer step is left to the
loop. So checkpoints, skipped steps and several processes are those of every other training: nothing but the weights of
policy and value model and their optimizer goes from one update to the next. The reference is the warm start itself.

Of several processes, each has TRL train on the whole batch: it whitens, averages and clips as one process would. The
adapters write, reward and pass this process's share of the rows alone, and have from the others what theirs came to; so
gradients add up to those of one process. In shards, value model and reference are sharded as the policy is.

TRL takes the log-probability of each response token from logits and nothing else, so it is handed two of them: the
token's and that of all others together. The entropy that it works out from them is not the vocabulary's; no one reads
it.
"""

from __future__ import annotations

import gc
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from accelerate.utils import patch_environment
from gymnasium.vector import AutoresetMode
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PrinterCallback, ProgressCallback

from agents.decoding import Batch, Decoding, Row, draws
from agents.lm import LanguageModel
from agents.prompts import generator_prompts
from refiner_env.envs import RefinerVectorEnv
from refiner_env.options import option
from refiner_env.types import Problem, RewardFunction, Task
from trainers.batches import batch
from trainers.learning import Learner, Score, fit, prepare, step_seed
from trainers.processes import add_up, gathered, once, share
from trainers.rollout import select
from trainers.runs import SCHEDULES, Outcome, Run
from trainers.sharding import Placement

_PAD, _TOKEN = 0, 1
"""What TRL sees of a response: one stand-in for every token."""
_NEVER = -1e4
"""Logit of padding, which is never sampled: far below all others, yet finite, so that TRL's figures stay finite."""
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


class Rollout:
    """Problems as the environment shows them and the responses to them: the batch of the present update.

    N rows are those of all processes, n those of this one. Whatever gives N rows, all processes ask for.

    Attributes:
        prompts, responses: this process's, n of each.
        lengths: of all responses.
        parts: places of this process's rows that are passed at once. All processes have as many: some are of no row.
        trained_tokens: passed forward and backward, by this process, through the policy and through the value model.
        micro: how many sequences are passed at once; None for all.
        passes: what `passed` gave that is to be learned from, its parts where their activations are kept, and how one
            is passed.
    """

    def __init__(self, lm: LanguageModel, env: RefinerVectorEnv, temperature: float) -> None:
        self.lm, self.env, self.temperature = lm, env, temperature
        self.size = 0
        self.prompts: list[Row] = []
        self.responses: list[Row] = []
        self.lengths: list[int] = []
        self.parts: list[list[int]] = []
        self.trained_tokens = 0
        self.micro: int | None = None
        self.passes: list[tuple[torch.Tensor, list[torch.Tensor], Callable[[list[int]], torch.Tensor]]] = []

    def begin(self, places: Sequence[int]) -> None:
        """Reset the environment to this process's share of N problems; its first observations become the prompts."""
        mine = share(places)
        observations, _ = self.env.reset(options={"index": mine})
        shown = select(observations, np.arange(len(mine)))
        self.prompts, self.trained_tokens = self.lm.prompt_rows(generator_prompts(shown)), 0
        self.size = len(places)
        self.passes.clear()

    def write(self) -> None:
        """Sample the responses, from torch's global generator in the main process."""
        most, seeds = self.lm.max_new_tokens, once(lambda: torch.randint(2**62, (self.size,)).tolist())
        drawn = draws(share(seeds), most)
        decoding = Decoding(most, top_p=1.0, draws=drawn, never=self.lm.pad, temperature=self.temperature)
        # The policy alone: what a hub model's own generation config adds, no log-probability knows.
        own, self.lm.model.generation_config = self.lm.model.generation_config, GenerationConfig()
        try:
            with self.lm.inferring():
                self.responses = self.lm.backend.generate(self.lm, self.prompts, decoding)
        finally:
            self.lm.model.generation_config = own
        self.lengths = gathered([len(row) for row in self.responses])
        lengths = [len(p) + len(r) for p, r in zip(self.prompts, self.responses, strict=True)]
        self.parts = self.lm.parts(lengths, self.micro)
        self.parts += [[]] * (max(gathered([len(self.parts)])) - len(self.parts))
        self.lm.generated_tokens += sum(map(len, self.responses))

    @property
    def tokens(self) -> int:
        """Of this process's prompts and responses, in one pass."""
        return sum(map(len, self.prompts)) + sum(map(len, self.responses))

    @property
    def sequences(self) -> torch.Tensor:
        """What TRL sees (N, 1 + R): a number above 0 for the problem, and stand-ins for the tokens of its response."""
        rows = [[1 + place, *[_TOKEN] * length] for place, length in enumerate(self.lengths)]
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=_PAD)

    def odds(self, lm: LanguageModel) -> torch.Tensor:
        """The response tokens' logits and those of all other tokens together, (N, 1 + R, 2).

        At the rollout's temperature, and there alone, the softmax of the two is the probability of the token, which is
        all that TRL takes from a vocabulary's logits.
        """

        def found(batch: Batch, responses: torch.Tensor) -> torch.Tensor:
            with lm.computing():
                logits = lm.teacher_forced(batch, responses)
            logits = logits.flatten(0, 1).float() / self.temperature
            logits[:, lm.pad] = _NEVER
            chosen = torch.arange(len(logits), device=logits.device), responses.flatten()
            token = logits[chosen]
            logits[chosen] = -math.inf  # in place: vocabularies are large
            odds = torch.stack([logits.logsumexp(-1), token], -1) * self.temperature
            return odds.view(*responses.shape, 2)

        return self.passed(lm, found)

    def passed(self, lm: LanguageModel, pass_: Callable[[Batch, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """What a pass of a model says before each response token and after the last, (N, 1 + R, any), for `backward`.

        It passes this process's rows in `parts`. With `micro`, no activations are kept, and each part is passed again.
        """

        def passed(places: list[int]) -> torch.Tensor:
            prompts = [self.prompts[i] for i in places] or self.lm.prompt_rows([""])
            # TRL wants V(s) after the last token, too.
            ended = [[*self.responses[i], lm.pad] for i in places] or [[lm.pad]]
            found = pass_(lm.batch(prompts), lm.padded(ended))[: len(places)]
            return F.pad(found, (0, 0, 0, 1 + max(self.lengths) - found.shape[1]))

        learning, again = torch.is_grad_enabled(), bool(self.micro and len(self.parts) > 1)
        with torch.set_grad_enabled(learning and not again):
            found = [passed(places) for places in self.parts]
        whole = found[0].new_zeros(self.size, *found[0].shape[1:])
        for places, part in zip(self.parts, found, strict=True):
            whole[self.rows(places)] = part.detach()
        add_up([whole])
        if learning:
            self.passes.append((whole.requires_grad_(), [] if again else found, passed))
        return whole

    def backward(self, loss: torch.Tensor, placement: Placement) -> None:
        """Add the gradient of what TRL made of `passed`: first that of what it said, then, part by part, of weights."""
        loss.backward()
        for number, places in enumerate(self.parts):
            rows, learned = self.rows(places), []
            for whole, kept, passed in self.passes:
                assert whole.grad is not None
                learned.append(((kept[number] if kept else passed(places)) * whole.grad[rows]).sum())
            placement.backward(torch.stack(learned).sum())  # at once, as ZeRO's stage 3 wants gradients of all weights
        self.passes.clear()

    def rows(self, places: Sequence[int]) -> torch.Tensor:
        """Where these rows of this process are among all."""
        mine = share(range(self.size))
        return self.lm.placed(torch.tensor([mine[i] for i in places], dtype=torch.long))


def remove_dropout(model: nn.Module) -> None:
    """Set every dropout to zero. TRL's own helper misses the float in T5's attention, and then the KL of two
    equal models is not 0."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]  # nn.Module types attributes as modules


class Passing(nn.Module):
    """What a model finds in a pass over the rollout.

    TRL asks for it when the responses are there, and for the same of the same weights in its first optimizer step: the
    first pass holds its gradient for the second time.
    """

    def __init__(self, model: nn.Module, rollout: Rollout, find: Callable[[], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.rollout, self.find = model, rollout, find
        self.kept: torch.Tensor | None = None

    def first(self) -> torch.Tensor:
        """What the rollout's weights say."""
        with torch.enable_grad():
            self.kept = self.find()
        return self.kept.detach()

    def again(self, input_ids: torch.Tensor) -> torch.Tensor:
        """What the present weights say, with gradient, of sequences (N, 1 + R) in their order; counted."""
        kept, self.kept = self.kept, None
        self.rollout.trained_tokens += self.rollout.tokens
        return (self.find() if kept is None else kept)[input_ids[:, 0] - 1]


class Policy(Passing):
    """The model as PPOTrainer's policy or reference."""

    is_gradient_checkpointing = False

    def __init__(self, lm: LanguageModel, rollout: Rollout) -> None:
        super().__init__(lm.model, rollout, lambda: rollout.odds(lm))
        self.config, self.generation_config = lm.model.config, GenerationConfig()  # TRL writes into the latter

    def generate(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        """The responses: sequences (N, 1 + R) that begin with the problem's number, and scores, R times (N, 2)."""
        scores = self.first()[:, :-1] / self.rollout.temperature
        return SimpleNamespace(sequences=self.rollout.sequences.to(input_ids.device), scores=scores.unbind(1))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        """Logits (N, 1 + R, 2): position t predicts response token t."""
        return SimpleNamespace(logits=self.again(input_ids) if torch.is_grad_enabled() else self.find())


class Valued(nn.Module):
    """A model with a head on its last hidden states that starts at 0."""

    def __init__(self, lm: LanguageModel) -> None:
        super().__init__()
        self.lm, self.model = lm, lm.model
        self.head = nn.Linear(lm.model.config.hidden_size, 1).to(lm.model.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch, responses: torch.Tensor) -> torch.Tensor:
        """V(s) before each response token, (n, R, 1)."""
        with self.lm.computing():
            states = self.lm.states(batch, responses)
        values: torch.Tensor = self.head(states.float())
        return values


class ValueBackbone(Passing):
    """V(s), (N, 1 + R, 1), in place of hidden states."""

    def __init__(self, valued: Valued, rollout: Rollout) -> None:
        super().__init__(valued, rollout, lambda: rollout.passed(valued.lm, valued))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(hidden_states=(self.again(input_ids) if torch.is_grad_enabled() else self.first(),))


class Value(nn.Module):
    """PPOTrainer's value model: V(s) per response token. Never called a critic here."""

    base_model_prefix = "backbone"

    def __init__(self, valued: Valued, rollout: Rollout) -> None:
        super().__init__()
        self.backbone, self.score = ValueBackbone(valued, rollout), nn.Identity()


class EnvironmentReward(nn.Module):
    """Steps the environment with the responses and gives its rewards, at every position (N, 1 + R, 1)."""

    def __init__(self, rollout: Rollout) -> None:
        super().__init__()
        self.rollout = rollout

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        texts, env = self.rollout.lm.texts(self.rollout.responses), self.rollout.env
        mine = env.step(texts + [""] * (env.num_envs - len(texts)))[1][: len(texts)]
        rewards = torch.tensor(gathered(mine.tolist()), device=input_ids.device)
        states = rewards[:, None, None].expand(-1, input_ids.shape[1], 1)
        return SimpleNamespace(hidden_states=(states,))


class Reward(nn.Module):
    """PPOTrainer's reward model."""

    base_model_prefix = "backbone"

    def __init__(self, rollout: Rollout) -> None:
        super().__init__()
        self.backbone, self.score = EnvironmentReward(rollout), nn.Identity()


class _Epochs:
    """What PPOTrainer has of the optimizer in one update: all steps but the last, which is the training loop's.

    After a gradient that is not finite, no other of the update is: the last step finds it, and is skipped, too.
    """

    def __init__(self, learner: Learner, rollout: Rollout, epochs: int, done: float) -> None:
        self.learner, self.rollout, self.left, self.done = learner, rollout, epochs, done
        self.finite = True

    def backward(self, loss: torch.Tensor) -> None:
        self.rollout.backward(loss if self.finite else loss * math.nan, self.learner.placement)

    def step(self) -> None:
        self.left -= 1
        if self.left:
            self.finite = self.learner.move(self.done) and self.finite
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
    the price of a second forward pass. An update in which memory runs out is done again from the weights that it has
    reached: with one epoch, those it began with.

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
    rollout = Rollout(lm, env, options.temperature + 1e-7)  # as TRL has it, lest it be 0
    reference, valued = lm.clone(), Valued(lm.clone())
    for model in (lm, reference, valued.lm):
        remove_dropout(model.model)
        prepare(model, run.options)
    reference.model.requires_grad_(False)
    policy, value = Policy(lm, rollout), Value(valued, rollout)
    # It is not told of shards, which the training loop makes.
    unsharded = patch_environment(ACCELERATE_USE_FSDP="false", ACCELERATE_USE_DEEPSPEED="false")
    with tempfile.TemporaryDirectory() as folder, unsharded:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=folder,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=1,
                num_mini_batches=1,  # more would change nothing but the logged statistics
                num_ppo_epochs=options.epochs,
                local_rollout_forward_batch_size=size,
                total_episodes=size,  # one update, whenever it is told to train
                kl_coef=options.kl_coef,
                temperature=options.temperature,
                response_length=lm.max_new_tokens,
                num_sample_generations=0,
                bf16=False,  # the adapters compute in the run's precision
                gradient_checkpointing=False,
                use_cpu=lm.model.device.type == "cpu",
                report_to="none",
                save_strategy="no",
            ),
            processing_class=SimpleNamespace(pad_token_id=_PAD, eos_token_id=-1),  # of the stand-ins
            model=policy,
            ref_model=Policy(reference, rollout),
            reward_model=Reward(rollout),
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
        places = batch(len(train), size, step_seed(run.seed, "problems"), number)
        rollout.micro = learner.micro
        policy.kept = value.backbone.kept = None
        rollout.begin(places)
        learner.uids += [train[i].uid for i in places]
        learner.largest = min(len(rollout.prompts), learner.micro or size)
        with learner.whole():
            rollout.write()
        done = min(1.0, learner.spent.tokens / token_budget)
        trainer.optimizer = epochs = _Epochs(learner, rollout, options.epochs, done)
        trainer.accelerator.backward = epochs.backward
        trainer.dataloader = [{"input_ids": torch.arange(1, 1 + size)[:, None]}]
        trainer.train()
        learner.now.tokens += rollout.trained_tokens
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
            beside={"value": valued, "reference": reference.model},
            records=records,
        )
    finally:
        gc.unfreeze()
    spent = replace(outcome.spent, steps=outcome.spent.steps * options.epochs)
    return replace(outcome, spent=spent), records
