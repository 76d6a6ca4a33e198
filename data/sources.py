"""Where splits come from: procedural problems, corpora, a saved folder, or a source of your own."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data.corpus import Audit, Corpus, Splits, carve_dev, check_disjoint, drop_overlaps, text_key
from data.formats import FORMATS, read_corpus
from data.mwp_formats import looked_up
from data.storage import load_saved
from data.tables import HUB
from refiner_env.errors import DataError, OptionError, UnknownNameError
from refiner_env.options import option, validate
from refiner_env.registry import Registry
from refiner_env.tasks import TASKS
from refiner_env.types import Problem, Task

SIZES = {"train": 2_000, "dev": 300, "test": 1_000}
"""Sizes of the procedural splits where none are asked for."""
PATIENCE = 2_000
"""Draws in a row without a new text after which the procedural problems count as used up."""
MORAL_TEST_SHARE = 0.2
"""Part of the development file of Moral Stories that becomes test, where that file is all there is."""


@dataclass(frozen=True)
class DataOptions:
    """Which problems, how many, and what to do with rows that are not in order."""

    source: str = option(
        "procedural",
        "procedural, svamp, refiner-mwp, snlr, moral, files (where a file is named, that is the default), a folder "
        "saved by `refiner data --out`, or module:function",
    )
    train_file: str = option(
        "", "files: training problems in any known format, or hf:ID[[:CONFIG]:SPLIT]", implies=("source", "files")
    )
    dev_file: str = option(
        "", "files: development problems, if not a part of the training problems", implies=("source", "files")
    )
    test_file: str = option("", "files: test problems", implies=("source", "files"))
    n_train: int = option(0, f"training problems; 0: all (procedural: {SIZES['train']})", low=0)
    n_dev: int = option(0, f"development problems; 0: all (procedural: {SIZES['dev']})", low=0)
    n_test: int = option(0, f"test problems; 0: all (procedural: {SIZES['test']}); fewer is a smoke test", low=0)
    dev_share: float = option(
        0.1, "fraction of the training problems that becomes dev, where a source has no dev file", low=0, high=0.9
    )
    seed: int = option(0, "seed of the procedural problems, of the choice of dev and of limited sizes", low=0)
    level: str = option("", "procedural: how hard; every task has its own levels and a default")
    on_malformed: Literal["skip", "raise"] = option(
        "skip", "rows that cannot be read: leave out and count, or stop", choices=("skip", "raise")
    )
    on_disagreement: Literal["keep", "drop"] = option(
        "keep", "rows whose gold does not give their answer", choices=("keep", "drop")
    )
    on_overlap: Literal["raise", "drop"] = option(
        "raise", "training texts that stand in dev or test: stop, or leave out and count", choices=("raise", "drop")
    )


Source = Callable[[Task[Any], DataOptions, Path | None], Splits]
"""(task, options, corpora folder or None for $REFINER_DATA) -> splits of the sizes asked for."""
SOURCES: Registry[Source] = Registry("data source")


def load_splits(task: Task[Any], options: DataOptions, root: Path | None = None) -> Splits:
    """The splits that the options name for a task: a pure function of them and of the files read.

    Args:
        root: the folder that holds `svamp/` and `refiner/`; None for $REFINER_DATA.

    Raises:
        OptionError: a value out of range, more problems than there are, or a source of another task.
        UnknownNameError: no such source.
        DataError: files missing or malformed, or a text in two splits.
    """
    validate(options)
    if options.source.startswith(HUB):
        raise OptionError(
            f"source is {options.source!r}: give source files, with the dataset as train-file, test-file."
        )
    if options.level and options.source != "procedural":
        raise OptionError(f"level {options.level!r} is of procedural problems; the source is {options.source!r}.")
    if options.source != "files":
        for name in ("train_file", "dev_file", "test_file"):
            if getattr(options, name):
                raise OptionError(f"{name.replace('_', '-')} needs source files; the source is {options.source!r}.")
    if options.source in SOURCES.names() or ":" in options.source:
        source = SOURCES.resolve(options.source)
        splits = source(task, options, root) if callable(source) else None
        if not isinstance(splits, Splits):
            raise OptionError(f"source {options.source!r} is no function that returns Splits of (task, options, root).")
    elif Path(options.source).is_dir():
        splits = limited(load_saved(options.source), options)
    else:
        advice = "Else: a folder that `refiner data --out` wrote, or your own, as package.module:function."
        raise UnknownNameError(SOURCES.kind, options.source, SOURCES.names(), advice)
    if splits.task in TASKS.names() and not isinstance(task, TASKS.resolve(splits.task)):
        raise OptionError(
            f"Source {options.source!r} holds {splits.task} problems: give --task {TASKS.short(splits.task)}."
        )
    check_disjoint(splits)
    return splits


def limited(splits: Splits, options: DataOptions) -> Splits:
    """Each split cut to the first n of a seeded shuffle, so that smaller sizes are parts of larger ones."""

    def take(split: str, n: int) -> Sequence[Problem]:
        problems = splits.parts[split]
        if n > len(problems):
            raise OptionError(f"n-{split} is {n}: {splits.name!r} has {len(problems)} {split} problems; 0 takes all.")
        if n == 0:
            return problems
        shuffled = list(problems)
        random.Random(f"limited/{split}/{options.seed}").shuffle(shuffled)
        return tuple(shuffled[:n])

    train, dev, test = take("train", options.n_train), take("dev", options.n_dev), take("test", options.n_test)
    return replace(splits, train=train, dev=dev, test=test)


# ---------------------------------------------------------------------------------------------------- corpora


def _corpora(root: Path | None, folder: str, file: str, format: str) -> Path:
    """A folder below the corpora folder, which is `root` or else $REFINER_DATA."""
    base = root or os.environ.get("REFINER_DATA")
    if not base:
        raise DataError(
            f"Looked for $REFINER_DATA/{folder}/{file}, but the environment variable REFINER_DATA is not set. "
            f"{FORMATS.resolve(format).where}"
        )
    return Path(base) / folder


def _read(path: Path | str, format: str | None, options: DataOptions) -> Corpus:
    return read_corpus(path, format, on_malformed=options.on_malformed, on_disagreement=options.on_disagreement)


def _assembled(name: str, train: Corpus, dev: Corpus | None, test: Corpus, options: DataOptions) -> Splits:
    """Splits of files: overlaps seen to, dev carved from train where there is no file of it, sizes limited."""
    audit = train.report + (dev.report if dev else Audit()) + test.report
    splits = Splits(name, train.problems, dev.problems if dev else (), test.problems, audit, train.task or test.task)
    if options.on_overlap == "drop":
        splits = drop_overlaps(splits)
    check_disjoint(splits)
    if dev is None:
        kept, carved = carve_dev(splits.train, options.dev_share, options.seed)
        splits = replace(splits, train=kept, dev=carved)
    return limited(splits, options)


def _svamp(task: Task[Any], options: DataOptions, root: Path | None) -> Splits:
    folder = _corpora(root, "svamp", "train.csv", "svamp-csv")
    train, test = (_read(folder / name, "svamp-csv", options) for name in ("train.csv", "dev.csv"))
    return _assembled("svamp", train, None, test, options)


def _refiner_mwp(task: Task[Any], options: DataOptions, root: Path | None) -> Splits:
    """The official training and test files. The official validation file is the test set: it is not read.

    Numbers that the test file does not have come from svamp/SVAMP.json, where that is there too.
    """
    folder = _corpora(root, "refiner/mwp", "critique_train.json", "refiner-mwp")
    train = _read(folder / "critique_train.json", "refiner-mwp", options)
    test = _read(folder / "critique_test.json", "refiner-mwp-test", options)
    original = folder.parent.parent / "svamp" / "SVAMP.json"
    if original.exists():
        test = looked_up(test, read_corpus(original, "svamp-json"))
    return _assembled("refiner-mwp", train, None, test, options)


def _snlr(task: Task[Any], options: DataOptions, root: Path | None) -> Splits:
    """The official splits, with dev carved from train where srn_val.json is absent."""
    folder = _corpora(root, "refiner/srn", "srn_train.json", "refiner-srn")
    train, test = (_read(folder / f"srn_{part}.json", "refiner-srn", options) for part in ("train", "test"))
    val = folder / "srn_val.json"
    return _assembled("snlr", train, _read(val, "refiner-srn", options) if val.exists() else None, test, options)


def _moral(task: Task[Any], options: DataOptions, root: Path | None) -> Splits:
    """The official splits where critic_train_prep.json is there; else a split of critic_dev_prep.json by text."""
    folder = _corpora(root, "refiner/moral_stories", "critic_dev_prep.json", "moral-critic")
    dev = _read(folder / "critic_dev_prep.json", "moral-critic", options)
    if (folder / "critic_train_prep.json").exists():
        train, test = (
            _read(folder / f"critic_{part}_prep.json", "moral-critic", options) for part in ("train", "test")
        )
        return _assembled("moral", train, dev, test, options)
    # Not the seed of the options: the test problems stay the same whatever is tried.
    rest, held_out = carve_dev(dev.problems, MORAL_TEST_SHARE, seed=0)
    train, test = replace(dev, problems=rest), replace(dev, problems=held_out, report=Audit())
    return _assembled("moral", train, None, test, options)


def _files(task: Task[Any], options: DataOptions, root: Path | None) -> Splits:
    """One to three files: training needs no test problems, and an evaluation nothing else."""
    paths = (options.train_file, options.dev_file, options.test_file)
    if not any(paths):
        raise OptionError("train-file and test-file are not given: source files needs one of them or both.")
    train, dev, test = (_read(path, None, options) if path else None for path in paths)
    tasks = {corpus.task for corpus in (train, dev, test) if corpus and corpus.task}
    if len(tasks) > 1:
        raise OptionError(f"The files hold problems of several tasks: {', '.join(sorted(tasks))}.")
    nothing = Corpus((), Audit(), "", "", ())
    return _assembled("files", train or nothing, dev, test or nothing, options)


# ----------------------------------------------------------------------------------------- procedural problems


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
    return Splits("synthetic problems", parts["train"], parts["dev"], parts["test"], audit, task.name)


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
            raise OptionError(f"n-{split} is {size}: seed {seed} has only {len(problems)} more texts that differ.")
        problem = task.generate(stream, index, level)
        index += 1
        if (key := text_key(problem)) not in taken:
            taken.add(key)
            problems.append(problem)
            last = index
    return tuple(problems), Audit(rows=index, kept=size, skipped=index - size)


SOURCES.register("procedural", _procedural)
SOURCES.register("svamp", _svamp)
SOURCES.register("refiner-mwp", _refiner_mwp)
SOURCES.register("snlr", _snlr)
SOURCES.register("moral", _moral)
SOURCES.register("files", _files)
