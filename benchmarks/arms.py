"""The arms: how each contender of a comparison is trained, and how each is evaluated."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.cards import origin, saved_record, write_card, write_record
from agents.critic import LearnedCritic
from agents.generator import Generator, Retrier
from agents.lm import LanguageModel
from agents.models import load_model, open_model
from baselines.ppo import train_ppo
from baselines.supervised import train_supervised_plus
from benchmarks.presets import WARM_START, CompareOptions
from data import Splits, content_hash
from data.negatives import critic_pairs
from refiner_env.agreement import CriticFigures
from refiner_env.critics import resolve_critic
from refiner_env.scripted import ScriptedEditor
from refiner_env.types import Agent, Episode, Task, Turn
from trainers.calibration import calibrated
from trainers.checkpoints import Checkpoints, writing
from trainers.critic import attempts, train_critic
from trainers.evaluation import TurnFigures, critic_figures, turn_figures
from trainers.progress import Progress
from trainers.refiner import RefinerOptions, train_refiner
from trainers.rollout import play
from trainers.runs import Outcome, Run, Spent
from trainers.warm_start import first_accuracy, warm_start, warm_start_share

Trained = tuple[LanguageModel, Spent, dict[str, Any]]
"""A model, what it spent beyond the weights that it started from, and figures for the report."""
Result = tuple[LanguageModel, Outcome, dict[str, Any]]
"""The same, fresh from training."""
BUDGETED = ("supervised_plus", "ppo")
"""Stages that spend as many tokens as REFINER did, whatever `patience` says."""
WHAT = {"warm_start": "generator", "supervised_plus": "supervised+"}
"""Stage -> what its record says was trained, where it is not the stage's name."""
ABLATIONS = {"no_exploration": "refiner-no-exploration", "no_critic": "refiner-no-critic"}
"""Stage -> arm. Without exploration REFINER learns from perturbations alone; without critic it trains on its earlier
hypotheses, but nobody says what is wrong with them."""


def seed_everything(seed: int, name: str) -> int:
    """Seed torch and numpy for one piece of work, so that a resumed run continues as the uninterrupted one would.

    Returns:
        The seed of that work, for whatever else draws random numbers.
    """
    number = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4])
    torch.manual_seed(number)
    np.random.seed(number)  # whatever a critic or reward of somebody else draws from it
    return number


