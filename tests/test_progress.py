"""Progress: what a person sees, what stands on disk afterwards, and what trackers are told."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate import PartialState, tracking
from rich.console import Console

from benchmarks.train import main
from refiner_env.errors import RefinerError, UnknownNameError
from trainers import progress as module
from trainers import status as status_module
from trainers.progress import SILENT, MetricsFile, Progress
from trainers.status import Status
from trainers.tracking import TrackingOptions, check_trackers, flat, tracked

FIGURES = {"loss": 0.125, "accuracy": 0.4625, **{f"dev_t{t}": 0.5 for t in range(1, 9)}, "skill": "copy", "kl": 1.2e-5}


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(status_module, "time", clock)
    return clock


def console(width: int = 80, terminal: bool = False) -> Console:
    """One that is read by its record."""
    return Console(width=width, force_terminal=terminal, force_interactive=terminal, record=True, file=io.StringIO())


def rows(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


# ----------------------------------------------------------------------------------------------- what is seen


def rendered(status: Status, width: int) -> list[str]:
    screen = console(width, terminal=True)
    screen.print(status)
    return screen.export_text().splitlines()


@pytest.mark.parametrize("name", ["train refiner", "seed 10 supervised_plus_and_more"])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_two_lines_at_any_width_and_none_wraps(clock: Clock, name: str, width: int) -> None:
    status = Status(name)
    assert len(rendered(status, width)) == 2, "before the first update too, or the screen would jump"
    for step in (12_344, 12_345):
        clock.now += 2
        status.update(step / 20_000, {"step": step, **FIGURES, "tokens": step * 98_765})
    lines = rendered(status, width)
    assert len(lines) == 2 and all(len(line) <= width for line in lines)


def test_eighty_columns_show_the_most_important_and_cut_the_tail(clock: Clock) -> None:
    status = Status("train refiner")
    for step in (199, 200):
        clock.now += 1
        status.update(step / 500, {"step": step, **FIGURES, "tokens": step * 12_300})
    first, second = rendered(status, 80)
    assert first.startswith("train refiner ") and first.endswith(" 40%  step 200/500  5:00 left") and "━" in first
    assert second == "  loss 0.125  accuracy 0.463  dev_t1 0.500  dev_t2 0.500  …  12,300 tok/s"
    assert rendered(status, 200)[1].endswith("dev_t8 0.500  skill copy  kl 1.2e-05  12,300 tok/s")


def test_the_time_left_of_a_resumed_stage_is_that_of_its_own_pace(clock: Clock) -> None:
    status = Status("s")
    clock.now += 60  # loading, which is no pace
    status.update(0.4, {})
    assert status.time() == ""
    clock.now += 10
    status.update(0.41, {})
    assert status.time() == "9:50 left"
    clock.now += 5
    assert status.time() == "9:45 left", "it runs between updates"
    clock.now += 3_600
    assert status.time() == "0:00 left"
    status.finish()
    assert status.time() == "in 1:01:15"


def test_the_speed_is_that_of_the_last_half_minute(clock: Clock) -> None:
    status, tokens = Status("s"), 5_000_000  # a resumed stage does not begin at 0 tokens either
    for second in range(120):
        clock.now += 1
        tokens += 100 if second < 60 else 2_000
        status.update(second / 120, {"tokens": tokens})
    assert status.speed == "2,000 tok/s"


def test_the_number_of_steps_is_shown_where_done_counts_in_steps(clock: Clock) -> None:
    def steps(step: int, done: float) -> str:
        status = Status("s")
        status.update(done, {"step": step})
        return status.steps

    assert all(steps(i, i / n) == f"step {i}/{n}" for n in (7, 340, 999) for i in range(1, n + 1))
    assert steps(7, 0.01234) == "step 7" == steps(7, 0.0), "done counts in tokens, or is not known yet"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (-0.25, "-0.250"),
        (12.5, "12.500"),
        (1234.5, "1,234"),
        (1.2e-5, "1.2e-05"),
        (3e9, "3.0e+09"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (12_345, "12,345"),
        ("a\nb", "a b"),
    ],
)
def test_figures_have_a_steady_format(value: Any, text: str) -> None:
    status = Status("s")
    status.update(0.5, {"f": value})
    assert status.figures == [f"f {text}"]


def test_plain_lines_come_every_twenty_seconds(clock: Clock) -> None:
    screen = console()
    with Progress(screen).stage("train refiner") as update:
        for step in range(1, 51):
            clock.now += 1
            update(step / 50, step=step, loss=0.1234, tokens=step * 12_300)
        clock.now += 20
        update(1.0, step=50, loss=0.1234, tokens=70 * 12_300)  # the last comes with the end
    assert screen.export_text().splitlines() == [
        "train refiner: 40%  step 20/50  loss 0.123  12,300 tok/s  0:30 left",
        "train refiner: 80%  step 40/50  loss 0.123  12,300 tok/s  0:10 left",
        "train refiner: done in 1:10  step 50/50  loss 0.123  12,300 tok/s",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_notice_stands_beside_the_figures_and_in_the_metrics(terminal: bool, tmp_path: Path) -> None:
    screen, path = console(80, terminal), tmp_path / "metrics.jsonl"
    with Progress(screen, path).stage("train [x]") as update:
        update.notice("no step yet")
        update(0.5, step=119, loss=1.0)
        update.notice("step 120 skipped: loss is not finite [:smile:]", step=120, skipped=3)
        update(1.0, step=121, loss=2.0)
    text, shown = "step 120 skipped: loss is not finite [:smile:]", screen.export_text()
    assert f"train [x]: {text}\n" in shown
    last = shown.splitlines()[-1]
    assert last == ("  loss 2.000" if terminal else "train [x]: done in 0:00  step 121/121  loss 2.000")
    assert [row for row in rows(path) if "event" in row] == [
        {"stage": "train [x]", "event": "no step yet"},
        {"stage": "train [x]", "event": text, "step": 120, "skipped": 3},
    ]


def test_a_stage_that_fails_is_not_shown_as_done() -> None:
    for terminal in (True, False):
        screen = console(80, terminal)
        with pytest.raises(ZeroDivisionError), Progress(screen).stage("s") as update:
            update(0.25, loss=1 / 0)
        assert "done" not in screen.export_text() and "100%" not in screen.export_text()


def test_other_processes_show_and_keep_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartialState, "is_main_process", property(lambda self: False))
    screen = console()
    options = TrackingOptions(report_to=("tensorboard",))
    with (
        tracked(options, tmp_path, {}, screen) as track,
        Progress(screen, tmp_path / "metrics.jsonl", track).stage("s") as update,
    ):
        update(1.0, step=1, loss=1.0)
        update.notice("seen by nobody")
        update.resume(0)
    assert not list(tmp_path.iterdir()) and not screen.export_text()


TWO_PROCESSES = """
import sys
from pathlib import Path
from accelerate import Accelerator
from trainers.progress import Progress

