"""Training of the learned critic: p(feedback | x, z') or p(z | x).

Feedback is learned from right, perturbed and really attempted hypotheses, solutions from gold alone. Both see the
problems in many tellings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agents.critic import WRITES, LearnedCritic
from agents.lm import LanguageModel
from agents.prompts import critic_prompts, generator_prompt
from data.negatives import CriticPair, critic_pair, critic_pairs
from data.variations import varied
from refiner_env.options import option
from refiner_env.types import Problem, Task
from trainers.batches import batch
from trainers.evaluation import critic_figures
from trainers.learning import Batch, fit, step_seed, supervised
from trainers.processes import gathered, share, total
from trainers.runs import Outcome, Run
from trainers.warm_start import first_accuracy, solved


@dataclass(frozen=True)
class CriticOptions:
    """The learned critic."""

    steps: int = option(600, "optimizer steps", low=1)
    batch_size: int = option(64, "hypotheses a step", low=1)
    learning_rate: float = option(1e-3, "peak AdamW learning rate", low=0.0, high=1.0)
    no_hint_share: float = option(0.25, "share of right hypotheses, to be accepted", low=0.0, high=1.0)
    variation_share: float = option(
        0.5, "share of problems told with other names, things and order of sentences", low=0.0, high=1.0
    )
    own_share: float = option(
        0.5, "share of hypotheses that the warm-started generator wrote, where it is given", low=0.0, high=1.0
    )
    own_samples: int = option(2, "hypotheses that the generator writes for each training problem", low=1)
    writes: str = option(
        "feedback",
        "what the critic learns to write: feedback (as the paper) on right, perturbed and attempted hypotheses, or its "
        "own solution, from which feedback follows by comparing",
        choices=WRITES,
    )
    own_top_p: float = option(0.9, "nucleus mass of these hypotheses", low=0.01, high=1.0)


def train_critic(
    lm: LanguageModel,
    task: Task[Any],
    train: Sequence[Problem],
    dev: Sequence[Problem],
    options: CriticOptions,
    run: Run = Run(),
    *,
    generator: LanguageModel | None = None,
) -> Outcome:
    """Train `lm` in place as a critic; the weights with most exact feedback, or most right solutions, on `dev` stay.

    Args:
        generator: whose errors on training problems it learns from, labelled by the oracle, beside perturbations.
    """
    if options.writes == "solution":
        return fit(
            lm,
            supervised(solution_batches(task, train, options, run.seed)),
            run,
            learning_rate=options.learning_rate,
            steps=options.steps,
            score=lambda: {"dev": first_accuracy(lm, task, dev)},
        )
    critic, rng = LearnedCritic(lm, task), random.Random(f"own {run.seed}")
    judged = critic_pairs(task, dev, random.Random(f"dev {run.seed}"), no_hint_share=options.no_hint_share)
    own: list[list[CriticPair]] = []
    written = generator.generated_tokens if generator else 0
    if generator and options.own_share:
        judged += attempts(generator, task, dev, None)
        rounds = [
            attempts(
                generator,
                task,
                _vary(task, train, options.variation_share, rng),
                options.own_top_p,
                step_seed(run.seed, "own", number),
            )
            for number in range(options.own_samples)
        ]
        own = [list(pairs) for pairs in zip(*rounds, strict=True)]
    outcome = fit(
        lm,
        supervised(critic_batches(task, train, options, run.seed, own)),
        run,
        learning_rate=options.learning_rate,
        steps=options.steps,
        score=lambda: {"dev": critic_figures(task, critic, judged).exact},
    )
    if generator:
        outcome.spent.rollout_tokens += int(total(generator.generated_tokens - written)[0])
    return outcome


def attempts(
    generator: LanguageModel, task: Task[Any], problems: Sequence[Problem], top_p: float | None, seed: int = 0
) -> list[CriticPair]:
    """The generator's first hypothesis on each problem, labelled by the oracle; greedy where `top_p` is None.

    What it samples follows from seed and place. Several processes write a share each, and all get all pairs.
    """
    mine = share(range(len(problems)))
    prompts, seeds = [generator_prompt(problems[i].text) for i in mine], [step_seed(seed, i) for i in mine]
    written = gathered(generator.generate(prompts, top_p=top_p, seeds=seeds))
    return [critic_pair(task, p, z) for p, z in zip(problems, written, strict=True)]


def critic_batches(
    task: Task[Any],
    problems: Sequence[Problem],
    options: CriticOptions,
    seed: int,
    own: Sequence[Sequence[CriticPair]] = (),
) -> Callable[[int], Batch]:
    """Batches by number; every pass over the problems draws new hypotheses, or one of `own` of the problem."""

    def critic_batch(number: int) -> Batch:
        rng = random.Random(step_seed(seed, "hypotheses", number))
        places = batch(len(problems), options.batch_size, step_seed(seed, "problems"), number)
        mine = [bool(own) and rng.random() < options.own_share for _ in places]
        pairs = [rng.choice(own[i]) for i, attempted in zip(places, mine, strict=True) if attempted]
        others = [problems[i] for i, attempted in zip(places, mine, strict=True) if not attempted]
        told = _vary(task, others, options.variation_share, rng)
        pairs += critic_pairs(task, told, rng, no_hint_share=options.no_hint_share)
        prompts = critic_prompts([p.problem.text for p in pairs], [p.hypothesis for p in pairs])
        return Batch([p.problem.uid for p in pairs], prompts, [p.feedback for p in pairs])

    return critic_batch


def solution_batches(
    task: Task[Any], problems: Sequence[Problem], options: CriticOptions, seed: int
) -> Callable[[int], Batch]:
    """Batches by number of problems with gold; every pass tells the problems anew."""

    def solution_batch(number: int) -> Batch:
        rng = random.Random(step_seed(seed, "tellings", number))
        places = batch(len(problems), options.batch_size, step_seed(seed, "problems"), number)
        return solved(_vary(task, [problems[i] for i in places], options.variation_share, rng))

    return solution_batch


def _vary(task: Task[Any], problems: Sequence[Problem], share: float, rng: random.Random) -> list[Problem]:
    return [varied(task, p, rng) if rng.random() < share else p for p in problems]
