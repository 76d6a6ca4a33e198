"""REFINER training (arXiv 2304.01904, Algorithm 1): learn to write z from x, an earlier attempt and its feedback.

One step, in seven hops: reset -> propose -> step (both repeat; solved problems leave the batch) -> examples ->
loss, once per turn -> backward -> optimizer. The target is gold at every turn, so this is cross-entropy
throughout and no policy gradient. The critic in the loop is an oracle by default; gold reaches the
generator only as target.

What differs from the official code: solved problems leave the batch, the last turn is not sampled for
nothing, hypotheses are sampled without dropout, padding is not trained on, each turn has its own
backward pass (so memory does not grow with turns), and the source of the hypotheses is a choice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from agents.generator import Generator
from agents.lm import LanguageModel
from agents.prompts import generator_prompts
from refiner_env.critics import resolve_critic
from refiner_env.envs import RefinerVectorEnv
from refiner_env.errors import OptionError
from refiner_env.options import option
from refiner_env.types import Critic, Observations, Problem, Task
from trainers.batches import shuffled
from trainers.evaluation import turn_figures
from trainers.learning import CHECKS, BestWeights, Learner, Spent
from trainers.progress import Update
from trainers.rollout import CRITIC_TIMEOUT, ON_CRITIC_FAILURE, play, select

SOURCES = ("policy", "perturbation", "mixture", "unseen")


@dataclass(frozen=True)
class RefinerOptions:
    """REFINER training."""

    steps: int = option(400, "optimizer steps", low=1)
    batch_size: int = option(64, "problems a step", low=1)
    learning_rate: float = option(5e-4, "peak AdamW learning rate", low=0.0, high=1.0)
    turns: int = option(3, "turns trained on: one without feedback, the others with (paper: 3)", low=1, high=16)
    turn_weights: tuple[float, ...] = option((1.0,), "weight of each turn's loss; the last one given repeats", low=0.0)
    turn_loss: str = option("sum", "how the turns' losses are put together", choices=("sum", "mean"))
    on_critic_failure: str = ON_CRITIC_FAILURE
    critic_timeout: float = CRITIC_TIMEOUT
    history: int = option(1, "last turns that the generator reads (paper: 1)", low=1, high=16)
    top_p: float = option(0.5, "nucleus mass of exploration (paper: 0.5)", low=0.01, high=1.0)
    source: str = option(
        "mixture",
        "where hypotheses come from: policy samples, perturbations of gold, a mixture of both by halves, or "
        "unseen (samples of the warm start on problems that it has not trained on, perturbations elsewhere)",
        choices=SOURCES,
    )


Propose = Callable[[Sequence[int], Observations], list[str]]
"""(places in the training problems, observations) -> one hypothesis each."""


def train_refiner(
    lm: LanguageModel,
    task: Task[Any],
    train: Sequence[Problem],
    dev: Sequence[Problem],
    options: RefinerOptions,
    *,
    seed: int,
    update: Update,
    critic: str | Critic = "oracle",
    seen: Sequence[int] = (),
) -> Spent:
    """Train the warm-started `lm` in place; the weights most accurate on `dev` after refinement stay.

    Args:
        critic: who writes feedback in the loop; on dev problems the same one decides the refinement.
        seen: places of the training problems that the warm start saw, for source "unseen".

    Returns:
        What it spent, on top of the warm start.
    """
    started = time.monotonic()
    rng = random.Random(seed)
    judge = resolve_critic(critic, task)
    learner = Learner(lm, options.learning_rate)
    propose, frozen = hypothesis_source(lm, task, train, options, rng, seen)
    env = RefinerVectorEnv(
        options.batch_size,
        task=task,
        problems=train,
        critic=judge,
        max_turns=options.turns,
        stop="gold",
        history=options.history,
        on_critic_failure=options.on_critic_failure,
        critic_timeout=options.critic_timeout or None,
        autoreset_mode=AutoresetMode.DISABLED,
    )

    on_dev: dict[str, float] = {}  # the gain from t1 to t2 is the first sign that feedback is read

    noise = random.Random(f"noise {seed}")
    judge.seed(noise.getrandbits(32))

    def score() -> float:
        judge.seed(seed)  # every check with the same noise, and training goes on with other
        stop = "gold" if judge.uses_gold else "critic"
        episodes = play(
            Generator(lm),
            task,
            dev,
            critic=judge,
            turns=options.turns,
            stop=stop,
            history=options.history,
            on_critic_failure=options.on_critic_failure,
            critic_timeout=options.critic_timeout or None,
        )
        for t in range(1, options.turns + 1):
            on_dev[f"dev_t{t}"] = turn_figures(task, episodes, t).ir_equivalent
        judge.seed(noise.getrandbits(32))
        return on_dev[f"dev_t{options.turns}"]

    generated_before = lm.generated_tokens
    best = BestWeights(lm, score)
    batches = shuffled(len(train), options.batch_size, rng)
    best.check()
    checked = 0
    for step in range(options.steps):
        losses = refiner_step(learner, env, next(batches), propose, options)
        learner.step(step / options.steps)
        done = (step + 1) / options.steps
        if done * CHECKS >= checked + 1:
            checked = int(done * CHECKS)
            best.check()
        failures = {"critic_failures": learner.spent.critic_failures} if learner.spent.critic_failures else {}
        update(done, step=step + 1, loss=losses[0], last_turn_loss=losses[-1], **on_dev, **failures)
    best.restore()
    learner.spent.rollout_tokens = lm.generated_tokens - generated_before + (frozen.generated_tokens if frozen else 0)
    learner.spent.wall_s = time.monotonic() - started
    learner.spent.cut_prompts = lm.cut_prompts
    return learner.spent


def refiner_step(
    learner: Learner, env: RefinerVectorEnv, batch: Sequence[int], propose: Propose, options: RefinerOptions
) -> list[float]:
    """Gradients of all turns on one batch of problems. Returns the loss per target token of each turn."""
    problems = env.referee.problems
    weights = turn_weights(options)
    observations, _ = env.reset(options={"index": batch})
    active = np.arange(len(batch))
    losses: list[float] = []
    for weight in weights:
        current = select(observations, active)
        targets = [problems[batch[i]].gold or "" for i in active.tolist()]
        # A turn that few problems reach counts for few: each problem has the same say in every turn.
        losses.append(learner.backward(generator_prompts(current), targets, weight * len(active) / len(batch)))
        if len(losses) == len(weights):
            break
        actions = [""] * env.num_envs
        for i, hypothesis in zip(active, propose([batch[i] for i in active.tolist()], current), strict=True):
            actions[i] = hypothesis
        observations, _, terminated, truncated, infos = env.step(actions)
        learner.spent.critic_failures += int(infos["critic_failed"].sum())
        active = active[~(terminated | truncated)[active]]
        if not len(active):
            break
    return losses


def turn_weights(options: RefinerOptions) -> list[float]:
    """The weight of each turn's loss: as given, the last one repeated, divided by their sum for "mean"."""
    given = list(options.turn_weights)[: options.turns]
    weights = given + given[-1:] * (options.turns - len(given))
    return [w / sum(weights) for w in weights] if options.turn_loss == "mean" else weights


