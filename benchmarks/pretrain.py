"""`refiner pretrain`: train a base model from scratch on procedural exercises, and write its model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from agents.cards import front_matter
from agents.lm import LanguageModel
from agents.models import SCRATCH, check_spec
from benchmarks.folders import as_begun, check_folder_options, claim
from data.skills import SKILLS
from refiner_env.errors import OptionError
from refiner_env.options import Parser, add_options, flag, from_dict, option, read_options, section, to_dict
from refiner_env.records import read_object
from trainers.checkpoints import Checkpoints
from trainers.pretrain import GROWN_AT, PHASES, PretrainOptions, build_base, pretrain, skill_losses
from trainers.progress import Progress, quiet_libraries, say
from trainers.runs import Outcome, Run, RunOptions
from trainers.tracking import NO_TRACKING, TrackingOptions, check_trackers, tracked

MARKER, CARD = "pretrain.json", "README.md"
"""The files of a folder that say how its training was begun, and that it is finished."""


@dataclass(frozen=True)
class PretrainCommand:
    """A base model of our own: skills of procedure, no problems of any task."""

    size: str = option("mini", "tiny (about 1 M parameters), mini (1.5 M) or small (10 M)")
    seed: int = option(0, "seed of weights and exercises", low=0)
    train: PretrainOptions = section(PretrainOptions, "pre-training")
    run: RunOptions = section(RunOptions, "how it is run")


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = Parser(
        prog="refiner pretrain",
        usage="%(prog)s --out FOLDER [OPTIONS]",
        description="Pre-train a small T5 on procedural exercises: editing by feedback, comparing, look-up, copying. "
        "Use it with --generator-model FOLDER, --critic-model FOLDER or --model FOLDER.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, its card and its metrics")
    parser.add_argument("--overwrite", action="store_true", help="delete what is in the folder first")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted training in the folder")
    add_options(parser, PretrainCommand())
    add_options(parser, TrackingOptions(), title="tracking")
    args = parser.parse_args(argv)
    check_folder_options(args.resume, args.overwrite)
    options = _begun(args.out, vars(args)) if args.resume else read_options(PretrainCommand(), vars(args))
    check_spec(SCRATCH + options.size)
    quiet_libraries()
    tracking = read_options(TrackingOptions(), vars(args))
    run(options, args.out, Console(), overwrite=args.overwrite, resume=args.resume, tracking=tracking)
    return 0


def _begun(folder: Path, given: Mapping[str, Any]) -> PretrainCommand:
    marker = folder / MARKER
    if not marker.is_file():
        raise OptionError(f"--resume: {folder} holds no pre-training: give the --out of one that was begun.")
    return as_begun(from_dict(PretrainCommand(), read_object(marker)), given)


def run(
    options: PretrainCommand,
    folder: Path,
    console: Console,
    *,
    overwrite: bool = False,
    resume: bool = False,
    tracking: TrackingOptions = NO_TRACKING,
) -> None:
    """Pre-train and save; the folder then holds a model that `from_pretrained` reads, and its card."""
    check_trackers(tracking)
    if resume and (folder / CARD).is_file():
        say(console, f"The pre-training in {folder} is finished: nothing to go on with.")
        return
    if not resume:
        claim(folder, MARKER, overwrite=overwrite, advice="--resume to go on, --overwrite to delete it")
        (folder / MARKER).write_text(json.dumps(to_dict(options), indent=2) + "\n")
    torch.manual_seed(options.seed)
    lm = build_base(options.size, options.train, options.seed)
    checkpoints = Checkpoints(folder / "checkpoints", options.run.checkpoint_every, options.run.keep)
    with (
        tracked(tracking, folder, to_dict(options), console) as track,
        Progress(console, folder / "metrics.jsonl", track).stage("pretrain") as update,
    ):
        outcome = pretrain(lm, options.train, Run(options.seed, update, options.run, checkpoints))
    lm.save(folder)
    losses = skill_losses(lm, options.train.held_out)
    (folder / CARD).write_text(model_card(options, lm, outcome, losses), encoding="utf-8")  # last: it is finished
    checkpoints.delete()
    say(console, f"Saved to {folder}: model, README.md (its card), metrics.jsonl.")


def model_card(options: PretrainCommand, lm: LanguageModel, outcome: Outcome, losses: dict[str, float]) -> str:
    """What a user has to know of the model: data, command, cost, and what it can do."""
    spent, checks = outcome.spent, outcome.checks
    changed = " ".join(_changed(options))
    shown = [checks[i] for i in sorted({round(k * (len(checks) - 1) / 5) for k in range(6)})]
    size = sum(p.numel() for p in lm.model.parameters())
    shares = {name: f"{share:.0%}" for name, (_, share) in SKILLS.items()}
    header = ["skill", "share", "loss", *(f"step {c['step']:,}" for c in shown)]
    table = [header, ["---"] * len(header)]
    for name in (name for name in shown[-1] if name != "step"):
        loss = f"{losses[name]:.3f}" if name in losses else ""
        table.append([f"`{name}`", shares.get(name, ""), loss, *(f"{100 * c[name]:.1f}" for c in shown)])
    phases = "; ".join(f"until {until:.0%} {', '.join(skills)}" for until, _, skills in PHASES).capitalize()
    rows = "\n".join("| " + " | ".join(row) + " |" for row in table)
    return f"""{front_matter(lm, SCRATCH + options.size, tags=["base model"])}
# A small base model for reading and writing feedback

A T5 of {size:,} parameters with its own SentencePiece tokenizer ({len(lm.tokenizer):,} pieces), trained from scratch on
procedural exercises only: random words, random programs, and sentence patterns of our own (`data/skills.py`). It has
seen no word problem, story schema or corpus of any task; it knows procedures, not problems, and is of use only after
training on a task.

- Command: `refiner pretrain --out FOLDER{" " + changed if changed else ""}`
- Cost: {spent.steps:,} steps, {spent.tokens / 1e6:.1f} M tokens, {spent.wall_s / 60:.0f} minutes.
- Seed {options.seed}; batches of {options.train.batch_size} exercises of one skill; AdamW, peak learning rate
  {options.train.learning_rate:g}.
- {phases}; then all skills by their shares, at their full level from {GROWN_AT:.0%} on.

Accuracy in % on {options.train.held_out} held-out exercises of the full level per skill, over training, and the loss
per target token at the end. Programs count when equivalent, other targets when equal. `edit` has no single right answer
(the text does not tell the value), so its loss has a floor above 0: it counts when every slot that the feedback
names has changed (`edit_changed`) and every other is kept (`edit_kept`).

{rows}

Skills below about 90% have not emerged: do not build on them.
"""


def _changed(options: Any, prefix: str = "--") -> list[str]:
    """The options that differ from their defaults, as on the command line."""
    flags: list[str] = []
    for f in fields(options):
        value, default = getattr(options, f.name), getattr(type(options)(), f.name)
        if is_dataclass(value):
            flags += _changed(value, f"{prefix}{f.name}.")
        elif value != default:
            flags.append(flag(prefix.removeprefix("--") + f.name) + ("" if value is True else f" {value}"))
    return flags
