"""A folder to train from: repaired problems, and rows for a critic."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.corpus import Splits
from data.negatives import CriticPair, balanced_pairs
from data.storage import check_free, import_datasets, save_splits, save_tables
from refiner_env.options import option
from refiner_env.types import Task

RIGHT = "right"
"""Stands for fault kinds in counts of pairs without a fault."""


@dataclass(frozen=True)
class BuildOptions:
    """How many rows for a critic, and how many of them right."""

    no_hint_share: float = option(0.25, "fraction of right hypotheses", low=0, high=1)
    per_problem: int = option(1, "hypotheses for each problem, at most", low=1)


@dataclass(frozen=True, slots=True)
class Built:
    """What was written."""

    problems: Path
    """The splits, as `load_saved` and `--source FOLDER` read them."""
    critic: Path
    """Rows of text, hypothesis, feedback and fault_kinds, as `datasets.load_from_disk` reads them."""
    counts: Mapping[str, Counter[str]]
    """Split -> rows by fault kind; a row with several kinds counts under each, one with none under RIGHT."""
    rows: Mapping[str, int]
    without_gold: int
    """Problems that no critic row could be made of."""


def build(
    task: Task[Any],
    splits: Splits,
    folder: str | os.PathLike[str],
    options: BuildOptions,
    *,
    seed: int = 0,
    overwrite: bool = False,
) -> Built:
    """Write `problems` and `critic` below a folder. The rows are a pure function of the splits, options and seed.

    Raises:
        DataError: one of the two folders is in use or cannot be written.
    """
    problems, critic = Path(folder) / "problems", Path(folder) / "critic"
    check_free(critic.resolve(), overwrite)
    pairs = {
        name: balanced_pairs(
            task,
            part,
            random.Random(f"build/{name}/{seed}"),
            no_hint_share=options.no_hint_share,
            per_problem=options.per_problem,
        )
        for name, part in splits.parts.items()
    }
    problems = save_splits(splits, problems, overwrite=overwrite)
    datasets = import_datasets()
    text = datasets.Value("string")
    features = datasets.Features(
        uid=text, text=text, hypothesis=text, feedback=text, fault_kinds=datasets.Sequence(text)
    )
    counts = {name: Counter(kind for pair in part for kind in _kinds(pair) or [RIGHT]) for name, part in pairs.items()}
    record = {"name": splits.name, "task": task.name, "seed": seed, "fault_kinds": counts}
    rows = {name: [_row(pair) for pair in part] for name, part in pairs.items()}
    critic = save_tables(rows, features, record, critic, overwrite=overwrite)
    without = sum(p.gold is None for part in splits.parts.values() for p in part)
    return Built(problems, critic, counts, {name: len(part) for name, part in pairs.items()}, without)


def _kinds(pair: CriticPair) -> list[str]:
    return list(dict.fromkeys(fault.kind for fault in pair.faults))


def _row(pair: CriticPair) -> dict[str, Any]:
    return {
        "uid": pair.problem.uid,
        "text": pair.problem.text,
        "hypothesis": pair.hypothesis,
        "feedback": pair.feedback,
        "fault_kinds": _kinds(pair),
    }
