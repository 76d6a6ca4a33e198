"""How a benchmark takes its figures: contenders in turn, ratios with their range, memory in a process of its own."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich import box
from rich.table import Table

T = TypeVar("T")
Row = dict[str, Any]
"""One line of a table and of the JSON file."""
MEBIBYTE = 1 << 20


def now() -> float:
    """Seconds on a clock, once the GPU, where there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = now()
    work()
    return now() - started


def in_turn(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each contender gives in each round; every other round goes backwards, so that nobody is always first."""
    given: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in sorted(contenders, key=list(contenders).index, reverse=bool(number % 2)):
            given[name].append(contenders[name]())
    return given


def ratio(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Median, least and most of two contenders' times, divided round by round."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return [statistics.median(ratios), min(ratios), max(ratios)]


def shown(ratio: Sequence[float]) -> str:
    """The three as `1.17 [1.07, 1.41]`; of a contender against itself nothing."""
    median, least, most = ratio
    return "1" if least == most == 1.0 else f"{median:.2f} [{least:.2f}, {most:.2f}]"


def made(title: str, names: Sequence[str], figures: Sequence[str]) -> Table:
    """A table without lines between columns; figures stand on the right."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def by(key: str, rows: Sequence[Row]) -> list[tuple[Any, list[Row]]]:
    """Neighbouring rows that have the same value there."""
    return [(value, list(same)) for value, same in groupby(rows, key=lambda row: row[key])]


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """What `work` gives in a process that has done nothing else; both travel pickled."""
    with alone() as process:
        return process.submit(work, *arguments).result()


def alone(*cores: int) -> ProcessPoolExecutor:
    """A process of its own, on these cores where any are named."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["trainers.refiner"])  # and with it torch, once for all of them
    return ProcessPoolExecutor(1, context, _settle, (cores,))


def _settle(cores: Sequence[int]) -> None:
    from trainers.progress import quiet_libraries

    quiet_libraries()
    if cores:
        import os

        os.sched_setaffinity(0, cores)
        torch.set_num_threads(len(cores))


def peak(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    """MiB that the work which `prepare` gives takes at most, beyond what was held before; in a process of its own.

    Of the GPU where there is one, else of resident memory.
    """
    return apart(_peak, prepare, *arguments)


def _peak(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    work = prepare(*arguments)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / MEBIBYTE
    with suppress(OSError):  # where the mark cannot be reset, what was held before may have been more for a moment
        Path("/proc/self/clear_refs").write_text("5")
    before = most_resident()
    work()
    return (most_resident() - before) / MEBIBYTE


def most_resident() -> int:
    """Bytes of resident memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
