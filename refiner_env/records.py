"""Recorded episodes: JSON lines, one episode a line, with all that it takes to review it again.

A line holds `schema`, `task`, `critic`, `stop` (the rule), the problem (`uid`, `text`, `gold`, `answer`, `metadata`,
`gold_metadata`), and `turns`: of each the `hypothesis`, `feedback` (text, verdict, typed faults), `scores`, `reward`
with its parts, and `stop` (why it ended there). Gold is in it: a record is for measuring, not for a policy.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refiner_env.errors import DataError
from refiner_env.types import Episode, Fault, Feedback, Problem, Scores, StopReason, Turn

SCHEMA = 1
"""The version of the lines. A reader refuses other ones."""
WRITERS = "refiner play --record, refiner evaluate --episodes and refiner compare write them"


@dataclass(frozen=True, slots=True)
class Record:
    """An episode and what it was played under."""

    episode: Episode
    task: str
    """The task's name."""
    critic: str
    """The critic, as it was named."""
    stop: str
    """The rule that ends an episode: `critic`, `gold` or `never`."""


def write_episodes(
    path: Path, task: str, critic: str, episodes: Iterable[Episode], *, stop: str = "critic", append: bool = False
) -> None:
    """Write episodes, one a line.

    Args:
        append: keep what is in the file. Half a line at its end, of a process that was killed, stays a line of its own.

    Raises:
        DataError: metadata is not JSON, or the file cannot be written.
    """
    lines = "".join(_line(Record(episode, task, critic, stop)) + "\n" for episode in episodes).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+" if append else "wb") as file:
            if append and file.tell():
                file.seek(-1, os.SEEK_END)
                lines = lines if file.read() == b"\n" else b"\n" + lines
            file.write(lines)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}. Choose another file.") from None


def read_episodes(path: str | Path, warn: Callable[[str], object] = warnings.warn) -> list[Record]:
    """Read what `write_episodes` wrote. Sequences in metadata come back as tuples.

    Lines that cannot be read, as of a process that was killed, are left out with one warning that numbers them.

    Args:
        warn: takes the warning.

    Raises:
        DataError: there is no such file, or no line of it is a recorded episode.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    records: list[Record] = []
    broken: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                records.append(_record(_parsed(line)))
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                why = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
                broken.append((number, why[:120]))
    if not records:
        nothing = f"line {broken[0][0]} is none, {broken[0][1]}" if broken else "it is empty"
        raise DataError(f"{path} holds no recorded episodes: {nothing}. {WRITERS}.")
    if broken:
        numbers = ", ".join(str(number) for number, _ in broken[:10]) + (", ..." if len(broken) > 10 else "")
        which = f"line {numbers} is" if len(broken) == 1 else f"lines {numbers} are"
        read = f"{len(records)} episodes are read"
        warn(f"{path}: {which} no recorded episode and left out ({broken[0][1]}); {read}.")
    return records


def frozen(value: Any) -> Any:
    """JSON arrays as tuples, at any depth of arrays and objects."""
    if isinstance(value, dict):
        return {key: frozen(inner) for key, inner in value.items()}
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def read_object(file: Path) -> dict[str, Any]:
    """What a file of settings or figures holds, one object of JSON.

    Raises:
        DataError: it holds something else.
    """
    try:
        return _object(_parsed(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file} cannot be read ({error}): mend it, or take another folder.") from None


def feedback_row(feedback: Feedback) -> dict[str, Any]:
    """A feedback as JSON; what a fault does not have is left out."""
    faults = [{key: value for key, value in asdict(fault).items() if value is not None} for fault in feedback.faults]
    return {**asdict(feedback), "faults": faults}


def _line(record: Record) -> str:
    problem = record.episode.problem
    row = {
        "schema": SCHEMA,
        "task": record.task,
        "critic": record.critic,
        "stop": record.stop,
        "uid": problem.uid,
        "text": problem.text,
        "gold": problem.gold,
        "answer": problem.answer,
        "metadata": dict(problem.metadata),
        "gold_metadata": dict(problem.gold_metadata),
        "turns": [{**asdict(turn), "feedback": feedback_row(turn.feedback)} for turn in record.episode.turns],
    }
    try:
        return json.dumps(row)
    except TypeError as error:
        raise DataError(f"The episode on {problem.uid!r} cannot be recorded: {error}.") from None


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is no whole JSON") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("it is no object")
    return value


def _record(line: Any) -> Record:
    row = _object(line)
    if row["schema"] != SCHEMA:
        raise ValueError(f"its schema is {row['schema']!r:.80}, and this version reads {SCHEMA}")
    metadata, hidden = frozen(row["metadata"]), frozen(row["gold_metadata"])
    problem = Problem(_text(row, "uid"), _text(row, "text"), row["gold"], row["answer"], metadata, hidden)
    episode = Episode(problem, tuple(map(_turn, row["turns"])))
    return Record(episode, _text(row, "task"), _text(row, "critic"), _text(row, "stop"))


def _turn(row: dict[str, Any]) -> Turn:
    said = row["feedback"]
    faults = tuple(Fault(**frozen(fault)) for fault in said["faults"])
    feedback = Feedback(**{**said, "text": _text(said, "text"), "faults": faults})
    stop = StopReason(row["stop"]) if row["stop"] else None
    return Turn(_text(row, "hypothesis"), feedback, Scores(**row["scores"]), row["reward"], stop, row["reward_parts"])


def _text(row: dict[str, Any], key: str) -> str:
    if not isinstance(row[key], str):
        raise TypeError(f"its {key} is {row[key]!r:.80}, no text")
    text: str = row[key]
    return text
