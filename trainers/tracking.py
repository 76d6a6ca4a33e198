"""Figures of training in experiment trackers (TensorBoard, Weights & Biases, Trackio), through accelerate's own."""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from refiner_env.errors import RefinerError, reason
from refiner_env.options import option
from trainers.progress import Track, is_main_process, say

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

TRACKERS = ("tensorboard", "wandb", "trackio")
"""Each the name of its package, too."""
PROJECT = "refiner-env"
"""The project of Weights & Biases and of Trackio that runs are filed under."""
RUN_ID = "run-id.txt"
"""The file of the output folder by which a resumed run finds its own in the trackers."""


@dataclass(frozen=True)
class TrackingOptions:
    """Where figures go besides metrics.jsonl."""

    report_to: tuple[str, ...] = option(("none",), "trackers that get every figure too", choices=("none", *TRACKERS))
    run_name: str = option("", "the run's name in wandb and trackio; the output folder's where none is given")

    def trackers(self) -> list[str]:
        """Those that are named, each once."""
        return [name for name in TRACKERS if name in self.report_to]


NO_TRACKING = TrackingOptions()


def check_trackers(options: TrackingOptions) -> None:
    """Refuse a tracker that is not installed, before anything is trained.

    Raises:
        RefinerError: a package is missing.
    """
    if not options.trackers():
        return
    from accelerate import tracking

    available = set(map(str, tracking.get_available_trackers()))
    for name in options.trackers():
        if name not in available:
            raise RefinerError(f"--report-to {name} needs a package that is not installed: pip install {name}")


@contextlib.contextmanager
def tracked(options: TrackingOptions, folder: Path, settings: Mapping[str, Any], console: Console) -> Iterator[Track]:
    """A run in the trackers, of the main process alone; yields what takes its figures.

    A run of the same folder goes on in the same run of a tracker. Once it has started, a tracker that fails is
    warned of and its misses are counted, but nothing stops.

    Args:
        folder: the output folder; TensorBoard's files come into its `tensorboard`.
        settings: what the run is made with, nested as it likes.
        console: where to warn.

    Raises:
        RefinerError: a tracker does not start.
    """
    trackers: list[GeneralTracker] = []
    missed: Counter[str] = Counter()

    def track(figures: Mapping[str, float], step: int) -> None:
        for tracker in trackers:
            try:
                _log(tracker, figures, step)
            except Exception as error:  # whatever a library or a network does
                if not missed[tracker.name]:
                    why = f"{tracker.name} fails: {reason(error)}"
                    say(console, f"{why}. Training goes on; metrics.jsonl has every figure.")
                missed[tracker.name] += 1

    try:
        if options.trackers() and is_main_process():
            trackers.extend(_started(options, folder, settings))
        yield track
    finally:
        for tracker in trackers:
            try:
                tracker.finish()
            except Exception as error:
                say(console, f"{tracker.name} does not close: {reason(error)}.")
            if missed[tracker.name]:
                say(console, f"{tracker.name} missed {missed[tracker.name]} updates; metrics.jsonl has them.")


def _started(options: TrackingOptions, folder: Path, settings: Mapping[str, Any]) -> Iterator[GeneralTracker]:
    id_file = folder / RUN_ID
    resumed = id_file.exists()
    if not resumed:
        id_file.write_text(secrets.token_hex(4) + "\n")
    run_id = id_file.read_text().strip()
    for name in options.trackers():
        tracker = _tracker(name, options.run_name or folder.resolve().name, folder, run_id, resumed)
        try:
            tracker.start()
            if name == "wandb":  # its own steps only grow; ours begin again with every stage
                tracker.tracker.define_metric("*", step_metric="step")
            if name != "tensorboard" or not resumed:  # it would store them once more, Trackio would lose them
                tracker.store_init_configuration(flat(settings))
        except Exception as error:
            raise RefinerError(f"--report-to {name} does not start: {reason(error)}.") from None
        yield tracker


def _tracker(name: str, run_name: str, folder: Path, run_id: str, resumed: bool) -> GeneralTracker:
    from accelerate import tracking

    if name == "tensorboard":
        return tracking.TensorBoardTracker("tensorboard", folder)
    if name == "wandb":
        return tracking.WandBTracker(PROJECT, name=run_name, id=run_id, resume="allow", dir=str(folder))
    return tracking.TrackioTracker(PROJECT, name=run_name, resume="allow" if resumed else "never")


def _log(tracker: GeneralTracker, figures: Mapping[str, float], step: int) -> None:
    if tracker.name == "wandb":
        tracker.log({**figures, "step": step})
    else:
        tracker.log(dict(figures), step=step)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested settings by dotted names, as trackers want hyperparameters: what is no number or text is told as text."""
    found: dict[str, bool | int | float | str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            found[prefix + key] = " ".join(map(str, value))
        else:
            found[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
