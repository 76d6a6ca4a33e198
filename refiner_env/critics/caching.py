"""A critic that is asked once for each hypothesis of a problem: equal questions get the answer given before."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from refiner_env.critics.wrappers import CriticWrapper
from refiner_env.errors import DataError
from refiner_env.types import Critic, Fault, Feedback, Problem, Task

IN_MEMORY = 100_000
"""Answers held in memory; the one that was asked for longest ago goes first. A file holds any number."""
PATIENCE = 60.0
"""Seconds to wait for another process that writes to the same file."""

_TABLE = "critic_feedback"


class CachedCritic(CriticWrapper):
    """Another critic that is asked only what it has not been asked: in memory, and in a file where `path` is given.

    Questions are equal where critic (its `identity`), problem as that critic sees it, and hypothesis are. Only what is
    new is sent on, once and in one call; failures are not kept. Of a critic that draws random numbers the first answer
    stays, whatever the seed. `hits` and `misses` count the hypotheses that were answered from here and sent on.

    Args:
        path: a file (SQLite) that outlives the process; several processes may use it at once.

    Raises:
        DataError: the file cannot be used, or is something else.
    """

    def __init__(self, task: Task[Any], critic: str | Critic = "oracle", path: str | Path = "") -> None:
        super().__init__(task, critic)
        self.path = path
        self.hits = self.misses = 0
        self._memory: OrderedDict[str, Feedback] = OrderedDict()
        if path:
            with self._opened() as file:
                tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if tables - {_TABLE}:
                    raise sqlite3.DatabaseError(f"it is a database of something else, with {min(tables)!r} in it")
                file.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (key TEXT PRIMARY KEY, feedback TEXT NOT NULL)")

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        asked_of = self.inner.identity
        keys = [self._key(asked_of, problem, z) for problem, z in zip(problems, hypotheses, strict=True)]
        known = self._recall(set(keys))
        new = {key: i for i, key in enumerate(keys) if key not in known}
        if new:
            places = list(new.values())
            said = self.inner.critique([problems[i] for i in places], [hypotheses[i] for i in places])
            answers = dict(zip(new, said, strict=True))
            known |= answers
            self._keep({key: feedback for key, feedback in answers.items() if not feedback.failure})
        self.misses += len(new)
        self.hits += len(keys) - len(new)
        return [known[key] for key in keys]

    @property
    def identity(self) -> str:
        return self.inner.identity

    def _key(self, asked_of: str, problem: Problem, hypothesis: str) -> str:
        visible = problem if self.uses_gold else problem.without_gold()
        seen = [getattr(visible, field.name) for field in fields(visible)]
        question = json.dumps([asked_of, seen, hypothesis], sort_keys=True, default=repr)
        return hashlib.sha256(question.encode()).hexdigest()

    def _recall(self, keys: set[str]) -> dict[str, Feedback]:
        """The answers that are known, by key."""
        known = {key: self._memory[key] for key in keys if key in self._memory}
        if self.path and len(known) < len(keys):
            with self._opened() as file:
                for key in keys - known.keys():
                    for (text,) in file.execute(f"SELECT feedback FROM {_TABLE} WHERE key = ?", (key,)):
                        known[key] = _read(text)
        self._remember(known)
        return known

    def _keep(self, answers: Mapping[str, Feedback]) -> None:
        self._remember(answers)  # first, so that nothing is asked twice where the file cannot be written
        if self.path and answers:
            rows = [(key, json.dumps(asdict(feedback))) for key, feedback in answers.items()]
            with self._opened() as file:
                file.executemany(f"INSERT OR IGNORE INTO {_TABLE} VALUES (?, ?)", rows)

    def _remember(self, answers: Mapping[str, Feedback]) -> None:
        self._memory.update(answers)
        for key in answers:
            self._memory.move_to_end(key)
        while len(self._memory) > IN_MEMORY:
            self._memory.popitem(last=False)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The file, opened anew for each use: connections do not survive threads and forks. One transaction."""
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as file, file:
                yield file
        except (sqlite3.Error, OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"The critic's cache {str(self.path)!r} cannot be used: {error}."
                " Name a new file, or one that a cached critic wrote."
            ) from None


def _read(text: str) -> Feedback:
    """A row's feedback.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    said = json.loads(text)
    faults = [Fault(**{**fault, "span": fault["span"] and tuple(fault["span"])}) for fault in said["faults"]]
    return Feedback(**{**said, "faults": tuple(faults)})
