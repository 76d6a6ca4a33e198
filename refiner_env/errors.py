"""Errors that a person can act on: what was wrong, the value, the nearest valid one, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RefinerError(Exception):
    """Base of every error that refiner-env raises on purpose. The command line prints its one line."""


class OptionError(RefinerError, ValueError):
    """An option or argument has a value outside its range."""


class UnknownNameError(RefinerError, LookupError):
    """A name is not registered. The message offers the closest one and lists the rest."""

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        self.kind, self.name, self.known, self.advice = kind, name, sorted(known), advice
        close = difflib.get_close_matches(str(name).lower(), [k.lower() for k in self.known], n=1, cutoff=0.5)
        nearest = next((k for k in self.known if close and k.lower() == close[0]), None)
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        known_names = ", ".join(self.known) or "none"
        super().__init__(f"Unknown {kind} {name!r}.{hint} Known: {known_names}.{' ' + advice if advice else ''}")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str], str]]:
        return type(self), (self.kind, self.name, self.known, self.advice)


class DuplicateNameError(RefinerError, ValueError):
    """A name is already registered for something else."""


class DataError(RefinerError, ValueError):
    """A corpus is missing, unreadable or malformed; the message gives path, line and value."""


class CheckpointError(RefinerError, ValueError):
    """A model folder or checkpoint cannot be loaded; the message says what is missing."""


class CriticError(RefinerError, RuntimeError):
    """A critic raised, hung, or gave something else than one feedback per hypothesis."""