@dataclass
class Training:
    """Trains the models of one seed, each once; finished ones are read back from their folders."""

    options: CompareOptions
    task: Task[Any]
    splits: Splits
    seed: int
    folder: Path
    progress: Progress

    def run(self) -> dict[str, Trained]:
        """Every model of the comparison by stage name."""
        o, task, seed, train, dev = self.options, self.task, self.seed, self.splits.train, self.splits.dev

        def warm(run: Run) -> Result:
            lm = open_model(o.generator_model, task, train, dropout=o.dropout)
            return lm, warm_start(lm, task, train, dev, o.warm_start, run), {}

        def critic(run: Run) -> Result:
            generator = models["warm_start"][0]
            going_on = o.critic_model == WARM_START
            lm = generator.clone() if going_on else open_model(o.critic_model, task, train, dropout=o.dropout)
            return lm, train_critic(lm, task, train, dev, o.critic, run, generator=generator), {}

        def refiner(run: Run, options: RefinerOptions = o.refiner, feedback: str = "oracle") -> Result:
            lm = models["warm_start"][0].clone()
            seen = warm_start_share(len(train), o.warm_start.share, seed)
            outcome = train_refiner(lm, task, train, dev, options, run, critic=feedback, seen=seen)
            uncalibrated = LearnedCritic(models["critic"][0], task, writes=o.critic.writes)
            learned = calibrated(uncalibrated, lm, task, dev, o.turns, o.refiner.history)
            return lm, outcome, {"threshold": learned.threshold}

        def plus(run: Run) -> Result:
            lm = models["warm_start"][0].clone()
            budget = models["refiner"][1].tokens
            outcome = train_supervised_plus(
                lm,
                task,
                train,
                dev,
                token_budget=budget,
                batch_size=o.refiner.batch_size,
                learning_rate=o.refiner.learning_rate,
                run=run,
            )
            return lm, outcome, {"budget": budget}

        def ppo(run: Run) -> Result:
            lm = models["warm_start"][0].clone()
            budget = models["refiner"][1].tokens
            outcome, records = train_ppo(
                lm,
                task,
                train,
                o.ppo,
                run,
                token_budget=budget,
                score=lambda: {"dev": first_accuracy(lm, task, dev)},
            )
            quarter = max(1, len(records) // 4)
            first, last = ([r["reward"] for r in part] for part in (records[:quarter], records[-quarter:]))
            rewards = {"first_reward": sum(first) / len(first), "last_reward": sum(last) / len(last)}
            return lm, outcome, {"budget": budget, "reward": o.ppo.reward, **rewards}

        models: dict[str, Trained] = {}
        stages = {"warm_start": warm, "critic": critic, "refiner": refiner, "supervised_plus": plus, "ppo": ppo}
        if o.ablations:
            fixed = replace(o.refiner, source="perturbation")
            stages["no_exploration"] = lambda run: refiner(run, options=fixed)
            stages["no_critic"] = lambda run: refiner(run, feedback="none")
        for name, train_one in stages.items():
            models[name] = self._stage(name, train_one)
        learned_critic(o, task, models, "refiner").save(self.folder / "critic")  # with its threshold
        return models

    def _stage(self, name: str, train_one: Callable[[Run], Result]) -> Trained:
        """A stage's model as its folder has it, whether it was trained just now or before an interruption."""
        folder, run = self.folder / name, self.options.run
        checkpoints = Checkpoints(folder / "checkpoints", run.checkpoint_every, run.keep)
        if not saved_record(folder):
            self._train(name, folder, train_one, checkpoints)
        checkpoints.delete()
        record = saved_record(folder)
        return load_model(folder), Spent(**record["spent"]), record["figures"]

    def _train(self, name: str, folder: Path, train_one: Callable[[Run], Result], checkpoints: Checkpoints) -> None:
        o, run = self.options, self.options.run
        if name in BUDGETED:
            run = replace(run, patience=0)
        seed_everything(self.seed, name)
        with self.progress.to(folder / "metrics.jsonl").stage(f"seed {self.seed} {name}") as update:
            lm, outcome, figures = train_one(Run(self.seed, update, run, checkpoints))
        record = {
            "what": WHAT.get(name, name),
            "options": {"task": o.task, "seed": self.seed, "data": asdict(o.data)},
            "base": origin(o.critic_model if name == "critic" and o.critic_model != WARM_START else o.generator_model),
            "data_hash": content_hash(self.splits),
            "spent": asdict(outcome.spent),
            "dev": outcome.best,
            "figures": figures,
        }
        with writing(folder, "Make room, then go on with --resume."):
            lm.save(folder)
            write_card(folder, lm, record, writes=o.critic.writes)
            write_record(folder, record)  # last: a stage counts as finished or not at all


@dataclass(frozen=True)
class Row:
    """One line of results.jsonl."""

    task: str
    arm: str
    critic: str
    """Who writes feedback: none, learned, oracle, or whatever else was named."""
    stop: str
    """Who ends an episode: critic, gold (the oracle's stop) or never."""
    turns: int
    seed: int
    n: int
    ir_exact: float
    ir_equivalent: float
    answer_acc: float
    fixed: int
    broken: int
    mean_turns: float
    unparsable: float
    critic_failures: int
    train_steps: int
    train_tokens: int
    """The acting model's tokens passed forward and backward, the warm start's included; with PPO's value model's."""
    rollout_tokens: int
    """Tokens that it wrote in training."""
    wall_s: float
    """Training time, the warm start's included."""


@dataclass(frozen=True)
class Evaluation:
    """One way of using a trained model on the test problems."""

    arm: str
    critic: str
    stop: str
    turns: int
    trained_as: tuple[str, ...]
    """The stages whose training it rests on."""
    play: Callable[[], list[Episode]]


def evaluations(
    options: CompareOptions, task: Task[Any], splits: Splits, seed: int, models: dict[str, Trained]
) -> Iterator[Evaluation]:
    """Every arm with every critic, in the order of the table."""
    test, turns = splits.test, options.turns
    refiner = models["refiner"][0]
    others = {name: resolve_critic(name, task) for name in {*options.critics, "oracle", "none"} - {"learned"}}

    def acting(arm: str, agent: Callable[[], Agent], critic: str, stop: str, t: int, *stages: str) -> Evaluation:
        def run() -> list[Episode]:
            number = seed_everything(seed, f"{arm} {critic}")
            judge = learned_critic(options, task, models, stages[-1]) if critic == "learned" else others[critic]
            judge.seed(number)
            return play(
                agent(),
                task,
                test,
                critic=judge,
                turns=t,
                stop=stop,
                history=options.refiner.history,
                on_critic_failure=options.on_critic_failure,
                critic_timeout=options.critic_timeout or None,
            )

        # The word of a critic that sees gold is an oracle's: the row is labelled as a stop by gold.
        by_gold = stop == "critic" and critic != "learned" and others[critic].uses_gold
        return Evaluation(arm, critic, "gold" if by_gold else stop, t, stages, run)

    def editor(remembers: bool) -> Agent:
        """Starts from REFINER's own first hypotheses, so that only the editing differs."""
        first = play(Generator(refiner), task, test, critic="none", turns=1, stop="never")
        hypotheses = {e.problem.text: e.turns[0].hypothesis for e in first}
        return ScriptedEditor(task, f"scripted {seed}", hypotheses, remembers=remembers)

    single = {
        "supervised": ("warm_start",),
        "supervised+": ("warm_start", "supervised_plus"),
        "ppo": ("warm_start", "ppo"),
    }
    for arm, stages in single.items():
        lm = models[stages[-1]][0]
        yield acting(arm, lambda lm=lm: Generator(lm), "none", "never", 1, *stages)  # type: ignore[misc]
    if options.critic.writes == "solution":
        stages = ("warm_start", "critic") if options.critic_model == WARM_START else ("critic",)
        yield acting("critic-alone", lambda: Generator(models["critic"][0]), "none", "never", 1, *stages)
    trained = ("warm_start", "refiner")
    yield acting("refiner", lambda: Generator(refiner), "none", "never", 1, *trained)
    for critic in dict.fromkeys(options.critics):
        stop = "gold" if critic == "oracle" else "critic"
        yield acting("refiner", lambda: Generator(refiner), critic, stop, turns, *trained)
        yield acting("scripted", lambda: editor(remembers=False), critic, stop, turns, *trained)
        yield acting("scripted-remembering", lambda: editor(remembers=True), critic, stop, turns, *trained)
    for stage, arm in ABLATIONS.items():
        if stage in models:
            stages = ("warm_start", stage)
            lm = models[stage][0]
            for critic, stop, t in (("none", "never", 1), ("learned", "critic", turns), ("oracle", "gold", turns)):
                yield acting(arm, lambda lm=lm: Generator(lm), critic, stop, t, *stages)  # type: ignore[misc]
    retries = acting("retries", lambda: Retrier(refiner, options.retry_top_p, seed), "none", "never", turns, *trained)
    yield replace(retries, play=lambda: [majority(task, e) for e in retries.play()])
    yield acting("retries", lambda: Retrier(refiner, options.retry_top_p, seed), "none", "gold", turns, *trained)


def learned_critic(options: CompareOptions, task: Task[Any], models: dict[str, Trained], stage: str) -> LearnedCritic:
    """The learned critic with the threshold that was chosen for the generator of a stage."""
    return LearnedCritic(models["critic"][0], task, models[stage][2]["threshold"], options.critic.writes)


def critic_quality(
    options: CompareOptions, task: Task[Any], splits: Splits, seed: int, models: dict[str, Trained]
) -> dict[str, CriticFigures]:
    """The learned critic on test hypotheses: perturbed and right ones, and REFINER's own first ones."""
    learned, rng = learned_critic(options, task, models, "refiner"), random.Random(f"test {seed}")
    made = critic_pairs(task, splits.test, rng, no_hint_share=options.critic.no_hint_share)
    return {
        "perturbed": critic_figures(task, learned, made),
        "own": critic_figures(task, learned, attempts(models["refiner"][0], task, splits.test, None)),
    }


def majority(task: Task[Any], episode: Episode) -> Episode:
    """The episode in which turn t stands by the most frequent of hypotheses 1..t, equivalent ones together.

    Of equally frequent ones the earliest stands.
    """
    groups: list[list[Turn]] = []
    standing = []
    for turn in episode.turns:
        mine = next((g for g in groups if task.same(episode.problem, g[0].hypothesis, turn.hypothesis)), None)
        if mine is None:
            groups.append(mine := [])
        mine.append(turn)
        standing.append(max(groups, key=len)[0])
    return Episode(episode.problem, tuple(standing))


def rows_of(
    evaluation: Evaluation, options: CompareOptions, task: Task[Any], seed: int, models: dict[str, Trained]
) -> tuple[list[Row], list[Episode]]:
    """One row per turn, with the episodes that they come from."""
    episodes = evaluation.play()
    spent = sum((models[s][1] for s in evaluation.trained_as), Spent())
    figures: list[TurnFigures] = [turn_figures(task, episodes, t) for t in range(1, evaluation.turns + 1)]
    rows = [
        Row(
            task=task.name,
            arm=evaluation.arm,
            critic=evaluation.critic,
            stop=evaluation.stop,
            seed=seed,
            train_steps=spent.steps,
            train_tokens=spent.tokens,
            rollout_tokens=spent.rollout_tokens,
            wall_s=round(spent.wall_s, 1),
            **asdict(f),
        )
        for f in figures
    ]
    return rows, episodes
