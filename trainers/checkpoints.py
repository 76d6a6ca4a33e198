"""Checkpoints: what a training needs to go on as if it had never stopped, on disk whole or not at all.

    checkpoints/
        step-00000200/          weights.safetensors, optimizer.safetensors, state.json, manifest.json
        best-00000150/          weights.safetensors, manifest.json: what the development score likes best so far

A folder is written under another name, flushed and then renamed; its manifest holds the hash of every file, and nothing
is read before they agree. Only safetensors and JSON, no pickle. There are no random states: a step depends on weights,
optimizer, seed and its own number (`trainers.learning`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from refiner_env.errors import CheckpointError

Tensors = Mapping[str, torch.Tensor]
MANIFEST = "manifest.json"
_STEP, _BEST, _UNFINISHED = "step-", "best-", "unfinished-"


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: theirs alone; made when the first is written.
        every: steps from one to the next; 0 writes them only when training is interrupted.
        keep: how many of the last are kept.
    """

    def __init__(self, folder: Path, every: int, keep: int) -> None:
        self.folder, self.every, self.keep = folder, every, keep

    def due(self, step: int) -> bool:
        """Whether one is to be written after this many steps."""
        return bool(self.every) and step % self.every == 0

    def save(self, step: int, tensors: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
        """Write the checkpoint after `step`, then delete the oldest beyond those that are kept.

        Args:
            tensors: file -> name -> tensor; `weights` and `optimizer`.
            state: everything else, for JSON. Its `best`, where there is one, is the step of the best weights.

        Raises:
            CheckpointError: it cannot be written; the earlier ones are intact.
        """
        self._write(self._path(_STEP, step), tensors, state)
        for old in self.steps()[: -self.keep]:
            self._delete(self._path(_STEP, old))
        self._keep_best(state.get("best"))

    def save_best(self, step: int, weights: Tensors) -> None:
        """Write the best weights so far; those that a kept checkpoint goes back to stay beside them.

        Raises:
            CheckpointError: they cannot be written.
        """
        self._write(self._path(_BEST, step), {"weights": weights}, {})
        self._keep_best(step)

    def _keep_best(self, step: int | None) -> None:
        """Delete all best weights but those of this step and those that checkpoints go back to."""
        used = {step, *(self._state(other).get("best") for other in self.steps())}
        for best in self._numbers(_BEST):
            if best not in used:
                self._delete(self._path(_BEST, best))

    def steps(self) -> list[int]:
        """The steps after which there are checkpoints, in order."""
        return self._numbers(_STEP)

    def latest(self) -> int | None:
        """The step of the last checkpoint, after a look at its hashes and those of its best weights; None without any.

        Raises:
            CheckpointError: it is damaged; the message offers the one before.
        """
        steps = self.steps()
        if not steps:
            return None
        last = self._path(_STEP, steps[-1])
        try:
            self._verify(last)
            best = self._state(steps[-1]).get("best")
            if best is not None:
                self._verify(self._path(_BEST, best))
        except CheckpointError as error:
            before = f"to go on from step {steps[-2]}" if len(steps) > 1 else "to begin anew: it is the only one"
            raise CheckpointError(f"{error} Delete {last} {before}.") from None
        return steps[-1]

    def load(self, step: int) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
        """Tensors by file, and state, of a checkpoint; `best` is among the tensors where there are best weights."""
        folder = self._path(_STEP, step)
        state = self._state(step)
        tensors = {file.stem: load_file(file) for file in sorted(folder.glob("*.safetensors"))}
        if state.get("best") is not None:
            tensors["best"] = load_file(self._path(_BEST, state["best"]) / "weights.safetensors")
        return tensors, state

    def delete(self) -> None:
        """Delete all of them: training has finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, kind: str, step: int) -> Path:
        return self.folder / f"{kind}{step:08d}"

    def _numbers(self, kind: str) -> list[int]:
        return sorted(int(path.name.removeprefix(kind)) for path in self.folder.glob(f"{kind}*"))

    def _state(self, step: int) -> dict[str, Any]:
        return dict(json.loads((self._path(_STEP, step) / "state.json").read_text()))

    def _write(self, folder: Path, tensors: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
        unfinished = folder.with_name(_UNFINISHED + folder.name)
        with writing(folder.parent, self._last_word()):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            for name, named in tensors.items():
                save_file(
                    {key: t.detach().contiguous() for key, t in named.items()}, unfinished / f"{name}.safetensors"
                )
            (unfinished / "state.json").write_text(json.dumps(state) + "\n")
            manifest = {file.name: _hash(file) for file in sorted(unfinished.iterdir())}
            (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
            for file in unfinished.iterdir():
                _flush(file)
            if folder.exists():  # the same step again, after a resumed training has come by
                self._delete(folder)
            unfinished.rename(folder)
            _flush(folder.parent)

    def _delete(self, folder: Path) -> None:
        """A deletion that is cut short leaves nothing that looks whole."""
        doomed = folder.with_name(_UNFINISHED + folder.name + "-deleted")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed)

    def _verify(self, folder: Path) -> None:
        try:
            manifest: dict[str, str] = json.loads((folder / MANIFEST).read_text())
            found = {name: _hash(folder / name) for name in manifest}
        except (OSError, ValueError) as error:
            raise CheckpointError(f"The checkpoint {folder} is damaged: {str(error).splitlines()[0]}.") from None
        wrong = [name for name in manifest if found[name] != manifest[name]]
        if wrong:
            raise CheckpointError(f"The checkpoint {folder} is damaged: {wrong[0]} is not what {MANIFEST} says.")

    def _last_word(self) -> str:
        steps = self.steps()
        if not steps:
            return "No checkpoint has been written yet."
        return f"The checkpoint of step {steps[-1]} is intact: make room, then go on with --resume."


@contextlib.contextmanager
def writing(where: Path, advice: str) -> Iterator[None]:
    """Turn a full disk or a folder without write permission into one line.

    Raises:
        CheckpointError: what is written inside could not be.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(f"Cannot write to {where}: {reason}. {advice}") from None


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Make sure that a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
