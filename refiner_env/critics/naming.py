"""How critics are named. Wherever one is, `resolve_critic` accepts

- a registered name, with arguments where it takes any: `oracle`, `noisy(oracle, 0.25)`, `cached(runs/critic)`;
- `package.module:object` or `path/file.py:object`, with arguments too;
- the folder of a learned critic.

A critic's factory takes the task, and what stands in the brackets, and returns the critic.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import re
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium as gym

from refiner_env.errors import CheckpointError, CriticError, OptionError, RefinerError, reason
from refiner_env.registry import Registry, holds_model, load_object
from refiner_env.tasks import TASKS
from refiner_env.types import Critic, Task

CriticFactory = Callable[..., Critic]
"""(task, further arguments) -> critic."""
CRITICS: Registry[CriticFactory] = Registry(
    "critic", also=", or the folder of a learned critic; arguments in brackets, as in noisy(oracle, 0.25)"
)
CRITIC_ACTS = "Critic"
"""In place of a critic's name in an environment id: the critic is the one who acts."""
WRITTEN = "write name(argument, key=value), on a command line in quotes"
ENTRY_POINTS = "refiner_env.critics"
"""The entry-point group of packages that bring critics."""

F = TypeVar("F", bound=CriticFactory)


class Deferred:
    """A factory that is imported when it is first called: what it needs may be heavy, or not installed."""

    def __init__(self, path: str, doc: str = "", origin: str = "", uses_gold: bool | None = None) -> None:
        self.path, self.__doc__, self.origin, self.uses_gold = path, doc, origin, uses_gold

    def load(self) -> CriticFactory:
        """The factory itself.

        Raises:
            RefinerError: it cannot be imported; the message says whose it is and why.
        """
        try:
            factory: CriticFactory = load_object(self.path)
        except Exception as error:  # somebody else's package may fail in any way
            raise RefinerError(f"A critic of {self.origin or self.path} cannot be loaded: {reason(error)}") from error
        return factory

    def __call__(self, task: Task[Any], *args: Any, **kwargs: Any) -> Critic:
        return self.load()(task, *args, **kwargs)

    def __repr__(self) -> str:
        return self.path


