"""`refiner train generator|critic|critic-rl|refiner|ppo`: train one model; saved, `from_pretrained` reads it."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.cards import origin, write_card
from agents.critic import LearnedCritic, saved_settings
from agents.lm import LanguageModel
from agents.lora import LoraOptions, add_adapter, check_adapter
from agents.models import BASE, load_model, open_model
from baselines.ppo import PPOOptions, train_ppo
from benchmarks.arms import seed_everything
from benchmarks.folders import claim
from benchmarks.hub import add_upload, check_upload, upload
from data import DataOptions, Splits, content_hash, load_splits, require_problems
from data.negatives import critic_pairs
from refiner_env.critic_referee import resolve_agent
from refiner_env.critics import resolve_critic
from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.options import add_options, option, read_options, section, to_dict
from refiner_env.rewards import resolve_reward
from refiner_env.tasks import resolve_task
from refiner_env.types import Task
from trainers.calibration import calibrated
from trainers.critic import CriticOptions, train_critic
from trainers.critic_rl import CriticRLOptions, train_critic_rl
from trainers.evaluation import critic_figures
from trainers.learning import Spent
from trainers.progress import Progress, Update, quiet_libraries
from trainers.refiner import RefinerOptions, check_options, train_refiner
from trainers.warm_start import WarmStartOptions, first_accuracy, warm_start, warm_start_share

_TASK = option("MathWordProblem", "the task")
_LORA = option(False, "train a low-rank adapter (LoRA) beside the frozen model")
_MODEL = "the model to start from: refiner-tiny, scratch:SIZE, a folder or a Hugging Face id"


@dataclass(frozen=True)
class GeneratorCommand:
    """Supervised warm start of a generator, without a critic."""

    task: str = _TASK
    model: str = option(BASE, _MODEL)
    seed: int = option(0, "seed of training", low=0)
    lora: bool = _LORA
    adapter: LoraOptions = section(LoraOptions, "the adapter")
    data: DataOptions = section(DataOptions, "problems")
    train: WarmStartOptions = section(WarmStartOptions, "warm start")


@dataclass(frozen=True)
class CriticCommand:
    """A critic of hypotheses, trained on right, perturbed and a generator's own ones, or on solutions."""

    task: str = _TASK
    model: str = option(BASE, _MODEL)
    generator: str = option(
        "", "a trained generator: the critic learns from its errors, and its threshold is chosen for it"
    )
    turns: int = option(3, "turns for which the threshold is chosen", low=2, high=16)
    seed: int = option(0, "seed of training", low=0)
    lora: bool = _LORA
    adapter: LoraOptions = section(LoraOptions, "the adapter")
    data: DataOptions = section(DataOptions, "problems")
    train: CriticOptions = section(CriticOptions, "critic training")


@dataclass(frozen=True)
class CriticRLCommand:
    """Reinforcement learning of a critic: it is paid what its feedback is worth to a frozen generator."""

    task: str = _TASK
    model: str = option("", "the critic to go on with: a folder of `refiner train critic` (one that writes feedback)")
    generator: str = option("scripted", "who answers: a trained generator's folder, or the scripted editor")
    seed: int = option(0, "seed of training", low=0)
    lora: bool = _LORA
    adapter: LoraOptions = section(LoraOptions, "the adapter")
    data: DataOptions = section(DataOptions, "problems")
    train: CriticRLOptions = section(CriticRLOptions, "reinforcement learning")


@dataclass(frozen=True)
class RefinerCommand:
    """REFINER training of a warm-started generator with a critic in the loop."""

    task: str = _TASK
    model: str = option("", "the warm-started generator: a folder of `refiner train generator` or a Hugging Face id")
    critic: str = option(
        "oracle", "who writes feedback: a critic's name, a folder, package.module:object, file.py:object"
    )
    seed: int = option(0, "seed of training; that of the warm start where the source is `unseen`", low=0)
    warm_start_share: float = option(1.0, "share of the problems that the warm start saw", low=0.0, high=1.0)
    lora: bool = _LORA
    adapter: LoraOptions = section(LoraOptions, "the adapter")
    data: DataOptions = section(DataOptions, "problems")
    train: RefinerOptions = section(RefinerOptions, "REFINER training")


@dataclass(frozen=True)
class PPOCommand:
    """TRL PPO on a warm-started generator."""

    task: str = _TASK
    model: str = option("", "the warm-started generator: a folder of `refiner train generator` or a Hugging Face id")
    token_budget: int = option(1_000_000, "stop after this many training tokens", low=1)
    seed: int = option(0, "seed of training", low=0)
    lora: bool = _LORA
    adapter: LoraOptions = section(LoraOptions, "the adapter")
    data: DataOptions = section(DataOptions, "problems")
    train: PPOOptions = section(PPOOptions, "PPO")


