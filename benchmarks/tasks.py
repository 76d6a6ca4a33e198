"""`python -m benchmarks.tasks`: how fast problems are made and judged on one core, and that a stream needs no memory.

For each task and level: problems generated, perturbed and diagnosed a second (one wrong hypothesis for each), the
first and the last together, and the peak memory after a tenth and at the end of a long stream of problems.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from data.negatives import critic_pairs
from refiner_env.tasks import TASKS
from refiner_env.types import Task


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=5_000, help="problems for each rate (default: %(default)s)")
    parser.add_argument("--stream", type=int, default=0, help="problems of the stream (default: none)")
    args = parser.parse_args(argv)
    columns = ("task", "level", "generate", "perturb", "diagnose", "generate and diagnose", "10,000 critic rows")
    table = Table(*columns, title="Problems a second on one core; the last column in seconds")
    for name in TASKS.names():
        task = TASKS.resolve(name)()
        for level in task.levels:
            table.add_row(name, level, *(f"{figure:,.0f}" for figure in rates(task, level, args.n)))
    console = Console()
    console.print(table)
    if args.stream:
        for name in TASKS.names():
            early, late = stream_memory(TASKS.resolve(name)(), args.stream)
            console.print(f"{name}: {early:,.0f} MiB after {args.stream // 10:,} problems, {late:,.0f} after all.")
    return 0


def rates(task: Task[Any], level: str, n: int) -> tuple[float, float, float, float, float]:
    """Problems a second: generated, perturbed, diagnosed, generated and diagnosed; and seconds for 10,000 critic rows.

    CPU seconds of this process, so that others on the machine disturb little.
    """
    rng = random.Random(0)
    task.diagnose(problem := task.generate(0, 0, level), task.perturb(problem, rng))  # imports and first caches

    def seconds(work: Callable[[], object]) -> float:
        gc.collect()
        gc.freeze()  # what this benchmark keeps is not to be searched for garbage
        started = time.process_time()
        work()
        return time.process_time() - started

    problems = [task.generate(1, i, level) for i in range(n)]
    generating = seconds(lambda: deque((task.generate(2, i, level) for i in range(n)), maxlen=0))
    wrong: list[str] = []
    perturbing = seconds(lambda: wrong.extend(task.perturb(p, rng) for p in problems))
    diagnosing = seconds(lambda: deque(map(task.diagnose, problems, wrong), maxlen=0))
    others = [task.generate(3, i, level) for i in range(n)]
    rows = seconds(lambda: critic_pairs(task, others, rng, no_hint_share=0.25)) * 10_000 / n
    return n / generating, n / perturbing, n / diagnosing, n / (generating + diagnosing), rows


def stream_memory(task: Task[Any], n: int) -> tuple[float, float]:
    """Peak memory of the process in MiB after a tenth of `n` generated and diagnosed problems, and after all."""
    early = 0.0
    for i in range(n):
        problem = task.generate(3, i)
        task.diagnose(problem, problem.gold or "")
        if i == n // 10:
            early = _peak()
    return early, _peak()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