with Progress(None, Path(sys.argv[1])).stage("s") as update:
    processes = Accelerator().num_processes
    update(1.0, step=1, processes=processes)
"""


def test_of_two_processes_one_keeps_the_figures(tmp_path: Path) -> None:
    script, path = tmp_path / "script.py", tmp_path / "metrics.jsonl"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*launch, str(script), str(path)], env=environment, check=True, capture_output=True, timeout=300)
    assert rows(path) == [{"stage": "s", "done": 1.0, "step": 1, "processes": 2}]


def test_nobody_is_told_where_nobody_listens() -> None:
    SILENT(0.5, step=1)
    SILENT.notice("nothing")
    SILENT.resume(3)


# -------------------------------------------------------------------------------------------- what is on disk


def test_what_is_not_finite_stays_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Progress(None, path).stage("s") as update:
        update(0.5, step=np.int64(3), loss=math.nan, norm=-math.inf, kl=np.float32(0.5), who="oracle", ok=True)
    line = {"stage": "s", "done": 0.5, "step": 3, "loss": None, "norm": None, "kl": 0.5, "who": "oracle", "ok": True}
    assert rows(path) == [line]


def test_a_resumed_stage_drops_what_lies_beyond_its_checkpoint(tmp_path: Path) -> None:
    path, screen = tmp_path / "metrics.jsonl", console()
    progress = Progress(screen, path)
    with progress.stage("other") as update:
        update(1.0, step=9, loss=9.0)
    with progress.stage("s") as update:
        update.resume(0)
        for step in range(1, 6):
            update(step / 10, step=step, loss=float(step))
        update.notice("after five")
    before = rows(path)
    with path.open("a") as file:
        file.write('{"stage": "s", "done": 0.6, "st')
    with progress.stage("s") as update:
        update.resume(3)
        assert rows(path) == before[:4]
        update(0.4, step=4, loss=40.0)
    assert rows(path) == [*before[:4], {"stage": "s", "done": 0.4, "step": 4, "loss": 40.0}]
    assert list(tmp_path.iterdir()) == [path]
    assert [line for line in screen.export_text().splitlines() if "goes on" in line] == ["s: goes on from step 3"]


def test_a_resumed_stage_keeps_lines_that_it_cannot_read_but_the_last(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"stage": "s", "step": 1}\n\xff half\n[]\n{"stage": "s", "step": 2}\n{"stage')
    MetricsFile(path).resume("s", 1)
    assert path.read_bytes() == b'{"stage": "s", "step": 1}\n\xff half\n[]\n'
    MetricsFile(tmp_path / "new.jsonl").resume("s", 1)
    assert (tmp_path / "new.jsonl").read_bytes() == b""


@contextlib.contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file can grow beyond this many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_the_metrics_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Progress(None, path).stage("s") as update:
        update(0.1, step=1)
        update(0.2, step=2)
        before = path.read_bytes()
        with (
            full_after(len(before) + 10),
            pytest.raises(RefinerError, match=f"^{path} cannot be written: File too large.*$"),
        ):
            update(0.3, step=3)
    assert path.read_bytes() == before
    with full_after(len(before) - 10), pytest.raises(RefinerError, match="File too large"):
        MetricsFile(path).resume("s", 2)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_no_space_left_is_told_with_the_path() -> None:
    with pytest.raises(RefinerError, match="/dev/full cannot be written: No space left"):
        MetricsFile(Path("/dev/full")).append({"stage": "s"})


def test_metrics_that_cannot_be_written_are_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    trained = False
    with pytest.raises(RefinerError, match="cannot be written"), Progress(None, tmp_path / "file/m.jsonl").stage("s"):
        trained = True
    assert not trained


# ------------------------------------------------------------------------------------------ what trackers get


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every scalar in the event files of a folder, by tag: records of TensorFlow's framing."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def run(folder: Path, screen: Console, steps: range, report_to: tuple[str, ...] = ("tensorboard",)) -> None:
    options = TrackingOptions(report_to=report_to)
    with (
        tracked(options, folder, {"what": "refiner", "options": {"seed": 3, "weights": (1.0, 0.5)}}, screen) as track,
        Progress(screen, folder / "metrics.jsonl", track).stage("train refiner") as update,
    ):
        for step in steps:
            loss = math.nan if step == 2 else 1 / step
            update(step / 10, step=step, loss=loss, tokens=step * 100, skill="copy")


def test_tensorboard_has_the_figures_of_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10_000))  # an event file is named by the second
    monkeypatch.setattr("tensorboardX.event_file_writer.time.time", lambda: 1e9 + next(seconds))
    run(tmp_path, console(), range(1, 6))
    run(tmp_path, console(), range(6, 9))
    lines = rows(tmp_path / "metrics.jsonl")
    assert len(lines) == 8
    expected = {
        f"train_refiner/{name}": [(row["step"], pytest.approx(row[name])) for row in lines if row[name] is not None]
        for name in ("done", "loss", "tokens")
    }
    assert events(tmp_path / "tensorboard") == expected
    settings = list(tmp_path.glob("tensorboard/*/hparams.yml"))
    assert len(settings) == 1 and "options.weights: 1.0 0.5" in settings[0].read_text()


class Recorder(tracking.GeneralTracker):
    """A tracker of a service that is not asked. What it was made with and told stands in `made`."""

    requires_logging_directory = False
    made: list[Recorder]

    def __init__(self, project: str, **settings: Any) -> None:
        self.settings, self.told, self.axes = settings, [], []
        self.stored: list[dict[str, Any]] = []
        self.finished = False
        self.made.append(self)

    @property
    def tracker(self) -> Any:
        return SimpleNamespace(define_metric=lambda name, step_metric: self.axes.append((name, step_metric)))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.stored.append(values)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.told.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """wandb and trackio, as recorders."""
    made: list[Recorder] = []
    for name, replaced in (("wandb", "WandBTracker"), ("trackio", "TrackioTracker")):
        monkeypatch.setattr(tracking, replaced, type(replaced, (Recorder,), {"name": name, "made": made}))
    return made


def test_a_resumed_run_goes_on_in_the_same_run_of_a_service(tmp_path: Path, services: list[Recorder]) -> None:
    for first in (1, 4):
        run(tmp_path, console(), range(first, first + 2), ("wandb", "trackio", "wandb"))
    wandb, trackio, wandb_again, trackio_again = services
    assert wandb.settings == wandb_again.settings and wandb.settings["resume"] == "allow"
    assert trackio.settings == {"name": tmp_path.name, "resume": "never"}
    assert trackio_again.settings == {"name": tmp_path.name, "resume": "allow"}
    settings = {"what": "refiner", "options.seed": 3, "options.weights": "1.0 0.5"}
    assert all(service.stored == [settings] and service.finished for service in services)
    other = tmp_path / "other"
    other.mkdir()
    run(other, console(), range(1, 2), ("wandb",))
    assert services[-1].settings["id"] != wandb.settings["id"]


def test_a_services_step_is_the_stages_own(tmp_path: Path, services: list[Recorder]) -> None:
    run(tmp_path, console(), range(1, 2), ("wandb", "trackio"))
    wandb, trackio = services
    figures = {"train_refiner/done": 0.1, "train_refiner/loss": 1.0, "train_refiner/tokens": 100}
    assert trackio.told == [(1, figures)]
    assert wandb.told == [(None, {**figures, "step": 1})] and wandb.axes == [("*", "step")]


def test_a_tracker_that_fails_is_told_of_once_and_training_goes_on(
    tmp_path: Path, services: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Recorder, values: dict[str, Any], **_: Any) -> None:
        if values["step"] > 2:
            raise ConnectionError("no route\nto host")

    monkeypatch.setattr(tracking.WandBTracker, "log", fail)
    monkeypatch.setattr(tracking.TrackioTracker, "finish", fail)
    screen = console()
    run(tmp_path, screen, range(1, 8), ("wandb", "trackio"))
    shown = screen.export_text().splitlines()
    assert [line[:54] for line in shown if "wandb fails" in line] == [
        "wandb fails: ConnectionError: no route to host (test_p"
    ]
    assert "wandb missed 5 updates; metrics.jsonl has them." in shown
    assert any(line.startswith("trackio does not close: TypeError") for line in shown)
    assert len(rows(tmp_path / "metrics.jsonl")) == 7 == len(services[1].told)


def test_a_tracker_that_does_not_start_is_one_line(
    tmp_path: Path, services: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Recorder) -> None:
        raise PermissionError("no key:\nlog in")

    monkeypatch.setattr(tracking.TrackioTracker, "start", start)
    with pytest.raises(RefinerError, match=r"^--report-to trackio does not start: PermissionError: no key: log in .*$"):
        run(tmp_path, console(), range(1, 2), ("wandb", "trackio"))
    assert services[0].finished and not (tmp_path / "metrics.jsonl").exists()


def test_a_missing_package_is_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [])
    for name in ("tensorboard", "wandb", "trackio"):
        with pytest.raises(RefinerError, match=f"^--report-to {name} needs .*: pip install {name}$"):
            main(["generator", "--out", str(tmp_path / "out"), "--report-to", name])
    assert not list(tmp_path.iterdir())
    check_trackers(TrackingOptions())
    with pytest.raises(UnknownNameError, match="Did you mean 'wandb'"):
        main(["generator", "--out", str(tmp_path / "out"), "--report-to", "tensorboard", "wandbb"])


def test_settings_are_flat_for_trackers() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, 2], "f": True, "g": 0.5, "h": "text", "i": {}}
    assert flat(nested) == {"a.b.c": 1, "a.d": "None", "e": "1 2", "f": True, "g": 0.5, "h": "text"}
