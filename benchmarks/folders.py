"""Output folders: made, refused, or emptied, the same way for every command."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from refiner_env.errors import OptionError, RefinerError
from refiner_env.options import differing, flag, read_options

T = TypeVar("T")


def check_folder_options(resume: bool, overwrite: bool) -> None:
    """Refuse to go on with a folder and to delete it at once.

    Raises:
        OptionError: both are asked for.
    """
    if resume and overwrite:
        raise OptionError("--resume goes on with what is in the folder and --overwrite deletes it: give one of them.")


FREE = ("micro-batch", "gradient-checkpointing", "max-skipped", "checkpoint-every", "keep")
"""Options of a run (`--run.`) that may change when it goes on: they change no more than rounding."""


def as_begun(options: T, given: Mapping[str, Any]) -> T:
    """The options with which a training was begun, for it to go on, and what may change.

    Args:
        given: values on the line of the resumption, by destination.

    Raises:
        OptionError: one of them differs.
    """
    now = read_options(options, given)
    other = {
        name: values for name, values in differing(options, now).items() if name.removeprefix("--run.") not in FREE
    }
    if other:
        told = ", ".join(f"{name} was {before} and is {after} now" for name, (before, after) in other.items())
        raise OptionError(f"--resume goes on as the training began, but {told}: leave it out, or take another --out.")
    return now


def claim(
    folder: Path,
    marker: str,
    *,
    overwrite: bool = False,
    advice: str = "--overwrite to delete it",
    reads: Any = None,
) -> None:
    """Make `folder` an empty one of ours.

    Args:
        marker: the file by which a folder of this command is known; only such a folder is ever deleted.
        advice: what to do with a finished one, for the error.
        reads: the command's options; a folder in which something lies that they name is not deleted.

    Raises:
        RefinerError: it is a file, or not empty, or needed.
    """
    ours = (folder / marker).is_file()
    if folder.exists() and not folder.is_dir():
        raise RefinerError(f"--out {folder} is a file: give a folder.")
    if ours and overwrite:
        _spare(folder, reads)
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        way_out = advice if ours else f"it has no {marker}, so it is not deleted"
        raise RefinerError(f"The folder {folder} is not empty: {way_out}, or choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefinerError(f"Cannot make the folder {folder}: {error.strerror}. Choose another --out.") from None


def _spare(folder: Path, options: Any, prefix: str = "") -> None:
    for name, value in vars(options).items() if options else ():
        if is_dataclass(value):
            _spare(folder, value, f"{prefix}{name}.")
            continue
        path = Path(value) if isinstance(value, str) and value else None
        if path and path.exists() and path.resolve().is_relative_to(folder.resolve()):
            raise RefinerError(f"--overwrite would delete {flag(prefix + name)} {value}: choose another --out.")
