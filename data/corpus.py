"""Corpora and splits: what was read, what was done to it, and that no text stands in two splits."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from refiner_env.errors import DataError, OptionError
from refiner_env.types import ParseFailure, Problem, Task

SHOWN = 3
"""Texts that the error about an overlap shows."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of the rows of a source; `rows == kept + skipped`. Audits of several files add up."""

    rows: int = 0
    """Rows read, or problems drawn from a generator."""
    kept: int = 0
    """Rows that became problems."""
    skipped: int = 0
    """Rows that did not: malformed, dropped for their answer, or a text that was there already."""
    disagreements: int = 0
    """Rows whose gold does not give the stated answer, kept or not."""
    repairs: Mapping[str, int] = field(default_factory=dict)
    """Problems changed while reading, by kind of repair; the same kinds stand in `metadata["repairs"]`."""
    messages: tuple[str, ...] = ()
    """One line for each malformed row and each disagreement, with file, line and value."""
    overlaps: int = 0
    """Problems that were left out as their text stands in a split that is evaluated on."""

    def __add__(self, other: Audit) -> Audit:
        return Audit(
            self.rows + other.rows,
            self.kept + other.kept,
            self.skipped + other.skipped,
            self.disagreements + other.disagreements,
            dict(Counter(self.repairs) + Counter(other.repairs)),
            self.messages + other.messages,
            self.overlaps + other.overlaps,
        )


@dataclass(frozen=True, slots=True)
class Corpus:
    """The problems of one file, in its order."""

    problems: tuple[Problem, ...]
    report: Audit
    format: str
    """The name of its format, e.g. `refiner-mwp`."""
    task: str
    """The name of its problems' task; "" where nothing says."""
    places: tuple[str, ...]
    """Where each problem stands, e.g. `row 2 (line 31)`."""
    wrong_labels: tuple[str, ...] = ()
    """Places of the rows whose label, as it stands in the file, does not give the stated answer."""
    dialects: Mapping[str, int] = field(default_factory=dict)
    """Rows by spelling of the label, where the format has several."""


@dataclass(frozen=True, slots=True)
class Splits:
    """Problems to train on, to choose with and to report on. No text stands in two of them."""

    name: str
    """The source, e.g. `svamp`."""
    train: Sequence[Problem]
    dev: Sequence[Problem]
    test: Sequence[Problem]
    audit: Audit
    """Of everything that was read, before sizes were limited."""
    task: str = ""
    """The name of the problems' task; "" where nobody says."""

    @property
    def parts(self) -> dict[str, Sequence[Problem]]:
        """The three splits by name, in the order train, dev, test."""
        return {"train": self.train, "dev": self.dev, "test": self.test}


def require_problems(task: Task[Any], splits: Splits, needed: Sequence[str] = ("train", "dev", "test")) -> None:
    """Refuse splits that cannot be trained on and compared with.

    Raises:
        OptionError: a needed split is empty; DataError: a problem in one has no gold that its task can read.
    """
    for name in needed:
        if not splits.parts[name]:
            advice = "dev is set by dev-share" if name == "dev" else f"of files, {name}-file brings it"
            raise OptionError(f"The {name} split of {splits.name!r} is empty; {advice}.")
        for problem in splits.parts[name]:
            if problem.gold is None or isinstance(task.parse(problem.gold), ParseFailure):
                raise DataError(f"Problem {problem.uid!r} of {splits.name!r} has no readable gold: {problem.gold!r}.")


def text_key(problem: Problem) -> str:
    """The text without case, white space and punctuation: equal for texts that differ in nothing else.

    White space goes entirely, as corpora disagree on tokens (`Bryan 's` and `Bryan's`).
    """
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", problem.text).casefold())


def carve_dev(problems: Sequence[Problem], share: float, seed: int) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Part training problems into (train, dev), both in the given order.

    Problems with one text key stay together, whatever their numbers. Dev gets at most `share` (a
    fraction of the problems), and as many as whole groups allow. A pure function of its arguments.
    """
    groups = Counter(map(text_key, problems))
    keys = list(groups)
    random.Random(f"carve_dev/{seed}").shuffle(keys)
    room, dev_keys = round(share * len(problems)), set()
    for key in keys:
        if groups[key] <= room:
            room -= groups[key]
            dev_keys.add(key)
    train = tuple(p for p in problems if text_key(p) not in dev_keys)
    dev = tuple(p for p in problems if text_key(p) in dev_keys)
    return train, dev


def check_disjoint(splits: Splits) -> None:
    """Make sure that no text key stands in two splits.

    Raises:
        DataError: counting the texts that do, and showing the first three with their places.
    """
    shared: dict[str, tuple[str, Problem, str, Problem]] = {}
    for first, second in itertools.combinations(splits.parts, 2):
        for one, other in overlaps(splits.parts[first], splits.parts[second]):
            shared.setdefault(text_key(other), (first, one, second, other))
    if shared:
        shown = "; ".join(
            f"{first} ({one.uid}) and {second} ({other.uid}) share {other.text!r}"
            for first, one, second, other in itertools.islice(shared.values(), SHOWN)
        )
        more = f"; and {len(shared) - SHOWN:,} more" if len(shared) > SHOWN else ""
        texts = "1 text stands" if len(shared) == 1 else f"{len(shared):,} texts stand"
        raise DataError(
            f"{texts} in two splits of {splits.name!r}: {shown}{more}. To leave such training problems out: "
            "on-overlap drop, where the source reads files."
        )


def overlaps(first: Sequence[Problem], second: Sequence[Problem]) -> list[tuple[Problem, Problem]]:
    """Pairs of one text: each problem of `second` that stands in `first`, with the first such problem."""
    home: dict[str, Problem] = {}
    for problem in first:
        home.setdefault(text_key(problem), problem)
    return [(home[key], problem) for problem in second if (key := text_key(problem)) in home]


def drop_overlaps(splits: Splits) -> Splits:
    """Without the training problems whose text stands in dev or test, and the dev problems whose text stands in test.

    They count as skipped, and as `overlaps` of the audit.
    """
    test = set(map(text_key, splits.test))
    dev = tuple(p for p in splits.dev if text_key(p) not in test)
    elsewhere = test | set(map(text_key, dev))
    train = tuple(p for p in splits.train if text_key(p) not in elsewhere)
    n = len(splits.train) + len(splits.dev) - len(train) - len(dev)
    audit = splits.audit
    audit = replace(audit, kept=audit.kept - n, skipped=audit.skipped + n, overlaps=audit.overlaps + n)
    return replace(splits, train=train, dev=dev, audit=audit)


def content_hash(splits: Splits) -> str:
    """16 hexadecimal digits that change with anything but the uids of any split, and with the problems' order."""
    digest = hashlib.sha256()
    for split, problems in splits.parts.items():
        for problem in problems:
            more = [dict(problem.metadata), dict(problem.gold_metadata)]
            digest.update(
                json.dumps([split, problem.text, problem.gold, problem.answer, more], sort_keys=True).encode() + b"\n"
            )
    return digest.hexdigest()[:16]
