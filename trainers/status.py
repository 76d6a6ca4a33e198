"""How a stage of training looks: two lines on a terminal, one elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SPEED_OVER_S = 30.0
"""Tokens a second are those of this many seconds."""


class Status:
    """Where a stage stands, with what follows from its updates: how many steps there are, the speed, the time left.

    Rich renders it as two lines that never wrap: name, bar, steps and time, then the figures in the order in which they
    came, as many as there is room for, and the speed.
    """

    def __init__(self, name: str) -> None:
        self.name, self.started = name, time.monotonic()
        self.took: float | None = None
        self.done = 0.0
        self.steps = self.speed = ""
        self.figures: list[str] = []
        self._first: tuple[float, float] | None = None
        self._latest = (self.started, 0.0)
        self._tokens: deque[tuple[float, float]] = deque()

    def update(self, done: float, metrics: Mapping[str, Any]) -> None:
        """Take what `Update.__call__` was given."""
        now = time.monotonic()
        self.done, self._latest = done, (now, done)
        self._first = self._first or self._latest  # a resumed stage does not begin at 0
        self.steps = _steps(metrics["step"], done) if "step" in metrics else ""
        self.figures = [f"{key} {_short(value)}" for key, value in metrics.items() if key not in ("step", "tokens")]
        if "tokens" in metrics:
            self._tokens.append((now, metrics["tokens"]))
            while len(self._tokens) > 2 and now - self._tokens[1][0] >= SPEED_OVER_S:
                self._tokens.popleft()
            since, before = self._tokens[0]
            self.speed = f"{(metrics['tokens'] - before) / (now - since):,.0f} tok/s" if now > since else ""

    def finish(self) -> None:
        """The stage has come to its end."""
        self.done, self.took = 1.0, time.monotonic() - self.started

    def time(self) -> str:
        """The time left, at the pace since the first update; of a finished stage the time that it took."""
        if self.took is not None:
            return f"in {_clock(self.took)}"
        (now, done), (since, before) = self._latest, self._first or self._latest
        if done <= before:
            return ""
        left = (now - since) / (done - before) * (1 - done) - (time.monotonic() - now)
        return f"{_clock(max(0.0, left))} left"

    def line(self) -> str:
        """Everything in one line, however long."""
        figures = [self.steps, *self.figures, self.speed]
        if self.took is not None:
            return _joined([f"{self.name}: done {self.time()}", *figures])
        return _joined([f"{self.name}: {self.done:.0%}", *figures, self.time()])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        bar = ProgressBar(total=1.0, completed=self.done, width=max(8, min(40, width - 64)))
        first = Table.grid(padding=(0, 2, 0, 0))
        first.add_row(_line(f"{self.name:<22}"), bar, _line(_joined([f"{self.done:4.0%}", self.steps, self.time()])))
        yield first
        shown = len(self.figures)
        while len(second := self._second(shown)) > width and shown:
            shown -= 1
        yield _line(second)

    def _second(self, shown: int) -> str:
        rest = "…" if shown < len(self.figures) else ""
        return "  " + _joined([*self.figures[:shown], rest, self.speed])


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _joined(parts: list[str]) -> str:
    return "  ".join(filter(None, parts))


def _steps(step: int, done: float) -> str:
    """With the number of all steps where `done` counts in steps; where it counts in tokens, nobody knows it."""
    if done and math.isclose(steps := step / done, round(steps), rel_tol=1e-9):
        return f"step {step:,}/{steps:,.0f}"
    return f"step {step:,}"


def _short(value: Any) -> str:
    """A figure in few characters, of much the same width each time."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())
    size = abs(value)
    if 1000 <= size < 1e7:
        return f"{value:,.0f}"
    return f"{value:.1e}" if 0 < size < 0.001 or 1e7 <= size < math.inf else f"{value:.3f}"


def _clock(seconds: float) -> str:
    """1:30, or 1:02:30 from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