def register_critic(name: str, factory: F | None = None, *, deterministic: bool = True) -> Any:
    """Make a critic usable by name, and register its environment `Refiner/<Task>.<name>-v0` for every task.

    With a factory (a class will do) it registers it; without one it is a decorator.

    Raises:
        OptionError: the name makes no environment id; DuplicateNameError: it is taken.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise OptionError(f"The critic name {name!r} makes no environment id: use letters, digits, '_', '-' and '.'.")
    if name == CRITIC_ACTS:
        raise OptionError(f"The critic name {name!r} stands for the critic that acts: take another.")

    def register(made: F) -> F:
        CRITICS.register(name, made)
        for task in TASKS.names():
            steady = deterministic and getattr(made, "deterministic", True)
            register_environment(f"Refiner/{task}.{name}-v0", task, name, deterministic=steady)
        return made

    return register if factory is None else register(factory)


def register_environment(id: str, task: str, critic: str = "", *, deterministic: bool = True) -> None:
    """Register one environment id, single and vector: with this critic inside, or, without one, the critic acts."""
    acting = "Refiner" if critic else "Critic"
    gym.register(
        id,
        entry_point=f"refiner_env.envs:{acting}Env",
        vector_entry_point=f"refiner_env.envs:{acting}VectorEnv",
        nondeterministic=not deterministic,
        kwargs={"task": task, "critic": critic} if critic else {"task": task},
    )


def register_entry_points() -> None:
    """Register the critics that installed packages bring; each is imported when it is used.

    A name that is taken or makes no id is left out with a warning: one package must not break the others.
    """
    try:
        entries = importlib.metadata.entry_points(group=ENTRY_POINTS)
    except Exception as error:  # one package's unreadable entry points spoil the look-up for all
        warnings.warn(f"Critics of installed packages are left out: {type(error).__name__}: {error}", stacklevel=2)
        return
    for entry in entries:
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module
        try:
            register_critic(entry.name, Deferred(entry.value, origin=origin))
        except RefinerError as error:
            warnings.warn(f"The critic {entry.name!r} of {origin} is left out: {error}", stacklevel=2)


def resolve_critic(critic: str | Critic, task: Task[Any]) -> Critic:
    """A critic from whatever names one (module docstring), or itself.

    Raises:
        UnknownNameError: nothing of that name; OptionError: arguments that it does not take, or what it names is
            no critic; CriticError: making it raises; RefinerError: what it needs is not there.
    """
    if isinstance(critic, Critic):
        return critic
    if not isinstance(critic, str):
        raise OptionError(
            f"critic is {critic!r}: give a name, a path or a Critic; a class has to be called with its task."
        )
    if critic not in CRITICS.names() and holds_model(critic):
        return _call(critic, CRITICS.resolve("learned"), task, (critic,), {})
    name, args, kwargs = read_call(critic)
    if name not in CRITICS.names() and ":" not in name and (os.sep in name or os.path.isdir(name)):
        raise CheckpointError(f"{name!r} is no critic: {_no_critic(name)}.")
    return _call(name, CRITICS.resolve(name), task, args, kwargs)


def _no_critic(folder: str) -> str:
    """Why a folder, with arguments or without, names no critic."""
    if not os.path.isdir(folder):
        return "there is no such folder"
    if holds_model(folder):
        return f"arguments follow the name learned, as in learned({folder}, threshold=0.5)"
    return "the folder holds no model (config.json); `refiner train critic` writes one"


def _call(name: str, factory: Any, task: Task[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Critic:
    factory = factory.load() if isinstance(factory, Deferred) else factory
    if isinstance(factory, Critic):
        return factory
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        refusal = f"The critic {name!r} is {factory!r:.80}: it must be a Critic, or make one from a task."
        raise OptionError(refusal) from None
    if not signature.parameters:
        raise OptionError(f"The critic {name!r} takes no task: give it one, as in def __init__(self, task).")
    try:
        signature.bind(task, *args, **kwargs)
    except TypeError as error:
        further = list(signature.parameters.values())[1:]
        takes = ", ".join(str(p.replace(annotation=p.empty)) for p in further) or "nothing"
        raise OptionError(f"The critic {name!r} cannot be made so: {error}. It takes the task, and: {takes}.") from None
    try:
        made = factory(task, *args, **kwargs)
    except RefinerError:
        raise
    except Exception as error:  # somebody's own code
        raise CriticError(f"The critic {name!r} cannot be made: {reason(error)}.") from error
    if not isinstance(made, Critic):
        raise OptionError(
            f"The critic {name!r} made {made!r:.80}, which is no Critic: inherit from refiner_env.Critic."
        )
    return made


def read_call(text: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """`name(a, b, key=c)` -> (name, (a, b), {key: c}). Arguments are Python literals; anything else is text.

    Raises:
        OptionError: the brackets do not match, an argument is empty or is named twice, or one without a name follows
            one with a name.
    """
    match = re.fullmatch(r"([^()]*[^()\s])\s*\((.*)\)\s*", text, re.DOTALL)
    if not match:
        name, bracket, _ = text.partition("(")
        if text.rstrip().endswith(")") or (bracket and (name.strip() in CRITICS.names() or ":" in name)):
            raise OptionError(f"The brackets of {text!r} do not match: {WRITTEN}.")
        return text.strip(), (), {}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for part in _arguments(match[2], text):
        key = re.match(r"\s*([A-Za-z_]\w*)\s*=(?!=)", part)
        if not part.strip():
            raise OptionError(f"{text!r} has an empty argument: {WRITTEN}.")
        if key:
            if key[1] in kwargs:
                raise OptionError(f"{text!r} gives {key[1]!r} twice: leave one out.")
            kwargs[key[1]] = _value(part[key.end() :])
        elif kwargs:
            raise OptionError(f"In {text!r} {part.strip()!r} follows a named argument: put it before them.")
        else:
            args.append(_value(part))
    return match[1].strip(), tuple(args), kwargs


def _arguments(inside: str, whole: str) -> list[str]:
    """What stands between commas, those in quotes and further brackets aside."""
    parts, depth, quote, start = list[str](), 0, "", 0
    for i, c in enumerate(inside):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and not depth:
            parts.append(inside[start:i])
            start = i + 1
        if depth < 0:
            break
    if depth or quote:
        raise OptionError(f"The brackets or quotes of {whole!r} do not match: {WRITTEN}.")
    return [*parts, last] if (last := inside[start:]).strip() else parts


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # all that it may raise
        return text.strip()
