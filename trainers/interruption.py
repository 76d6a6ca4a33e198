"""SIGTERM and Ctrl-C: training ends after the present step, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from trainers.processes import total


class Interrupted(KeyboardInterrupt):
    """Training was told to stop and did.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, step: int, folder: Path | None) -> None:
        self.number = number
        kept = f"the checkpoint in {folder} goes on from there with --resume" if folder else "nothing was kept"
        super().__init__(f"{signal.Signals(number).name} after step {step}: {kept}.")


class Interruption:
    """Takes note of the first SIGTERM or Ctrl-C inside; the second Ctrl-C ends at once, as ever."""

    def __init__(self) -> None:
        self._received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self) -> int | None:
        """The signal that some process has received; all hear of it after the same step."""
        anyone = total(self._received)[0]
        return self._received or (signal.SIGTERM if anyone else None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number
