"""Saved splits: a `datasets.DatasetDict` folder with the audit beside it in `audit.json`.

`datasets` is imported when something is saved or loaded, as it takes seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.corpus import Audit, Splits, content_hash
from refiner_env.errors import DataError
from refiner_env.records import frozen
from refiner_env.types import Problem

AUDIT_FILE = "audit.json"
_CONTENT = {AUDIT_FILE, "dataset_dict.json", "train", "dev", "test"}


def save_splits(splits: Splits, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write splits to a folder and return it. It appears whole or not at all.

    Args:
        overwrite: replace splits that were saved there before. Any other content is never replaced.

    Raises:
        DataError: the folder is in use or cannot be written, or metadata is not JSON.
    """
    datasets = import_datasets()
    problems = [p for part in splits.parts.values() for p in part]
    text, number = datasets.Value("string"), datasets.Value("float64")
    kinds = {type(p.answer) for p in problems} - {type(None)}
    if len(kinds) > 1:
        raise DataError(f"The answers of {splits.name!r} are of several kinds: {', '.join(k.__name__ for k in kinds)}.")
    answer = text if str in kinds else number
    features = datasets.Features(
        uid=text,
        text=text,
        gold=text,
        answer=answer,
        metadata=text,
        gold_metadata=text,
    )
    rows = {name: [_row(p) for p in part] for name, part in splits.parts.items()}
    record = {
        "name": splits.name,
        "task": splits.task,
        "content_hash": content_hash(splits),
        "audit": asdict(splits.audit),
    }
    return save_tables(rows, features, record, folder, overwrite=overwrite)


def save_tables(
    parts: Mapping[str, Sequence[dict[str, Any]]],
    features: Any,
    record: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> Path:
    """Write rows by split as a `datasets.DatasetDict` and a record beside it, and return the folder.

    Raises:
        DataError: the folder is in use or cannot be written.
    """
    datasets = import_datasets()
    target = Path(folder).resolve()
    check_free(target, overwrite)
    tables = datasets.DatasetDict()
    for name, rows in parts.items():
        if rows:  # datasets cannot load a table without rows
            tables[name] = datasets.Dataset.from_list(list(rows), features)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            new = Path(scratch) / target.name
            with no_progress_bars(datasets):
                tables.save_to_disk(new)
            (new / AUDIT_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")
            if target.exists():
                shutil.rmtree(target)
            new.rename(target)
    except OSError as error:
        raise DataError(f"{target} cannot be saved: {error}.") from error
    return target


def load_saved(folder: str | os.PathLike[str]) -> Splits:
    """Read splits that `save_splits` wrote. Sequences in metadata come back as tuples.

    Raises:
        DataError: no such folder, a part of it is missing or unreadable, or its content has changed.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"Looked for saved splits in {path}: no such folder. `refiner data --out` writes one.")
    datasets = import_datasets()
    try:
        record = json.loads((path / AUDIT_FILE).read_text(encoding="utf-8"))
        tables = datasets.load_from_disk(path)
        parts = {name: tuple(_problem(row) for row in tables.get(name, ())) for name in ("train", "dev", "test")}
        audit = record["audit"]
        report = Audit(**{**audit, "messages": tuple(audit["messages"])})
        splits = Splits(record["name"], **parts, audit=report, task=record["task"])
        saved_hash = record["content_hash"]
    except Exception as error:  # a broken folder fails in any layer: JSON, datasets, Arrow, our columns
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} holds no splits as `refiner data --out` writes them ({why}).") from error
    if (found := content_hash(splits)) != saved_hash:
        raise DataError(f"{path} has changed since it was saved: its content hash is {found}, saved was {saved_hash}.")
    return splits


def check_free(target: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something else, or splits that may not be replaced.

    Raises:
        DataError: it does.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target} is a file; choose a folder.")
    found = {entry.name for entry in target.iterdir()}
    if not found:
        return
    if "dataset_dict.json" not in found or not found <= _CONTENT:
        raise DataError(f"{target} holds something other than saved splits; choose another folder.")
    if not overwrite:
        raise DataError(f"{target} already holds saved splits; choose another folder, or give --overwrite.")


def import_datasets() -> Any:
    """The package `datasets`.

    Raises:
        DataError: it is not installed.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise DataError("This needs the package datasets: pip install -e '.[train]'") from None
    return datasets


@contextmanager
def no_progress_bars(datasets: Any) -> Iterator[None]:
    """Keep `datasets` silent."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _row(problem: Problem) -> dict[str, Any]:
    try:
        text, hidden = json.dumps(dict(problem.metadata)), json.dumps(dict(problem.gold_metadata))
    except TypeError as error:
        raise DataError(f"The metadata of {problem.uid!r} cannot be saved: {error}.") from None
    return {
        "uid": problem.uid,
        "text": problem.text,
        "gold": problem.gold,
        "answer": problem.answer,
        "metadata": text,
        "gold_metadata": hidden,
    }


def _problem(row: dict[str, Any]) -> Problem:
    metadata, hidden = (_read_json(row[column]) for column in ("metadata", "gold_metadata"))
    return Problem(row["uid"], row["text"], row["gold"], row["answer"], metadata, hidden)


def _read_json(text: str) -> dict[str, Any]:
    read: dict[str, Any] = frozen(json.loads(text))
    return read
