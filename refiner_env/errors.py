"""Errors that a person can act on: what was wrong, the value, the nearest valid one, how to mend it."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class RefinerError(Exception):
    """Base of every error that refiner-env raises on purpose. The command line prints its one line."""


class OptionError(RefinerError, ValueError):
    """An option or argument has a value outside its range."""


class UnknownNameError(RefinerError, LookupError):
    """A name is not registered. The message offers the closest one and lists the rest."""

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        self.kind, self.name, self.known, self.advice = kind, name, sorted(known), advice
        known_names = ", ".join(self.known) or "none"
        hint = did_you_mean(str(name), self.known)
        super().__init__(f"Unknown {kind} {name!r}.{hint} Known: {known_names}.{' ' + advice if advice else ''}")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str], str]]:
        return type(self), (self.kind, self.name, self.known, self.advice)


class DuplicateNameError(RefinerError, ValueError):
    """A name is already registered for something else."""


class DataError(RefinerError, ValueError):
    """A corpus is missing, unreadable or malformed; the message gives path, line and value."""


class CheckpointError(RefinerError, ValueError):
    """A model folder or checkpoint cannot be loaded; the message says what is missing."""


class TrainingError(RefinerError, RuntimeError):
    """Training cannot go on: no memory, or no finite gradient; the message says where it stopped and what is kept."""


class CriticError(RefinerError, RuntimeError):
    """A critic raised, hung, or gave something else than one feedback per hypothesis."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the work in order; the message says what is kept.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'oracle'?", with the known name that is nearest; "" where none is near."""
    lower = {k.lower(): k for k in sorted(known, reverse=True)}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    return f" Did you mean {lower[close[0]]!r}?" if close else ""


def reason(error: Exception) -> str:
    """What went wrong in somebody's own code, in one line: kind, message, and the line of theirs that raised it."""
    if isinstance(error, RefinerError):
        return " ".join(str(error).split())
    here = str(Path(__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((here, "<frozen"))]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}{place}".split())
