"""`refiner merge FOLDER --out FOLDER`: an adapter worked into its base, as a plain model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agents.critic import SETTINGS
from agents.lora import base_of, merge
from agents.models import load_model
from benchmarks.folders import claim
from refiner_env.errors import CheckpointError
from refiner_env.options import Parser
from trainers.progress import quiet_libraries


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = Parser(prog="refiner merge", description="Work a low-rank adapter into its base and save the whole model.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an adapter, as `refiner train --lora` writes it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the whole model")
    args = parser.parse_args(argv)
    base = base_of(args.folder)
    if not base:
        raise CheckpointError(f"{args.folder} holds no adapter: give a folder that refiner train --lora wrote.")
    quiet_libraries()
    lm = load_model(args.folder)
    merge(lm)
    claim(args.out, "config.json")
    lm.save(args.out)
    if (args.folder / SETTINGS).exists():  # what a critic writes, and its threshold
        shutil.copy(args.folder / SETTINGS, args.out)
    Console().print(f"Saved to {args.out}: {base} with the adapter of {args.folder}.", highlight=False)
    return 0
