"""Names for things that users plug in, and one way to resolve them everywhere.

A name is a registered one, `package.module:object`, or `path/file.py:object`. Registering a name twice
is an error; an unknown name is answered with the closest one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, Generic, TypeVar

from refiner_env.errors import DuplicateNameError, RefinerError, UnknownNameError, did_you_mean, reason

T = TypeVar("T")


class Registry(Generic[T]):
    """Named objects of one kind. `also` says what else is accepted where one is named, for errors."""

    def __init__(self, kind: str, also: str = "") -> None:
        self.kind, self.also = kind, also
        self._entries: dict[str, T] = {}
        self._short: dict[str, str] = {}

    def register(self, name: str, entry: T, *, short: str = "") -> T:
        """Add an entry, with a short name too where one is given.

        Raises:
            DuplicateNameError: the name is taken.
        """
        if name in self._entries:
            raise DuplicateNameError(f"The {self.kind} name {name!r} is taken by {self._entries[name]!r}.")
        self._entries[name] = entry
        if short:
            self._short[short] = name
        return entry

    def short(self, name: str) -> str:
        """The short name of an entry; the name itself where there is none."""
        return next((short for short, whole in self._short.items() if whole == name), name)

    def names(self) -> list[str]:
        """All registered names, in order of registration."""
        return list(self._entries)

    def resolve(self, name: str) -> T:
        """The entry of a registered name, or the object behind `module:object` or `file.py:object`.

        Raises:
            UnknownNameError: nothing of that name; the message offers the closest.
        """
        if self._short.get(name, name) in self._entries:
            return self._entries[self._short.get(name, name)]
        if ":" in name or name.endswith(".py"):
            loaded: T = load_object(name)
            return loaded
        advice = f"Your own {self.kind}: package.module:object or path/file.py:object{self.also}."
        raise UnknownNameError(self.kind, name, [*self._entries, *self._short], advice)


def holds_model(path: str) -> bool:
    """Whether a path is the folder of a saved language model, or of an adapter to one."""
    # os.path, as pathlib raises on what is too long for a file's name
    return any(os.path.isfile(os.path.join(path, name)) for name in ("config.json", "adapter_config.json"))


def load_object(path: str) -> Any:
    """The object behind `package.module:object` or `path/file.py:object`.

    Raises:
        RefinerError: no such module, file or object, or it cannot be imported; the message says which and why.
    """
    where, _, attribute = path.rpartition(":")
    if not where or not attribute or (where.startswith(".") and not where.endswith(".py")):
        raise RefinerError(f"Cannot load {path!r}: give package.module:object or path/file.py:object.")
    try:
        module = _load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise RefinerError(f"Cannot load {path!r}: no module {error.name!r} here.") from None
    except RefinerError:
        raise
    except Exception as error:  # somebody's own code
        raise RefinerError(f"Cannot load {path!r}: {reason(error)}.") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = [name for name in vars(module) if not name.startswith("_")]
        hint = did_you_mean(attribute, public)
        known = ", ".join(public)
        raise RefinerError(f"Cannot load {path!r}: {where} has no {attribute!r}.{hint} It has: {known}.") from None


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise RefinerError(f"Cannot load {str(path)!r}: no such file.")
    name = f"refiner_plugin:{path.resolve()}"  # no import can have this name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader  # always there for a .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
