"""Files of rows: CSV, JSON arrays, JSON lines and Hugging Face datasets, and why a row cannot be used.

The container is told by the content, never by the name. Text is UTF-8 with or without a byte-order mark, or UTF-16
with one.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.storage import import_datasets, no_progress_bars
from refiner_env.errors import DataError
from refiner_env.types import Problem

SHOWN = 100
"""Characters of a value that a message shows."""
SAMPLED = 20
"""First rows of a JSON file whose keys tell its format."""
HUB = "hf:"
"""Prefix of a Hugging Face dataset in place of a path."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"[ \t\r\n]*")


class MalformedError(Exception):
    """A row cannot be used.

    Args:
        key: the column or key that is at fault; "" for the row as a whole.
        why: what is wrong, as the end of a sentence about it.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key, why)
        self.key, self.why = key, why

    @classmethod
    def cell(cls, key: str, value: object, why: str) -> MalformedError:
        """For one value."""
        return cls(key, f"is {short(value)}: {why}")

    def told(self, noun: str) -> str:
        """The sentence, with `column` or `key` as noun."""
        return f"{noun} {self.key} {self.why}" if self.key else f"the row {self.why}"


Cells = Mapping[str, Any]
"""One row: strings by column, or JSON values by key."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands."""

    place: str
    """`line 3` (the last physical line of a CSV row) or `row 2 (line 31)`, rows counted from 0."""
    cells: Cells | MalformedError
    """What stands there, or why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file that was opened: rows that nobody has interpreted yet."""

    name: str
    noun: str
    """What the container calls a part of a row: `column` or `key`."""
    columns: tuple[str, ...]
    """The header, or the keys of the first rows."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a format made of one row."""

    problem: Problem
    disagreement: str = ""
    """How gold and the stated answer disagree; "" if they do not."""
    wrong_label: bool = False
    """The label as it stands in the file does not give the stated answer, whatever was made of it."""
    dialects: tuple[str, ...] = ()
    """Spellings of the label, e.g. `substract`, `<END>`."""
    task: str = ""
    """The task that the row names, where it names one."""


def open_table(path: str | os.PathLike[str], advice: str = "") -> Table:
    """Read a file, or the split of a dataset that `hf:ID[[:CONFIG]:SPLIT]` names.

    Args:
        advice: what is expected at `path` and where it comes from; ends the message of a DataError.

    Raises:
        DataError: missing, unreadable, or neither CSV nor rows of JSON.
    """
    if isinstance(path, str) and path.startswith(HUB):
        return _hub_table(path)
    text = _text(Path(path), advice)
    start = text.lstrip()[:1]
    name = str(path)
    if start == "[":
        return _json_table(name, tuple(_json_array(name, text)))
    if start == "{":
        return _json_table(name, tuple(_json_lines(name, text)))
    try:
        return _csv_table(name, text)
    except csv.Error as error:
        raise DataError(f"{path} cannot be read: {error}. {advice}".rstrip()) from error


