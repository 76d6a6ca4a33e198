"""Output folders: made, refused, or emptied, the same way for every command."""

from __future__ import annotations

import shutil
from pathlib import Path

from refiner_env.errors import RefinerError


def claim(folder: Path, marker: str, *, overwrite: bool = False, advice: str = "--overwrite to delete it") -> None:
    """Make `folder` an empty one of ours.

    Args:
        marker: the file by which a folder of this command is known; only such a folder is ever deleted.
        advice: what to do with a finished one, for the error.

    Raises:
        RefinerError: it is a file, or not empty.
    """
    ours = (folder / marker).is_file()
    if folder.exists() and not folder.is_dir():
        raise RefinerError(f"--out {folder} is a file: give a folder.")
    if ours and overwrite:
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        way_out = advice if ours else f"it has no {marker}, so it is not deleted"
        raise RefinerError(f"The folder {folder} is not empty: {way_out}, or choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefinerError(f"Cannot make the folder {folder}: {error.strerror}. Choose another --out.") from None
