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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from agents.generator import Generator
from agents.lm import LanguageModel
from agents.prompts import generator_prompts
from refiner_env.critics import resolve_critic
from refiner_env.envs import RefinerVectorEnv
from refiner_env.errors import OptionError
from refiner_env.options import option
from refiner_env.types import Critic, Observations, Problem, Task
from trainers.batches import batch
from trainers.evaluation import turn_figures
from trainers.learning import Figures, Learner, fit, prepare, step_seed
from trainers.processes import together, total
from trainers.rollout import CRITIC_TIMEOUT, ON_CRITIC_FAILURE, play, select
from trainers.runs import Outcome, Run

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


Propose = Callable[[Sequence[int], Observations, int], list[str]]
"""(places in the training problems, observations, seed) -> one hypothesis each. What a problem gets follows from the
seed and its place, whatever else is in the batch."""


def train_refiner(
    lm: LanguageModel,
    task: Task[Any],
    train: Sequence[Problem],
    dev: Sequence[Problem],
    options: RefinerOptions,
    run: Run = Run(),
    *,
    critic: str | Critic = "oracle",
    seen: Sequence[int] = (),
) -> Outcome:
    """Train the warm-started `lm` in place; the weights most accurate on `dev` after refinement stay.

    Args:
        critic: who writes feedback in the loop; on dev problems the same one decides the refinement.
        seen: places of the training problems that the warm start saw, for source "unseen".

    Returns:
        What it spent, on top of the warm start.
    """
    judge = resolve_critic(critic, task)
    propose, frozen = hypothesis_source(lm, task, train, options, seen)
    if frozen:
        prepare(frozen, run.options)
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

    def step(learner: Learner, number: int) -> Figures:
        judge.seed(step_seed(run.seed, "critic", number))
        order = batch(len(train), options.batch_size, step_seed(run.seed, "problems"), number)
        return refiner_step(learner, env, together(order), propose, options, step_seed(run.seed, "hypotheses", number))

    def score() -> dict[str, float]:
        judge.seed(run.seed)  # every check with the same noise
        episodes = play(
            Generator(lm),
            task,
            dev,
            critic=judge,
            turns=options.turns,
            stop="gold" if judge.uses_gold else "critic",
            history=options.history,
            on_critic_failure=options.on_critic_failure,
            critic_timeout=options.critic_timeout or None,
        )
        # The last turn decides. The gain from the first to the second is the first sign that feedback is read.
        figures = {t: turn_figures(task, episodes, t).ir_equivalent for t in range(1, options.turns + 1)}
        return {f"dev_t{t}": figures[t] for t in sorted(figures, reverse=True)}

    return fit(
        lm,
        step,
        run,
        learning_rate=options.learning_rate,
        steps=options.steps,
        score=score,
        score_start=True,
        writers=[lm, frozen] if frozen else [lm],
    )


def refiner_step(
    learner: Learner, env: RefinerVectorEnv, places: Sequence[int], propose: Propose, options: RefinerOptions, seed: int
) -> Figures:
    """Gradients of all turns on this process's problems.

    Returns:
        The loss per target token of the first turn and of the last that was reached, and the share of the problems that
        hypotheses have solved on the way.
    """
    problems = env.referee.problems
    weights = turn_weights(options)
    observations, _ = env.reset(options={"index": places})
    active = np.arange(len(places))
    losses: list[torch.Tensor] = []
    solved = 0.0
    for turn, weight in enumerate(weights):
        left, begun = total(len(active), len(places))
        solved = 1 - left / begun
        if not left:
            break
        current = select(observations, active)
        now = [problems[places[i]] for i in active.tolist()]
        # A turn that few problems reach counts for few: each problem has the same say in every turn.
        uids, targets = [p.uid for p in now], [p.gold or "" for p in now]
        losses.append(learner.backward(uids, generator_prompts(current), targets, weight * left / begun))
        if turn + 1 == len(weights):
            break
        with learner.whole():
            written = propose([places[i] for i in active.tolist()], current, step_seed(seed, turn))
        if not written:
            continue
        actions = [""] * env.num_envs
        for i, hypothesis in zip(active, written, strict=True):
            actions[i] = hypothesis
        observations, _, terminated, truncated, infos = env.step(actions)
        learner.now.critic_failures += int(infos["critic_failed"].sum())
        active = active[~(terminated | truncated)[active]]
    return {"loss": losses[0], "last_turn_loss": losses[-1], "solved": solved}


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
    lm: LanguageModel, task: Task[Any], train: Sequence[Problem], options: RefinerOptions, seen: Sequence[int]
) -> tuple[Propose, LanguageModel | None]:
    """The function that proposes hypotheses to learn from, and the copy of the model that it samples, if any."""

    def perturbations(places: Sequence[int], observations: Observations, seed: int) -> list[str]:
        return [task.perturb(train[i], random.Random(step_seed(seed, i))) for i in places]

    def samples(model: LanguageModel) -> Propose:
        def sample(places: Sequence[int], observations: Observations, seed: int) -> list[str]:
            seeds = [step_seed(seed, i) for i in places]
            return model.generate(generator_prompts(observations), top_p=options.top_p, seeds=seeds)

        return sample

    if options.source == "perturbation":
        return perturbations, None
    if options.source == "policy":
        return samples(lm), None
    if options.source == "mixture":
        return _either(samples(lm), perturbations, lambda place, seed: step_seed(seed, "half", place) % 2 == 0), None
    known, frozen = frozenset(seen), lm.clone()
    return _either(samples(frozen), perturbations, lambda place, seed: place not in known), frozen


def _either(a: Propose, b: Propose, use_a: Callable[[int, int], bool]) -> Propose:
    """Each problem's hypothesis from one of two sources."""

    def propose(places: Sequence[int], observations: Observations, seed: int) -> list[str]:
        from_a = np.array([use_a(place, seed) for place in places], dtype=np.bool_)
        hypotheses = [""] * len(places)
        for source, mask in ((a, from_a), (b, ~from_a)):
            chosen = np.flatnonzero(mask)
            if len(chosen):
                written = source([places[i] for i in chosen.tolist()], select(observations, chosen), seed)
                for i, hypothesis in zip(chosen, written, strict=True):
                    hypotheses[i] = hypothesis
        return hypotheses

    return propose
