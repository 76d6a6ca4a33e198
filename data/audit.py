"""What files hold and what is wrong with them: rows, labels, spellings, repairs, and the texts that they share."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.corpus import Corpus, overlaps, text_key
from data.formats import read_corpus

EXAMPLES = 3
"""Places that are named for each kind of finding."""
SAME_SET = 0.5
"""Share of the smaller file's texts from which two files count as one set of problems."""
ODD_DIALECTS = frozenset({"substract", "<END>", "no end mark"})
"""Spellings of labels other than those that the tasks write."""


@dataclass(frozen=True, slots=True)
class FileAudit:
    """One file."""

    path: str
    format: str
    task: str
    rows: int
    kept: int
    """Rows that are problems."""
    duplicates: int
    """Problems whose text stands earlier in the file, whatever their numbers."""
    wrong_labels: int
    """Rows whose label, as it stands there, does not give the stated answer."""
    disagreements: int
    """Problems whose gold, as it was read, does not give the stated answer."""
    unreadable: int
    """Rows that are no problems."""
    dialects: Mapping[str, int]
    repairs: Mapping[str, int]
    examples: Mapping[str, tuple[str, ...]]
    """Kind of finding -> the first places where it is found."""
    messages: tuple[str, ...]
    """One line for each unreadable row and each disagreement."""

    @property
    def clean(self) -> bool:
        """Nothing was found."""
        found = self.duplicates + self.wrong_labels + self.disagreements + self.unreadable + sum(self.repairs.values())
        return not found and not ODD_DIALECTS & set(self.dialects)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two files that share texts."""

    first: str
    second: str
    texts: int
    """Texts that stand in both, without regard to case, spacing and punctuation."""
    share: float
    """The same as a fraction of the texts of the file that has fewer."""
    examples: tuple[str, ...]

    @property
    def warning(self) -> str:
        """What follows from it, in one sentence."""
        one, other = short_path(self.first), short_path(self.second)
        if self.share >= SAME_SET:
            return (
                f"{one} and {other} are the same set of problems: {self.texts:,} texts stand in both, {self.share:.0%} "
                f"of the smaller. Whatever is chosen on one must not be reported on the other."
            )
        return f"{one} and {other} share {self.texts:,} text{'s' if self.texts > 1 else ''}."


@dataclass(frozen=True, slots=True)
class FilesAudit:
    """Several files together."""

    files: tuple[FileAudit, ...]
    overlaps: tuple[Overlap, ...]
    """Of every two files that share a text."""

    @property
    def clean(self) -> bool:
        """Nothing was found in any file, and no text stands in two."""
        return not self.overlaps and all(file.clean for file in self.files)


def audit_files(paths: Sequence[str | os.PathLike[str]]) -> FilesAudit:
    """Read every file and compare them.

    Raises:
        DataError: a file is missing, unreadable, or of no known format.
    """
    corpora = {str(path): read_corpus(path) for path in paths}
    files = tuple(_audited(path, corpus) for path, corpus in corpora.items())
    pairs = (_overlap(one, other, corpora) for one, other in itertools.combinations(corpora, 2))
    return FilesAudit(files, tuple(pair for pair in pairs if pair))


def short_path(path: str) -> str:
    """The file with its folder alone."""
    return "/".join(Path(path).parts[-2:])


def _audited(path: str, corpus: Corpus) -> FileAudit:
    report = corpus.report
    examples: dict[str, list[str]] = {"duplicates": [], "wrong_labels": list(corpus.wrong_labels[:EXAMPLES])}
    first: dict[str, str] = {}
    duplicates = 0
    for problem, place in zip(corpus.problems, corpus.places, strict=True):
        earlier = first.setdefault(text_key(problem), place)
        if earlier != place:
            duplicates += 1
            _note(examples, "duplicates", f"{place} as {earlier}")
        for kind in problem.metadata.get("repairs", ()):
            _note(examples, kind, place)
    return FileAudit(
        path,
        corpus.format,
        corpus.task,
        rows=report.rows,
        kept=report.kept,
        duplicates=duplicates,
        wrong_labels=len(corpus.wrong_labels),
        disagreements=report.disagreements,
        unreadable=report.skipped,
        dialects=corpus.dialects,
        repairs=report.repairs,
        examples={kind: tuple(places) for kind, places in examples.items() if places},
        messages=report.messages,
    )


def _note(examples: dict[str, list[str]], kind: str, place: str) -> None:
    places = examples.setdefault(kind, [])
    if len(places) < EXAMPLES:
        places.append(place)


def _overlap(one: str, other: str, corpora: Mapping[str, Corpus]) -> Overlap | None:
    first, second = corpora[one], corpora[other]
    shared = {text_key(b): (a, b) for a, b in overlaps(first.problems, second.problems)}
    if not shared:
        return None
    smaller = min(len({text_key(p) for p in corpus.problems}) for corpus in (first, second))
    places = [dict(zip((p.uid for p in c.problems), c.places, strict=True)) for c in (first, second)]
    examples = tuple(
        f"{places[0][a.uid]} and {places[1][b.uid]}: {b.text}" for a, b in itertools.islice(shared.values(), EXAMPLES)
    )
    return Overlap(one, other, len(shared), len(shared) / smaller, examples)
