"""`refiner train generator|critic|critic-rl|refiner|ppo`: train one model; saved, `from_pretrained` reads it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.cards import RECORD, development, origin, saved_record, write_card, write_record
from agents.critic import LearnedCritic, saved_settings
from agents.lm import LanguageModel
from agents.lora import FULL, LoraOptions, add_adapter, check_adapter
from agents.models import BASE, files_hash, load_model, open_model
from baselines.ppo import PPOOptions, train_ppo
from benchmarks.arms import seed_everything
from benchmarks.folders import as_begun, check_folder_options, claim
from benchmarks.hub import add_upload, check_upload, upload
from benchmarks.launching import launch, launched
from benchmarks.original import NAMES
from data import DataOptions, Splits, content_hash, load_splits, require_problems
from data.negatives import critic_pairs
from refiner_env.agreement import CriticFigures
from refiner_env.critic_referee import resolve_agent
from refiner_env.critics import resolve_critic
from refiner_env.errors import OptionError, RefinerError, UnknownNameError
from refiner_env.options import Parser, add_options, from_dict, option, read_options, section, to_dict
from refiner_env.rewards import resolve_reward
from refiner_env.tasks import resolve_task
from refiner_env.trust import TRUST, is_trusted
from refiner_env.types import Task
from trainers.calibration import calibrated
from trainers.checkpoints import Checkpoints, writing
from trainers.critic import CriticOptions, train_critic
from trainers.critic_rl import CriticRLOptions, train_critic_rl
from trainers.evaluation import critic_figures
from trainers.processes import once, processes, sharded_by
from trainers.progress import Progress, quiet_libraries, say
from trainers.refiner import RefinerOptions, check_options, train_refiner
from trainers.runs import Outcome, Run, RunOptions
from trainers.tracking import NO_TRACKING, TrackingOptions, check_trackers, tracked
from trainers.warm_start import WarmStartOptions, first_accuracy, warm_start, warm_start_share

_TASK = option("MathWordProblem", "the task")
_LORA = option(False, "train a low-rank adapter (LoRA) beside the frozen model")
_EPOCHS = option(
    0.0,
    "passes over the training problems, in place of --train.steps; 0: as many steps as that says",
    low=0.0,
    high=10_000.0,
)
_RUN = section(RunOptions, "how it is run")
_MODEL = "the model to start from: refiner-tiny, scratch:SIZE, a folder or a Hugging Face id"


@dataclass(frozen=True)
class GeneratorCommand:
    """Supervised warm start of a generator, without a critic."""

    task: str = _TASK
    model: str = option(BASE, _MODEL)
    seed: int = option(0, "seed of training", low=0)
    epochs: float = _EPOCHS
    lora: bool = _LORA
    adapter: LoraOptions = section(LoraOptions, "the adapter")
    data: DataOptions = section(DataOptions, "problems")
    train: WarmStartOptions = section(WarmStartOptions, "warm start")
    run: RunOptions = _RUN


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
    epochs: float = _EPOCHS
    lora: bool = _LORA
    adapter: LoraOptions = section(LoraOptions, "the adapter")
    data: DataOptions = section(DataOptions, "problems")
    train: CriticOptions = section(CriticOptions, "critic training")
    run: RunOptions = _RUN


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
    run: RunOptions = _RUN


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
    epochs: float = _EPOCHS
    lora: bool = _LORA
    adapter: LoraOptions = section(LoraOptions, "the adapter")
    data: DataOptions = section(DataOptions, "problems")
    train: RefinerOptions = section(RefinerOptions, "REFINER training")
    run: RunOptions = _RUN


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
    run: RunOptions = _RUN


COMMANDS: dict[str, Any] = {
    "generator": GeneratorCommand(),
    "critic": CriticCommand(),
    "critic-rl": CriticRLCommand(),
    "refiner": RefinerCommand(),
    "ppo": PPOCommand(),
}
IN_EPOCHS = ("generator", "critic", "refiner")
"""Those whose training is a number of passes over the problems."""


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = Parser(prog="refiner train", description="Train one model and save it.")
    subparsers = parser.add_subparsers(dest="what", required=True, metavar="|".join(COMMANDS))
    for name, defaults in COMMANDS.items():
        text = (type(defaults).__doc__ or "").strip()
        usage = f"refiner train {name} --out FOLDER [OPTIONS]"
        sub = subparsers.add_parser(name, help=text, description=text, usage=usage)
        out = ("--out", *NAMES[name].same["out"])
        sub.add_argument(*out, type=Path, required=True, help="folder for the trained model and its metrics")
        sub.add_argument("--overwrite", action="store_true", help="delete what is in the folder first")
        sub.add_argument("--resume", action="store_true", help="go on with the interrupted training in the folder")
        text = "processes on this machine that share each batch; one for each GPU"
        sub.add_argument("--num-processes", type=int, default=1, metavar="N", help=f"{text} (default: 1; at least 1)")
        add_options(sub, defaults, names=NAMES[name].same)
        add_options(sub, TrackingOptions(), title="tracking")
        add_upload(sub)
        NAMES[name].add(sub)
    if not argv or argv[0].startswith("-"):
        parser.parse_args([word for word in argv if word in ("-h", "--help")])  # help, or what is missing
    what, *words = argv
    if what not in COMMANDS:
        raise UnknownNameError("model to train", what, COMMANDS)
    args = subparsers.choices[what].parse_args(words)
    given = vars(args)
    check_folder_options(args.resume, args.overwrite)
    options = _begun(what, args.out, given) if args.resume else read_options(COMMANDS[what], given)
    if not options.model:
        raise OptionError(f"refiner train {what} needs --model: the trained model to go on with.")
    if what in IN_EPOCHS and options.epochs and given["train.steps"] is not None:
        raise OptionError("--epochs and --train.steps both say how long to train: give one of them.")
    if args.num_processes < 1:
        raise OptionError(f"--num-processes is {args.num_processes}: it must be at least 1.")
    check_upload(args.push_to_hub, args.private)
    if args.num_processes > 1 and not launched():
        trust = [TRUST] if is_trusted() else []
        return launch(["-m", "trainers", *argv, *trust], args.num_processes)
    if sharded_by() and options.adapter.bits != FULL:
        raise OptionError(f"--adapter.bits {options.adapter.bits} cannot be sharded: start it without {sharded_by()}.")
    quiet_libraries()
    tracking, console = read_options(TrackingOptions(), given), Console(quiet=not processes().is_main_process)
    order = Order(what, options, args.out, args.overwrite, args.resume, tracking, args.push_to_hub)
    train(order, console)
    if args.push_to_hub:
        once(lambda: upload(args.out, args.push_to_hub, args.private, console))
    return 0


def _begun(what: str, folder: Path, given: Mapping[str, Any]) -> Any:
    """The options with which the training in a folder was begun.

    Raises:
        RefinerError: there is none of this kind, or what is given now differs.
    """
    record = saved_record(folder)
    if not {"what", "options", "data_hash"} <= record.keys():
        raise OptionError(f"--resume: {folder} holds no training: leave it out to begin one, or mend --out.")
    if record["what"] != what:
        raise OptionError(f"--resume: {folder} holds a training of {record['what']}, not of {what}: mend --out.")
    return as_begun(from_dict(COMMANDS[what], record["options"]), given)


@dataclass(frozen=True)
class Order:
    """What is to be trained, and where it goes."""

    what: str
    """One of `COMMANDS`."""
    options: Any
    """Those of the command."""
    folder: Path
    overwrite: bool = False
    resume: bool = False
    tracking: TrackingOptions = NO_TRACKING
    name: str = ""
    """What the model will be loaded by, for its card; without one, the folder."""


def train(order: Order, console: Console) -> None:
    """Train what is ordered and save it in the folder, with metrics.jsonl, training.json and its card.

    Raises:
        RefinerError: the folder is in use, or the options do not fit.
    """
    what, folder, task = order.what, order.folder, resolve_task(order.options.task)
    check_trackers(order.tracking)
    _check(what, order.options, task)
    splits = load_splits(task, order.options.data)
    require_problems(task, splits, ("train", "dev"))
    options = _in_steps(order.options, len(splits.train)) if what in IN_EPOCHS else order.options
    record: dict[str, Any] = {
        "what": what,
        "options": to_dict(options),
        "base": origin(options.model),
        "data_hash": content_hash(splits),
        "model_hash": files_hash(options.model),
    }
    checkpoints = Checkpoints(folder / "checkpoints", options.run.checkpoint_every, options.run.keep)
    if order.resume:
        before = saved_record(folder)
        if before["data_hash"] != record["data_hash"]:
            raise RefinerError(f"--resume: {folder} was begun with other problems than {splits.name} holds now.")
        if "spent" in before:
            once(checkpoints.delete)  # it may have been killed just before that
            say(console, f"The training in {folder} is finished: nothing to go on with.")
            return
        if before.get("model_hash", record["model_hash"]) != record["model_hash"]:
            raise RefinerError(f"--resume: {folder} was begun with another model than {options.model} is now.")
    seed_everything(options.seed, what)
    lm = open_model(options.model, task, splits.train, bits=options.adapter.bits)
    if options.lora:
        add_adapter(lm, options.adapter)
    if not order.resume:
        once(lambda: _begin(order, record))
    with (
        tracked(order.tracking, folder, record, console) as track,
        Progress(console, folder / "metrics.jsonl", track).stage(f"train {what}") as update,
    ):
        run = Run(options.seed, update, options.run, checkpoints)
        outcome: Outcome = _TRAINERS[what](lm, task, splits, options, run)
    record |= {"spent": asdict(outcome.spent), "dev": outcome.best}
    critic = None
    if what == "critic-rl":
        critic = LearnedCritic(lm, task, **saved_settings(options.model))
    if what == "critic":
        critic, figures = _as_critic(lm, task, splits, options)
        record |= {"threshold": critic.threshold, "dev": asdict(figures)}
        say(console, f"On development problems: {figures}.")
    once(lambda: _finish(order, record, lm, critic))
    once(checkpoints.delete)
    if outcome.best:
        say(console, development(outcome.best))
    option = "--critic" if what.startswith("critic") else "--generator"
    say(console, f"Saved to {folder}: load it with {option}, --model or from_pretrained.")


def _check(what: str, options: Any, task: Task[Any]) -> None:
    """Refuse options that do not fit, before the folder is claimed.

    Raises:
        RefinerError: which, and why.
    """
    check_adapter(options.adapter, options.lora)
    if what == "critic" and options.generator:
        load_model(options.generator)
    if what == "refiner":
        resolve_critic(options.critic, task)
        check_options(options.train, options.warm_start_share, "--train", "--warm-start-share")
    if what == "ppo":
        for name in ("schedule", "warmup"):
            if getattr(options.run, name) != getattr(RunOptions, name):
                raise OptionError(f"--run.{name} is not PPO's, which has its own: give --train.{name}.")
    if what in ("ppo", "critic-rl"):
        resolve_reward(options.train.reward)
    if what == "critic-rl":
        resolve_agent(options.generator, task)
        if saved_settings(options.model).get("writes", "feedback") != "feedback":
            raise OptionError(f"--model {options.model} writes solutions: give a critic of --train.writes feedback.")


def _begin(order: Order, record: Mapping[str, Any]) -> None:
    advice = "--resume to go on, --overwrite to delete it"
    claim(order.folder, RECORD, overwrite=order.overwrite, advice=advice, reads=order.options)
    with writing(order.folder, "Choose another --out."):
        write_record(order.folder, record)


def _finish(order: Order, record: Mapping[str, Any], lm: LanguageModel, critic: LearnedCritic | None) -> None:
    with writing(order.folder, "Make room, then go on with --resume."):
        (critic or lm).save(order.folder)
        write_card(order.folder, lm, record, order.name, critic.writes if critic else "")
        write_record(order.folder, record)  # last: with what it spent in it, the training counts as finished


def _as_critic(
    lm: LanguageModel, task: Task[Any], splits: Splits, o: CriticCommand
) -> tuple[LearnedCritic, CriticFigures]:
    """The trained model with its threshold, and how it does on development problems."""
    critic = LearnedCritic(lm, task, writes=o.train.writes)
    if o.generator:
        critic = calibrated(critic, load_model(o.generator), task, splits.dev, o.turns)
    pairs = critic_pairs(task, splits.dev, random.Random(f"dev {o.seed}"), no_hint_share=o.train.no_hint_share)
    return critic, critic_figures(task, critic, pairs)


def _in_steps(o: Any, n_train: int) -> Any:
    """The options with their epochs, if any, told in steps; an epoch of the warm start is over what it may see."""
    if not o.epochs:
        return o
    seen = warm_start_share(n_train, o.train.share, o.seed) if isinstance(o, GeneratorCommand) else range(n_train)
    return replace(o, train=replace(o.train, steps=math.ceil(o.epochs * len(seen) / o.train.batch_size)))


def _generator(lm: LanguageModel, task: Task[Any], splits: Splits, o: GeneratorCommand, run: Run) -> Outcome:
    return warm_start(lm, task, splits.train, splits.dev, o.train, run)


def _critic(lm: LanguageModel, task: Task[Any], splits: Splits, o: CriticCommand, run: Run) -> Outcome:
    generator = load_model(o.generator) if o.generator else None
    return train_critic(lm, task, splits.train, splits.dev, o.train, run, generator=generator)


def _critic_rl(lm: LanguageModel, task: Task[Any], splits: Splits, o: CriticRLCommand, run: Run) -> Outcome:
    return train_critic_rl(lm, task, splits.train, splits.dev, o.generator, o.train, run)


def _refiner(lm: LanguageModel, task: Task[Any], splits: Splits, o: RefinerCommand, run: Run) -> Outcome:
    seen = warm_start_share(len(splits.train), o.warm_start_share, o.seed)
    return train_refiner(lm, task, splits.train, splits.dev, o.train, run, critic=o.critic, seen=seen)


def _ppo(lm: LanguageModel, task: Task[Any], splits: Splits, o: PPOCommand, run: Run) -> Outcome:
    def score() -> dict[str, float]:
        return {"dev": first_accuracy(lm, task, splits.dev)}

    return train_ppo(lm, task, splits.train, o.train, run, token_budget=o.token_budget, score=score)[0]


_TRAINERS: dict[str, Any] = {
    "generator": _generator,
    "critic": _critic,
    "critic-rl": _critic_rl,
    "refiner": _refiner,
    "ppo": _ppo,
}
