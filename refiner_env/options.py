"""Options of commands: dataclass fields that carry their help, range and choices.

A command's options are one frozen dataclass. `add_options` turns its fields into command-line flags,
`read_options` reads them back and `validate` checks the ranges, so that a value out of range is
reported with its name, value and range before anything else happens.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from refiner_env.errors import OptionError, UnknownNameError

T = TypeVar("T")


def option(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """A dataclass field with its help text and, where given, its inclusive range or its choices."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


def section(cls: type[Any], help: str) -> Any:
    """A dataclass field that holds a nested group of options."""
    return dataclasses.field(default_factory=cls, metadata={"help": help, "section": cls})


def flag(name: str) -> str:
    """The command-line spelling of a field name."""
    return "--" + name.replace("_", "-")


def add_options(parser: argparse.ArgumentParser, defaults: Any, prefix: str = "", *, title: str = "settings") -> None:
    """Add one flag per field of the options object `defaults`; nested groups get the prefix `group.`.

    Args:
        title: what the help calls the flags without prefix.
    """
    group = parser.add_argument_group(prefix.rstrip(".") or title)
    for f in dataclasses.fields(defaults):
        value = getattr(defaults, f.name)
        if "section" in f.metadata:
            add_options(parser, value, f"{prefix}{f.name}.")
            continue
        low, high = f.metadata["low"], f.metadata["high"]
        limits = f"; {_range_text(low, high)}" if low is not None or high is not None else ""
        limits = "; one of " + ", ".join(f.metadata["choices"]) if f.metadata["choices"] else limits
        text = f"{f.metadata['help']} (default: {_show(value)}{limits})".replace("%", "%%")
        dest = prefix + f.name
        if isinstance(value, bool):
            group.add_argument(flag(dest), dest=dest, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif isinstance(value, tuple):
            kind = type(value[0])
            group.add_argument(flag(dest), dest=dest, type=kind, nargs="+", metavar=f.name.upper(), help=text)
        else:
            group.add_argument(flag(dest), dest=dest, type=type(value), metavar=f.name.upper(), help=text)


def read_options(defaults: T, values: Mapping[str, Any], prefix: str = "") -> T:
    """`defaults` with every value that was given on the command line (not None) put in, then validated."""
    changes: dict[str, Any] = {}
    for f in dataclasses.fields(defaults):  # type: ignore[arg-type]
        current = getattr(defaults, f.name)
        if "section" in f.metadata:
            changes[f.name] = read_options(current, values, f"{prefix}{f.name}.")
        elif values.get(prefix + f.name) is not None:
            given = values[prefix + f.name]
            changes[f.name] = tuple(given) if isinstance(current, tuple) else given
    result = dataclasses.replace(defaults, **changes)  # type: ignore[type-var]
    validate(result, prefix)
    return result


def validate(options: Any, prefix: str = "") -> None:
    """Check every field against its range and choices.

    Raises:
        OptionError: a value is out of range; UnknownNameError: not one of the choices.
    """
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        name = flag(prefix + f.name)
        if "section" in f.metadata:
            validate(value, f"{prefix}{f.name}.")
            continue
        choices, low, high = f.metadata["choices"], f.metadata["low"], f.metadata["high"]
        for item in value if isinstance(value, tuple) else (value,):
            if choices and item not in choices:
                raise UnknownNameError(f"value of {name}", item, choices)
            if (low is not None and not item >= low) or (high is not None and not item <= high):
                raise OptionError(f"{name} is {item}: it must be {_range_text(low, high)}.")


def to_dict(options: Any) -> dict[str, Any]:
    """Nested plain dictionary of an options object, for JSON."""
    return dataclasses.asdict(options)


def _range_text(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"between {low} and {high}"


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value) if value != "" else "not given"
