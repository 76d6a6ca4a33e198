"""Where splits come from: procedural problems, corpora, a saved folder, or a source of your own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data.corpus import Audit, Splits, carve_dev, check_disjoint, text_key
from data.storage import load_saved
from data.svamp import read_svamp_csv, svamp_folder
from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.options import option, validate
from refiner_env.registry import Registry
from refiner_env.types import Problem, Task

SIZES = {"train": 2_000, "dev": 300, "test": 1_000}
"""Sizes of the procedural splits where none are asked for."""
PATIENCE = 2_000
"""Draws in a row without a new text after which the procedural problems count as used up."""


@dataclass(frozen=True)
class DataOptions:
    """Which problems, how many, and what to do with rows that are not in order."""

    source: str = option("procedural", "procedural, svamp, a folder saved by `refiner data --out`, or module:function")
    n_train: int = option(0, f"training problems; 0: all (procedural: {SIZES['train']})", low=0)
    n_dev: int = option(0, f"development problems; 0: all (procedural: {SIZES['dev']})", low=0)
    n_test: int = option(0, f"test problems; 0: all (procedural: {SIZES['test']}); fewer is a smoke test", low=0)
    dev_share: float = option(0.1, "svamp: fraction of the training problems that becomes dev", low=0, high=0.9)
    seed: int = option(0, "seed of the procedural problems, of the choice of dev and of limited sizes", low=0)
    level: str = option("", "procedural: how hard; every task has its own levels and a default")
    on_malformed: Literal["skip", "raise"] = option(
        "skip", "rows that cannot be read: leave out and count, or stop", choices=("skip", "raise")
    )
    on_disagreement: Literal["keep", "drop"] = option(
        "keep", "rows whose equation does not give their answer", choices=("keep", "drop")
    )


Source = Callable[[Task[Any], DataOptions, Path | None], Splits]
"""(task, options, corpora folder or None for $REFINER_DATA) -> splits of the sizes asked for."""
SOURCES: Registry[Source] = Registry("data source")


def load_splits(task: Task[Any], options: DataOptions, root: Path | None = None) -> Splits:
    """The splits that the options name for a task: a pure function of them and of the files read.

    Args:
        root: the folder that holds `svamp/`; None for $REFINER_DATA.

    Raises:
        OptionError: a value out of range, or more problems than there are.
        UnknownNameError: no such source.
        DataError: files missing or malformed, or a text in two splits.
    """
    validate(options)
    if options.source in SOURCES.names() or ":" in options.source:
        splits = SOURCES.resolve(options.source)(task, options, root)
    elif Path(options.source).is_dir():
        splits = limited(load_saved(options.source), options)
    else:
        advice = "Else: a folder that `refiner data --out` wrote, or your own, as package.module:function."
        raise UnknownNameError(SOURCES.kind, options.source, SOURCES.names(), advice)
    check_disjoint(splits)
    return splits


def limited(splits: Splits, options: DataOptions) -> Splits:
    """Each split cut to the first n of a seeded shuffle, so that smaller sizes are parts of larger ones."""

    def take(split: str, n: int) -> Sequence[Problem]:
        problems = splits.parts[split]
        if n > len(problems):
            raise OptionError(f"--n-{split} is {n}: {splits.name!r} has {len(problems)} {split} problems; 0 takes all.")
        if n == 0:
            return problems
        shuffled = list(problems)
        random.Random(f"limited/{split}/{options.seed}").shuffle(shuffled)
        return tuple(shuffled[:n])

    train, dev, test = take("train", options.n_train), take("dev", options.n_dev), take("test", options.n_test)
    return replace(splits, train=train, dev=dev, test=test)


def _svamp(task: Task[Any], options: DataOptions, root: Path | None) -> Splits:
    folder = svamp_folder(root)
    train_file, test_file = (
        read_svamp_csv(folder / name, on_malformed=options.on_malformed, on_disagreement=options.on_disagreement)
        for name in ("train.csv", "dev.csv")
    )
    train, dev = carve_dev(train_file.problems, options.dev_share, options.seed)
    splits = Splits("svamp", train, dev, test_file.problems, train_file.report + test_file.report)
    return limited(splits, options)


def _procedural(task: Task[Any], options: DataOptions, root: Path | None) -> Splits:
    """Distinct texts in exact sizes. Test comes first and train last, so that test and dev do not
    change with the number of training problems: it is train that loses what stands in the others."""
    level = options.level or task.default_level
    if level not in task.levels:
        raise UnknownNameError(f"level of {task.name}", level, task.levels)
    taken: set[str] = set()
    audit = Audit()
    parts: dict[str, tuple[Problem, ...]] = {}
    for split in ("test", "dev", "train"):
        size = getattr(options, f"n_{split}") or SIZES[split]
        parts[split], report = _distinct(task, level, split, size, options.seed, taken)
        audit += report
    return Splits("procedural", parts["train"], parts["dev"], parts["test"], audit)


def _distinct(
    task: Task[Any], level: str, split: str, size: int, seed: int, taken: set[str]
) -> tuple[tuple[Problem, ...], Audit]:
    """The first `size` problems of a split's stream whose text is not in `taken`, which grows."""
    # A hash, as neighbouring seeds would make the test split of one seed the training split of another.
    stream = int.from_bytes(hashlib.sha256(f"stories/{split}/{seed}".encode()).digest()[:6])
    problems: list[Problem] = []
    index = last = 0
    while len(problems) < size:
        if index - last > PATIENCE:
            raise OptionError(f"--n-{split} is {size}: seed {seed} has only {len(problems)} more texts that differ.")
        problem = task.generate(stream, index, level)
        index += 1
        if (key := text_key(problem)) not in taken:
            taken.add(key)
            problems.append(problem)
            last = index
    return tuple(problems), Audit(rows=index, kept=size, skipped=index - size)


SOURCES.register("procedural", _procedural)
SOURCES.register("svamp", _svamp)
