"""CSV files with a fixed header: rows with their physical lines, and why a row cannot be used."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from refiner_env.errors import DataError

SHOWN = 100
"""Characters of a value that a message shows."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class MalformedError(Exception):
    """A row cannot be used; the text names the column, its value and what is wrong."""

    @classmethod
    def cell(cls, column: str, value: str, why: str) -> MalformedError:
        """For one cell."""
        return cls(f"column {column} is {_short(value)}: {why}")


def read_rows(path: Path, columns: Sequence[str], advice: str) -> Iterator[tuple[int, dict[str, str] | MalformedError]]:
    """(last physical line, cells by column or why they cannot be used) for each row below the header.

    Args:
        columns: those that the header must have, in any order and among any others.
        advice: what is expected at `path` and where it comes from; ends the message of a DataError.

    Raises:
        DataError: the file is missing or unreadable, or its header lacks a column.
    """
    try:
        # Bytes that are not UTF-8 become lone surrogates, so that one bad row does not hide the others.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if missing := [c for c in columns if c not in header]:
                found = _short(",".join(header))
                raise DataError(f"{path}, line 1, column {missing[0]} is missing: the header is {found}. {advice}")
            while (row := _next_row(reader, header)) is not None:
                if row:
                    yield reader.line_num, row
    except FileNotFoundError:
        raise DataError(f"Looked for {path}, but there is no such file. {advice}") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}. {advice}") from error


def _next_row(reader: Iterator[list[str]], header: list[str]) -> dict[str, str] | MalformedError | None:
    """The next row, {} for a blank line, None at the end."""
    try:
        cells = next(reader, None)
    except csv.Error as error:
        return MalformedError(f"some column is not quoted as CSV asks: {error}")
    if not cells:
        return None if cells is None else {}
    if len(cells) < len(header):
        return MalformedError(f"column {header[len(cells)]} is missing: the row is {_short(','.join(cells))}")
    if len(cells) > len(header):
        return MalformedError.cell(str(len(header) + 1), cells[len(header)], "the header has no such column")
    for column, value in zip(header, cells, strict=True):
        if _SURROGATE.search(value):
            return MalformedError.cell(column, value, "not UTF-8")
    return dict(zip(header, cells, strict=True))


def _short(value: str) -> str:
    return repr(value if len(value) <= SHOWN else value[: SHOWN - 3] + "...")