def short(value: object) -> str:
    """A value as a message shows it, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


# ------------------------------------------------------------------------------------------------------ cells
# Whoever reads a row has seen to it that its keys are there.


def text_of(row: Cells, key: str, *, empty: bool = False) -> str:
    """A text with single blanks between words.

    Raises:
        MalformedError: it is no text, or empty where it may not be.
    """
    value = row[key]
    if not isinstance(value, str):
        raise MalformedError.cell(key, value, "it is no text")
    words = " ".join(value.split())
    if not words and not empty:
        raise MalformedError.cell(key, value, "it is empty")
    return words


def texts_of(row: Cells, key: str) -> tuple[str, ...]:
    """A list of texts, none of them empty.

    Raises:
        MalformedError: it is no list of texts.
    """
    values = row[key]
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise MalformedError.cell(key, values, "it is no list of texts")
    return tuple(" ".join(value.split()) for value in values)


def number_of(row: Cells, key: str) -> float:
    """A finite number, written as a number or as text.

    Raises:
        MalformedError: it is none.
    """
    return _number(row, key, row[key])


def numbers_of(row: Cells, key: str) -> tuple[float, ...]:
    """Finite numbers: a list, or a text with blanks between them. At least one.

    Raises:
        MalformedError: one of them is no number, or there are none.
    """
    value = row[key]
    parts = value.split() if isinstance(value, str) else value
    if not isinstance(parts, list):
        raise MalformedError.cell(key, value, "it is no list of numbers")
    if not parts:
        raise MalformedError.cell(key, value, "there are no numbers")
    return tuple(_number(row, key, part) for part in parts)


def finite(text: str | float) -> float:
    """A float that is neither infinite nor NaN.

    Raises:
        ValueError: it is none.
    """
    try:
        value = float(text)
    except OverflowError:
        raise ValueError("it is too large") from None
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def _number(row: Cells, key: str, part: object) -> float:
    try:
        if isinstance(part, bool) or not isinstance(part, str | int | float):
            raise ValueError
        return finite(part)
    except ValueError:
        raise MalformedError.cell(key, row[key], f"{short(part)} is no finite number") from None


# ------------------------------------------------------------------------------------------------- containers


def _text(path: Path, advice: str) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        nearest = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(f"Looked for {path}, but there is no such file.{nearest} {advice}".rstrip()) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. {advice}".rstrip()) from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} begins as UTF-16 but is none: {error.reason} at byte {error.start}.") from None
    # Bytes that are not UTF-8 become lone surrogates, so that one bad row does not hide the others.
    return content.decode("utf-8-sig", errors="surrogateescape")


def _checked(cells: Cells) -> Cells | MalformedError:
    """The row, unless a text in it is not UTF-8."""
    for key, value in cells.items():
        if _SURROGATE.search(key):
            return MalformedError("", f"has a key that is not UTF-8: {key!r}")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        if _SURROGATE.search(text):
            return MalformedError.cell(key, value, "it is not UTF-8")
    return cells


def _csv_table(name: str, text: str) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader, [])
    rows = []
    while (cells := _next_row(reader, header)) is not None:
        if cells:
            rows.append(Row(f"line {reader.line_num}", cells))
    return Table(name, "column", tuple(header), tuple(rows))


def _next_row(reader: Iterator[list[str]], header: list[str]) -> Cells | MalformedError | None:
    """The next row, {} for a blank line, None at the end."""
    try:
        cells = next(reader, None)
    except csv.Error as error:
        return MalformedError("", f"is not quoted as CSV asks: {error}")
    if not cells:
        return None if cells is None else {}
    if len(cells) < len(header):
        return MalformedError(header[len(cells)], f"is missing: the row is {short(','.join(cells))}")
    if len(cells) > len(header):
        return MalformedError.cell(str(len(header) + 1), cells[len(header)], "the header has no such column")
    return _checked(dict(zip(header, cells, strict=True)))


def _json_table(name: str, rows: tuple[Row, ...]) -> Table:
    keys = (key for row in rows[:SAMPLED] if isinstance(row.cells, Mapping) for key in row.cells)
    return Table(name, "key", tuple(dict.fromkeys(keys)), rows)


def _json_array(name: str, text: str) -> Iterator[Row]:
    decode, skip = json.JSONDecoder().raw_decode, _BLANK.match
    position = _end(skip(text, text.index("[") + 1))
    index, line, counted = 0, 1, 0
    while not text.startswith("]", position):
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = decode(text, position)
            cells = _object(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}, row {index} (line {line}), is no JSON: {_reason(error)}.") from None
        yield Row(f"row {index} (line {line})", cells)
        position, index = _end(skip(text, position)), index + 1
        if text.startswith(",", position):
            position = _end(skip(text, position + 1))
        elif not text.startswith("]", position):
            raise DataError(f"{name}: after row {index - 1} (line {line}), ',' or ']' is missing.")
    if text[position + 1 :].strip():
        raise DataError(f"{name}: something follows the array that ends after row {index - 1}.")


def _json_lines(name: str, text: str) -> Iterator[Row]:
    lines = text.split("\n")
    if not _is_json(next(line for line in lines if line.strip())) and _is_json(text):
        raise DataError(f"{name} is one JSON object: expected an array of objects, or one object on each line.")
    index = 0
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                cells = _object(json.loads(line))
            except (ValueError, RecursionError) as error:
                cells = MalformedError("", f"is no JSON: {_reason(error)}")
            yield Row(f"row {index} (line {number})", cells)
            index += 1


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _object(value: Any) -> Cells | MalformedError:
    return _checked(value) if isinstance(value, dict) else MalformedError("", f"is no object but {short(value)}")


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "too deeply nested or a number without end"


def _end(match: re.Match[str] | None) -> int:
    assert match  # blanks may be none, so this pattern always matches
    return match.end()


def _hub_table(name: str) -> Table:
    where, *parts = name.removeprefix(HUB).split(":", 2)
    split = parts.pop() if parts else ""
    config = ":".join([where, *parts])
    datasets = import_datasets()
    try:
        with no_progress_bars(datasets):
            found = datasets.load_dataset(where, *parts)
    except Exception as error:  # the library's own errors, the network's and the file system's
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        several = f" Where it has several configurations, give one as {HUB}{where}:CONFIG:SPLIT."
        advice = several if isinstance(error, ValueError) else ""
        raise DataError(f"{name}: the dataset {config!r} cannot be loaded ({why}).{advice}") from error
    split = split or (next(iter(found)) if len(found) == 1 else "")
    if split not in found:
        wrong = f"there is no split {split!r}" if split else "it has several splits"
        raise DataError(f"{name}: {wrong}; give one as {HUB}{config}:SPLIT, of {', '.join(found)}.")
    table = found[split]
    rows = tuple(Row(f"row {index}", _checked(row)) for index, row in enumerate(table))
    return Table(name, "column", tuple(table.column_names), rows)
