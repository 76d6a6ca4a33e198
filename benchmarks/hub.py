"""Uploads of finished folders to the Hugging Face hub."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from huggingface_hub import HfApi, get_token
from rich.console import Console

from agents.cards import id_fault
from refiner_env.errors import OptionError, RefinerError, reason
from trainers.progress import say


def add_upload(parser: argparse.ArgumentParser) -> None:
    """Add the options of an upload."""
    parser.add_argument(
        "--push-to-hub", default="", metavar="ID", help="also upload the folder to the hub, as USER/NAME"
    )
    parser.add_argument("--private", action="store_true", help="to a private repository")


def check_upload(id: str, private: bool) -> None:
    """Refuse an upload that cannot succeed, before the work that comes first.

    Raises:
        OptionError: the id is malformed, there is no token, or there is nothing to keep private.
    """
    if not id:
        if private:
            raise OptionError("--private goes with --push-to-hub ID: it says how the folder is uploaded.")
        return
    if fault := id_fault(id):
        raise OptionError(f"--push-to-hub {id!r} is no id: {fault} Give USER/NAME.")
    if not get_token():
        raise OptionError("--push-to-hub needs a token: log in with `hf auth login`, or set HF_TOKEN.")


def upload(folder: Path, id: str, private: bool, console: Console) -> None:
    """Upload a finished folder to the hub; the repository is made where there is none.

    Raises:
        RefinerError: it failed; the message has the command that tries again, and the folder is as it was.
    """
    try:
        api = HfApi()
        repository = api.create_repo(id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository.repo_id, folder_path=folder)
    except Exception as error:  # the network's, the hub's and the disk's have no class in common
        again = shlex.join(["hf", "upload", id, str(folder), ".", *(["--private"] if private else [])])
        raise RefinerError(
            f"The upload to {id} failed: {reason(error)}. The folder {folder} is whole; to try again: {again}"
        ) from None
    say(console, f"Uploaded to {repository}.")