COMMANDS: dict[str, Any] = {
    "generator": GeneratorCommand(),
    "critic": CriticCommand(),
    "critic-rl": CriticRLCommand(),
    "refiner": RefinerCommand(),
    "ppo": PPOCommand(),
}


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="refiner train", description="Train one model and save it.")
    subparsers = parser.add_subparsers(dest="what", required=True, metavar="|".join(COMMANDS))
    for name, defaults in COMMANDS.items():
        text = (type(defaults).__doc__ or "").strip()
        usage = f"refiner train {name} --out FOLDER [OPTIONS]"
        sub = subparsers.add_parser(name, help=text, description=text, usage=usage, allow_abbrev=False)
        sub.add_argument("--out", type=Path, required=True, help="folder for the trained model and its metrics")
        sub.add_argument("--overwrite", action="store_true", help="delete what is in the folder first")
        add_upload(sub)
        add_options(sub, defaults)
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise UnknownNameError("model to train", argv[0], COMMANDS)
    args = parser.parse_args(argv)
    options = read_options(COMMANDS[args.what], vars(args))
    if not options.model:
        raise OptionError(f"refiner train {args.what} needs --model: the trained model to go on with.")
    check_upload(args.push_to_hub, args.private)
    quiet_libraries()
    console = Console()
    train(args.what, options, args.out, console, overwrite=args.overwrite, name=args.push_to_hub)
    if args.push_to_hub:
        upload(args.out, args.push_to_hub, args.private, console)
    return 0


def train(what: str, options: Any, folder: Path, console: Console, *, overwrite: bool = False, name: str = "") -> None:
    """Train what the options describe and save it in `folder`, with metrics.jsonl, training.json and its card.

    Args:
        name: what it will be loaded by, for the card; without one, the folder.

    Raises:
        RefinerError: the folder is in use, or the options do not fit.
    """
    task = resolve_task(options.task)
    check_adapter(options.adapter, options.lora)
    if what == "refiner":
        resolve_critic(options.critic, task)
        check_options(options.train, options.warm_start_share, "--train", "--warm-start-share")
    if what in ("ppo", "critic-rl"):
        resolve_reward(options.train.reward)
    if what == "critic-rl":
        resolve_agent(options.generator, task)
        if saved_settings(options.model).get("writes", "feedback") != "feedback":
            raise OptionError(f"--model {options.model} writes solutions: give a critic of --train.writes feedback.")
    splits = load_splits(task, options.data)
    require_problems(task, splits)
    seed_everything(options.seed, what)
    lm = open_model(options.model, task, splits.train, bits=options.adapter.bits)
    if options.lora:
        add_adapter(lm, options.adapter)
    record: dict[str, Any] = {"what": what, "options": to_dict(options), "base": origin(options.model)}
    record["data_hash"] = content_hash(splits)
    claim(folder, "training.json", overwrite=overwrite)
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    with Progress(console, folder / "metrics.jsonl").stage(f"train {what}") as update:
        spent = _TRAINERS[what](lm, task, splits, options, update)
    lm.save(folder)
    record["spent"] = asdict(spent)
    if what == "critic-rl":
        LearnedCritic(lm, task, **saved_settings(options.model)).save(folder)
    if what == "critic":
        critic = LearnedCritic(lm, task, writes=options.train.writes)
        if options.generator:
            generator = load_model(options.generator)
            critic = calibrated(critic, generator, task, splits.dev, options.turns)
        critic.save(folder)
        rng = random.Random(f"dev {options.seed}")
        pairs = critic_pairs(task, splits.dev, rng, no_hint_share=options.train.no_hint_share)
        figures = critic_figures(task, critic, pairs)
        record |= {"threshold": critic.threshold, "dev": asdict(figures)}
        console.print(f"On development problems: {figures}.", highlight=False, soft_wrap=True)
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    write_card(folder, lm, record, name)
    option = "--critic" if what.startswith("critic") else "--generator"
    console.print(f"Saved to {folder}: load it with {option}, --model or from_pretrained.", highlight=False)


def _generator(lm: LanguageModel, task: Task[Any], splits: Splits, o: GeneratorCommand, update: Update) -> Spent:
    return warm_start(lm, task, splits.train, splits.dev, o.train, seed=o.seed, update=update)


def _critic(lm: LanguageModel, task: Task[Any], splits: Splits, o: CriticCommand, update: Update) -> Spent:
    generator = load_model(o.generator) if o.generator else None
    return train_critic(lm, task, splits.train, splits.dev, o.train, seed=o.seed, update=update, generator=generator)


def _critic_rl(lm: LanguageModel, task: Task[Any], splits: Splits, o: CriticRLCommand, update: Update) -> Spent:
    spent, _ = train_critic_rl(lm, task, splits.train, splits.dev, o.generator, o.train, seed=o.seed, update=update)
    return spent


def _refiner(lm: LanguageModel, task: Task[Any], splits: Splits, o: RefinerCommand, update: Update) -> Spent:
    return train_refiner(
        lm,
        task,
        splits.train,
        splits.dev,
        o.train,
        seed=o.seed,
        update=update,
        critic=o.critic,
        seen=warm_start_share(len(splits.train), o.warm_start_share, o.seed),
    )


def _ppo(lm: LanguageModel, task: Task[Any], splits: Splits, o: PPOCommand, update: Update) -> Spent:
    spent, _ = train_ppo(
        lm,
        task,
        splits.train,
        o.train,
        token_budget=o.token_budget,
        seed=o.seed,
        update=update,
        score=lambda: first_accuracy(lm, task, splits.dev),
    )
    return spent


_TRAINERS: dict[str, Any] = {
    "generator": _generator,
    "critic": _critic,
    "critic-rl": _critic_rl,
    "refiner": _refiner,
    "ppo": _ppo,
}
