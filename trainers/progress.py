"""Progress of training: a live bar on a terminal, plain lines elsewhere, and every figure on disk."""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


def quiet_libraries() -> None:
    """Keep the bars and deprecation notices of transformers and TRL out of a command's output."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    for library in ("transformers", "trl"):
        warnings.filterwarnings("ignore", module=library)
    warnings.filterwarnings("ignore", category=FutureWarning)


class Update:
    """`update(done, **metrics)`: where the stage stands, as a fraction in [0, 1], and its latest figures."""

    def __call__(self, done: float, **metrics: Any) -> None: ...
    def notice(self, text: str, **fields: Any) -> None: ...
    def resume(self, step: int) -> None: ...


_PLAIN_EVERY_S = 20.0


class Progress:
    """Shows stages as they run.

    Args:
        console: where to show; None shows nothing.
        metrics_file: JSON lines, one per update; None keeps none.
    """

    def __init__(self, console: Console | None = None, metrics_file: Path | None = None) -> None:
        self.console, self.metrics_file = console, metrics_file

    def to(self, metrics_file: Path) -> Progress:
        """The same display, with figures kept in another file."""
        return Progress(self.console, metrics_file)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Update]:
        """A named piece of work; yields its `update`."""
        with contextlib.ExitStack() as stack:
            show = stack.enter_context(self._display(name))
            log = None
            if self.metrics_file:
                self.metrics_file.parent.mkdir(parents=True, exist_ok=True)
                log = stack.enter_context(self.metrics_file.open("a", encoding="utf-8"))

            def update(done: float, **metrics: Any) -> None:
                show(done, "  ".join(f"{key} {_short(value)}" for key, value in metrics.items()))
                if log:
                    print(json.dumps({"stage": name, "done": round(done, 4), **metrics}), file=log, flush=True)

            yield update

    @contextlib.contextmanager
    def _display(self, name: str) -> Iterator[Callable[[float, str], None]]:
        if self.console is None:
            yield lambda done, text: None
        elif self.console.is_terminal:
            columns = (
                TextColumn("{task.description:<22}"),
                BarColumn(24),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
            )
            with Bars(*columns, console=self.console) as bars:
                bar = bars.add_task(name, total=1.0, figures="")
                yield lambda done, text: bars.update(bar, completed=done, figures=text)
                bars.update(bar, completed=1.0)
        else:
            started = shown = time.monotonic()
            latest = ""

            def line(done: float, text: str) -> None:
                nonlocal shown, latest
                latest = text
                if time.monotonic() - shown >= _PLAIN_EVERY_S:
                    shown = time.monotonic()
                    self._print(f"{name}: {done:.0%}  {text}")

            yield line
            self._print(f"{name}: done in {time.monotonic() - started:.0f} s  {latest}")

    def _print(self, text: str) -> None:
        assert self.console is not None
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
