"""Inference steps: the intermediate representation of synthetic natural-language reasoning.

    #0: tiny is small #1: Dan is person #2: Dan is small #3: Dan is beautiful and cold

Each step says that a subject is one or more things; the last one is the conclusion. Where nothing follows, the whole is
`#0: The argument is invalid!!`. The parser takes any case and spacing, articles, `|` between steps, full stops and an
end mark; `render` writes the form above, which is that of REFINER's files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from refiner_env.types import ParseFailure

MAX_CHARS = 2_000
"""Longer texts are a `too_long` fault: no gold of the official files has more than 200 characters."""
MAX_STEPS = 32
INVALID = "#0: The argument is invalid!!"
"""The steps of a problem from which nothing follows."""

Atom = tuple[str, str]
"""One subject and one thing that it is said to be."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`subject is a and b`. The span says where it stood in the parsed text and does not compare."""

    subject: str
    complements: tuple[str, ...]
    span: tuple[int, int] = field(default=(0, 0), compare=False)

    def __str__(self) -> str:
        return f"{self.subject} is {' and '.join(self.complements)}"

    @property
    def atoms(self) -> tuple[Atom, ...]:
        return tuple([(self.subject, complement) for complement in self.complements])


@dataclass(frozen=True, slots=True)
class Inference:
    """Statements in order; none where nothing follows."""

    steps: tuple[Statement, ...]

    def atoms(self) -> Iterator[tuple[int, Atom]]:
        """(step, atom) for everything that is said, in order."""
        return ((k, atom) for k, step in enumerate(self.steps) for atom in step.atoms)


def render(inference: Inference) -> str:
    """The canonical text."""
    return " ".join(f"#{k}: {step}" for k, step in enumerate(inference.steps)) or INVALID


_LABEL = re.compile(r"#([0-9]{1,4})\s*:")
_BETWEEN = re.compile(r"[\s|.]*$")
_NOTHING = re.compile(r"(?:#0\s*:\s*)?(?:the argument is invalid|nothing(?: follows)?)[\s!.|]*", re.IGNORECASE)
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)
_STATEMENT = re.compile(
    r"\s*(?:(?:the|an?)\s+)?(?P<subject>[^\W\d_]+)\s+is\s+(?:an?\s+(?!and\b))?(?P<complements>[^\W\d_]+(?:\s+and\s+[^\W\d_]+)*)",
    re.IGNORECASE,
)


def parse(text: str) -> Inference | ParseFailure:
    """Read inference steps. Whatever the text contains, the result is an inference or a failure, never an exception."""
    if len(text) > MAX_CHARS:
        return ParseFailure("too_long", f"{len(text)} characters, at most {MAX_CHARS}", (MAX_CHARS, len(text)))
    end = _end(text)
    if _NOTHING.fullmatch(text[:end].strip()):
        return Inference(())
    labels = list(_LABEL.finditer(text, 0, end))
    if not labels or text[: labels[0].start()].strip():
        return ParseFailure("syntax", f"expected #0:, found {text[:12]!r}", (0, min(12, len(text))))
    if len(labels) > MAX_STEPS:
        return ParseFailure("syntax", f"more than {MAX_STEPS} steps", labels[MAX_STEPS].span())
    steps: list[Statement] = []
    stops = [label.start() for label in labels[1:]] + [end]
    for k, (label, stop) in enumerate(zip(labels, stops, strict=True)):
        if int(label[1]) != k:
            return ParseFailure("syntax", f"expected #{k}:, found {label[0]!r}", label.span())
        match = _STATEMENT.match(text, label.end(), stop)
        if not match or not _BETWEEN.match(text, match.end(), stop):
            found = text[label.end() : stop].strip()
            return ParseFailure("syntax", f"expected 'X is Y', found {found[:24]!r}", (label.end(), stop))
        complements = tuple(map(spelled, _AND.split(match["complements"])))
        steps.append(Statement(spelled(match["subject"]), complements, (label.start(), match.end())))
    return Inference(tuple(steps))


def _end(text: str) -> int:
    """Where the steps end: before blanks, marks between steps and an end mark."""
    end = len(text.rstrip(_MARKS))
    for mark in ("EOS", "<END>"):
        start = end - len(mark)
        if text.endswith(mark, 0, end) and not text[max(start - 1, 0) : start].isalnum():
            return len(text[:start].rstrip(_MARKS))
    return end


_MARKS = " \t\r\n|."
NAMES: Sequence[str] = ("Alice", "Bob", "Carol", "Dan", "Erin", "Frank")
_NAMES = {name.lower(): name for name in NAMES}


def spelled(word: str) -> str:
    """A word as steps spell it: lower case, but for names."""
    lower = word.lower()
    return _NAMES.get(lower, lower if lower.isalpha() else word)  # some letters have no lower case of one letter