def check_options(options: RefinerOptions, share: float, prefix: str, share_flag: str) -> None:
    """Refuse options that do not fit together, before anything is trained.

    Args:
        share: of the training problems, what the warm start has seen.
        prefix, share_flag: how the options are spelled on this command's line.

    Raises:
        OptionError: no turn has weight, or "unseen" while the warm start has seen every problem.
    """
    if sum(turn_weights(replace(options, turn_loss="sum"))) <= 0:
        raise OptionError(f"{prefix}.turn-weights is {options.turn_weights}: at least one turn's must be above 0.")
    if options.source == "unseen" and share >= 1.0:
        raise OptionError(f"{prefix}.source unseen needs {share_flag} below 1: it is {share}.")


def hypothesis_source(
    lm: LanguageModel,
    task: Task[Any],
    train: Sequence[Problem],
    options: RefinerOptions,
    rng: random.Random,
    seen: Sequence[int],
) -> tuple[Propose, LanguageModel | None]:
    """The function that proposes hypotheses to learn from, and the copy of the model that it samples, if any."""

    def perturbations(places: Sequence[int], observations: Observations) -> list[str]:
        return [task.perturb(train[i], rng) for i in places]

    def samples(model: LanguageModel) -> Propose:
        agent = Generator(model, options.top_p)
        return lambda places, observations: agent.act(observations)

    if options.source == "perturbation":
        return perturbations, None
    if options.source == "policy":
        return samples(lm), None
    if options.source == "mixture":
        return _either(samples(lm), perturbations, lambda place: rng.random() < 0.5), None
    known, frozen = frozenset(seen), lm.clone()
    return _either(samples(frozen), perturbations, lambda place: place not in known), frozen


def _either(a: Propose, b: Propose, use_a: Callable[[int], bool]) -> Propose:
    """Each problem's hypothesis from one of two sources."""

    def propose(places: Sequence[int], observations: Observations) -> list[str]:
        from_a = np.array([use_a(place) for place in places], dtype=np.bool_)
        hypotheses = [""] * len(places)
        for source, mask in ((a, from_a), (b, ~from_a)):
            chosen = np.flatnonzero(mask)
            if len(chosen):
                written = source([places[i] for i in chosen.tolist()], select(observations, chosen))
                for i, hypothesis in zip(chosen, written, strict=True):
                    hypotheses[i] = hypothesis
        return hypotheses

    return propose
