"""`refiner merge FOLDER --out FOLDER`: an adapter worked into its base, as a plain model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agents.cards import origin, saved_record, write_card, write_record
from agents.critic import SETTINGS, saved_settings
from agents.lora import base_of, merge
from agents.models import load_model
from benchmarks.folders import claim
from benchmarks.hub import add_upload, check_upload, upload
from refiner_env.errors import CheckpointError
from refiner_env.options import Parser
from trainers.progress import quiet_libraries, say


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = Parser(prog="refiner merge", description="Work a low-rank adapter into its base and save the whole model.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an adapter, as `refiner train --lora` writes it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the whole model")
    add_upload(parser)
    args = parser.parse_args(argv)
    check_upload(args.push_to_hub, args.private)
    quiet_libraries()
    lm, base = load_model(args.folder), base_of(args.folder)
    if not base:
        raise CheckpointError(f"{args.folder} holds no adapter: give a folder that refiner train --lora wrote.")
    merge(lm)
    claim(args.out, "config.json", advice="delete it first")
    lm.save(args.out)
    if (args.folder / SETTINGS).exists():  # what a critic writes, and its threshold
        shutil.copy(args.folder / SETTINGS, args.out)
    record = {**saved_record(args.folder), "base": origin(args.folder), "merged": str(args.folder)}
    if "what" in record:
        write_record(args.out, record)
    write_card(args.out, lm, record, args.push_to_hub, saved_settings(args.folder).get("writes", "feedback"))
    console = Console()
    say(console, f"Saved to {args.out}: {base} with the adapter of {args.folder}.")
    if args.push_to_hub:
        upload(args.out, args.push_to_hub, args.private, console)
    return 0
