"""Options of commands: dataclass fields that carry their help, range and choices.

A command's options are one frozen dataclass. `add_options` turns its fields into flags of a `Parser`,
`read_options` reads them back and `validate` checks the ranges, so that a value out of range is
reported with its name, value and range before anything else happens.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from refiner_env.errors import OptionError, UnknownNameError, did_you_mean

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    implies: tuple[str, Any] | None = None,
) -> Any:
    """A dataclass field with its help text.

    Args:
        low, high: the inclusive range, where there is one.
        choices: the values that it may have, where not all.
        implies: (another field, its value where this one is given on the command line and that one is not).
    """
    metadata = {"help": help, "low": low, "high": high, "choices": choices, "implies": implies}
    return dataclasses.field(default=default, metadata=metadata)


def section(cls: type[Any], help: str) -> Any:
    """A dataclass field that holds a nested group of options."""
    return dataclasses.field(default_factory=cls, metadata={"help": help, "section": cls})


def flag(name: str) -> str:
    """The command-line spelling of a field name."""
    return "--" + name.replace("_", "-")


class Parser(argparse.ArgumentParser):
    """The parser of a command: whatever is wrong on its line is one line, an OptionError.

    Underscores in options are read as dashes, and `--switch True` or `False` as `--switch` or `--no-switch`. Beside
    argparse's actions there are "idle", an option that is accepted and said to have no effect, and "refused"; for both
    `help` says why.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **kwargs})
        for name, action in ((None, _Store), ("store", _Store), ("idle", _Idle), ("refused", _Refused)):
            self.register("action", name, action)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The values of all options, by destination.

        Raises:
            OptionError: an option is unknown (the message offers the closest), or has no fitting value.
        """
        values, rest = self.parse_known_args(self._spelled(sys.argv[1:] if args is None else args), namespace)
        if rest:
            self.error(f"unexpected argument {rest[0]!r}.")
        return values

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with its usage."""
        end = "" if message[-1] in ".?" else "."
        raise OptionError(f"{message[0].upper()}{message[1:]}{end} `{self.prog} --help` lists the options.")

    def _spelled(self, words: Sequence[str]) -> list[str]:
        """The words with every option spelled as it was added."""
        spelled: list[str] = []
        known = self._option_string_actions
        for i, word in enumerate(words):
            if word == "--":
                return [*spelled, *words[i:]]
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                name = name.replace("_", "-")
                if name not in known:
                    self.error(f"unknown option {name!r}.{did_you_mean(name, known)}")
                word = name + equals + value
            elif word in ("True", "False") and isinstance(
                known.get("".join(spelled[-1:])), argparse.BooleanOptionalAction
            ):
                switch = spelled.pop()
                word = switch if word == "True" else switch.replace("--", "--no-", 1)
            spelled.append(word)
        return spelled


class _Store(argparse.Action):
    """Keeps the last value given; under two names of one option it has to be the same."""

    said: tuple[str | None, Any] | None = None

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        name, value = self.said or (option_string, values)
        if name != option_string and value != values:
            parser.error(f"{name} is {value} and {option_string} is {values}: they are one option, so give it once.")
        self.said = option_string, values
        setattr(namespace, self.dest, values)


class _Idle(argparse.Action):
    """Takes a value, if one follows, and says that it has no effect."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs="?", default=argparse.SUPPRESS, help=f"has no effect: {help}")

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        print(f"refiner: {option_string} {self.help}.", file=sys.stderr)


class _Refused(_Idle):
    """Ends the command with the reason."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, help)
        self.why, self.help = help, argparse.SUPPRESS

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        parser.error(f"{option_string} {self.why}.")


def add_options(
    parser: argparse.ArgumentParser,
    defaults: Any,
    prefix: str = "",
    names: Mapping[str, Sequence[str]] | None = None,
    title: str = "settings",
) -> None:
    """Add one flag per field of the options object `defaults`; nested groups get the prefix `group.`.

    Args:
        names: further flags of a field, by its place: `{"train.batch_size": ["--batch-size"]}`.
        title: what the help calls the flags without prefix.
    """
    group = parser.add_argument_group(prefix.rstrip(".") or title)
    for f in dataclasses.fields(defaults):
        value = getattr(defaults, f.name)
        if "section" in f.metadata:
            add_options(parser, value, f"{prefix}{f.name}.", names)
            continue
        low, high = f.metadata["low"], f.metadata["high"]
        limits = f"; {_range_text(low, high)}" if low is not None or high is not None else ""
        limits = "; one of " + ", ".join(f.metadata["choices"]) if f.metadata["choices"] else limits
        text = f"{f.metadata['help']} (default: {_show(value)}{limits})".replace("%", "%%")
        dest = prefix + f.name
        flags = (flag(dest), *(names or {}).get(dest, ()))
        if isinstance(value, bool):
            group.add_argument(*flags, dest=dest, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif isinstance(value, tuple):
            kind = type(value[0])
            group.add_argument(*flags, dest=dest, type=kind, nargs="+", metavar=f.name.upper(), help=text)
        else:
            group.add_argument(*flags, dest=dest, type=type(value), metavar=f.name.upper(), help=text)


def read_options(defaults: T, values: Mapping[str, Any], prefix: str = "") -> T:
    """`defaults` with every value that was given on the command line (not None) put in, then validated."""
    changes: dict[str, Any] = {}
    implied: dict[str, Any] = {}
    for f in dataclasses.fields(defaults):  # type: ignore[arg-type]
        current = getattr(defaults, f.name)
        if "section" in f.metadata:
            changes[f.name] = read_options(current, values, f"{prefix}{f.name}.")
        elif values.get(prefix + f.name) is not None:
            given = values[prefix + f.name]
            changes[f.name] = tuple(given) if isinstance(current, tuple) else given
            if f.metadata["implies"]:
                other, its_value = f.metadata["implies"]
                implied[other] = its_value
    result = dataclasses.replace(defaults, **(implied | changes))  # type: ignore[type-var]
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


def from_dict(defaults: T, values: Mapping[str, Any]) -> T:
    """`defaults` with the values that `to_dict` gave, read back from JSON."""
    changes: dict[str, Any] = {}
    for f in dataclasses.fields(defaults):  # type: ignore[arg-type]
        if f.name in values:
            value = values[f.name]
            if "section" in f.metadata:
                changes[f.name] = from_dict(getattr(defaults, f.name), value)
            else:
                changes[f.name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(defaults, **changes)  # type: ignore[type-var]


def differing(one: Any, other: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Flag -> the two values, of every option in which two objects of a command differ."""
    found: dict[str, tuple[Any, Any]] = {}
    for f in dataclasses.fields(one):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if "section" in f.metadata:
            found |= differing(a, b, f"{prefix}{f.name}.")
        elif a != b:
            found[flag(prefix + f.name)] = (_show(a), _show(b))
    return found


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
