"""Progress of training: a live display on a terminal, plain lines elsewhere, and every figure on disk."""

from __future__ import annotations

import contextlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from refiner_env.errors import RefinerError
from trainers.status import Status

Track = Callable[[Mapping[str, float], int], None]
"""(figures by name, their step) -> None: passes them on, as `trainers/tracking.py` does."""

_PLAIN_EVERY_S = 20.0


def quiet_libraries() -> None:
    """Keep the bars and notices of transformers, TRL, DeepSpeed and the hub's client out of a command's output."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub.set_verbosity_error()  # each try to reach it; why the last one failed, the error says
    for library in ("transformers", "trl", "_distutils_hack"):
        warnings.filterwarnings("ignore", module=library)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="bitsandbytes::")  # of its frozen weights, which need no gradient


def say(console: Console, text: str) -> None:
    """Print a line as it is, above the live display where there is one."""
    console.print(text, soft_wrap=True, highlight=False, markup=False, emoji=False)


def is_main_process() -> bool:
    """Whether this process is the one of several that shows, logs and saves; true of a single one."""
    from trainers.processes import processes

    main: bool = processes().is_main_process
    return main


class Update:
    """How a trainer tells where its stage stands. This one tells nobody."""

    def __call__(self, done: float, **metrics: Any) -> None:
        """The latest figures.

        Args:
            done: the fraction of the stage that is done, in [0, 1].
            metrics: numbers or short texts, the most important first. `step` is the optimizer step, `tokens` the
                tokens trained so far, from which the speed is worked out.
        """

    def notice(self, text: str, **fields: Any) -> None:
        """Something that is worth a line of its own, as a step that was skipped.

        Args:
            fields: what else goes into the metrics; `step`, where it is not that of the latest update.
        """

    def resume(self, step: int) -> None:
        """The stage goes on from a checkpoint of this step: what it has logged of later ones is dropped."""


SILENT = Update()


class Progress:
    """Shows stages as they run, in the main process alone.

    Args:
        console: where to show; None shows nothing.
        metrics_file: JSON lines, one per update or notice; None keeps none.
        track: takes the numbers of each update that has a step, named `stage/figure`.
    """

    def __init__(
        self,
        console: Console | None = None,
        metrics_file: Path | None = None,
        track: Track = lambda figures, step: None,
    ) -> None:
        self.console, self.metrics_file, self.track = console, metrics_file, track

    def to(self, metrics_file: Path) -> Progress:
        """The same display, with figures kept in another file."""
        return Progress(self.console, metrics_file, self.track)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Update]:
        """A named piece of work; yields its `update`.

        Raises:
            RefinerError: the metrics file cannot be written, now or later.
        """
        if not is_main_process():
            yield SILENT
            return
        log = MetricsFile(self.metrics_file) if self.metrics_file else None
        status = Status(name)
        with self._display(status) as show:
            yield _Stage(status, show, self._print, log, self.track)

    @contextlib.contextmanager
    def _display(self, status: Status) -> Iterator[Callable[[], None]]:
        """Yields what to call after an update."""
        if self.console is None:
            yield lambda: None
        elif self.console.is_interactive:
            with Live(status, console=self.console):
                yield lambda: None  # it refreshes itself
                status.finish()
        else:
            shown = time.monotonic()

            def line() -> None:
                nonlocal shown
                if status.done < 1.0 and time.monotonic() - shown >= _PLAIN_EVERY_S:
                    shown = time.monotonic()
                    self._print(status.line())

            yield line
            status.finish()
            self._print(status.line())

    def _print(self, text: str) -> None:
        if self.console:
            say(self.console, text)


class _Stage(Update):
    """Tells the display, the metrics file and the trackers."""

    def __init__(
        self,
        status: Status,
        show: Callable[[], None],
        tell: Callable[[str], None],
        log: MetricsFile | None,
        track: Track,
    ) -> None:
        self.status, self.show, self.tell, self.log, self.track = status, show, tell, log, track
        self.step: int | None = None

    def __call__(self, done: float, **metrics: Any) -> None:
        self.status.update(done, metrics)
        self.show()
        row = self._write(done=round(done, 4), **metrics)
        if "step" in row:
            self.step = step = row.pop("step")
            stage = self.status.name.replace(" ", "_")
            self.track({f"{stage}/{key}": value for key, value in row.items() if isinstance(value, int | float)}, step)

    def notice(self, text: str, **fields: Any) -> None:
        self.tell(f"{self.status.name}: {text}")
        step = {} if self.step is None else {"step": self.step}
        self._write(event=text, **(step | fields))

    def resume(self, step: int) -> None:
        if step:
            self.tell(f"{self.status.name}: goes on from step {step}")
        if self.log:
            self.log.resume(self.status.name, step)

    def _write(self, **fields: Any) -> dict[str, Any]:
        row = {"stage": self.status.name, **{key: _as_json(value) for key, value in fields.items()}}
        if self.log:
            self.log.append(row)
        return row


class MetricsFile:
    """JSON lines that stay whole, whatever becomes of the process or the disk.

    Raises:
        RefinerError: it cannot be written; the same of both methods, and the lines that it had are still there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line."""
        rest = json.dumps(row, allow_nan=False).encode() + b"\n"
        with self._writing(), self.path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                while rest:  # on a full disk a part of it may still go in
                    rest = rest[file.write(rest) :]
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(before)
                raise

    def resume(self, stage: str, step: int) -> None:
        """Drop what a stage wrote of steps after this one, and a last line that was not written to its end."""
        lines = [line for line in self.path.read_bytes().split(b"\n") if line]
        rows = [_parsed(line) for line in lines]
        if rows and not rows[-1]:
            del lines[-1], rows[-1]
        kept = [
            line
            for line, row in zip(lines, rows, strict=True)
            if row.get("stage") != stage or (row.get("step") or 0) <= step
        ]
        whole = self.path.with_suffix(".tmp")  # renamed when complete
        with self._writing():
            try:
                whole.write_bytes(b"".join(line + b"\n" for line in kept))
                whole.replace(self.path)
            finally:
                whole.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = "Make room or choose another folder; its lines so far are kept."
            raise RefinerError(f"{self.path} cannot be written: {error.strerror}. {advice}") from None


def _as_json(value: Any) -> str | int | float | None:
    """A figure as JSON has it; of what is not finite it has nothing."""
    if isinstance(value, str | Integral):
        return value if isinstance(value, str | bool) else int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _parsed(line: bytes) -> dict[str, Any]:
    """A line's object; empty where it is none."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}
