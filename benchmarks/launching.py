"""Several processes of one command on this machine, seen from its terminal as one.

Each is started as torchrun starts them, by environment variables, and joins the others in `trainers.processes`. Unlike
torchrun, a signal leaves them the time to write a checkpoint, and an error is one line. Across machines, torchrun and
`accelerate launch` start `python -m trainers` itself.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from subprocess import DEVNULL, Popen
from types import FrameType

GRACE_S = 30.0
"""What the others have to end by themselves, once one process has failed: they may be waiting for it."""
FORWARDED = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}


def launched() -> bool:
    """Whether this process is one of several that a launcher has started."""
    return "RANK" in os.environ


def launch(command: Sequence[str], count: int) -> int:
    """Run `python COMMAND` in `count` processes, and show what the first prints.

    Returns:
        Its exit status; if another failed first, that one's, and its errors are shown instead. Of a defect, all are.
    """
    from torch._C._distributed_c10d import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # where they find each other
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is here, and the first process need not open one
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    with ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        started: list[Popen[bytes]] = []

        def forward(number: int, frame: FrameType | None) -> None:
            for one in started:
                one.send_signal(FORWARDED[signal.Signals(number)])

        for number in FORWARDED:
            stack.callback(signal.signal, number, signal.signal(number, forward))
        for rank, file in enumerate(errors):
            environment = {**threads, **os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # A group of its own, or Ctrl-C would reach it twice.
            output = None if rank == 0 else DEVNULL
            started.append(
                Popen([sys.executable, *command], env=environment, stdout=output, stderr=file, process_group=0)
            )
        shown = _wait(started)
        defect = started[shown].returncode == 1
        for file in errors if defect else errors[shown : shown + 1]:
            file.seek(0)
            sys.stderr.write(file.read().decode(errors="replace"))
    status = started[shown].returncode
    if status < 0:
        print(f"refiner: process {shown} of {count} was ended by {signal.Signals(-status).name}", file=sys.stderr)
    return status if status >= 0 else 128 - status


def _wait(started: Sequence[Popen[bytes]]) -> int:
    """Wait for all, and return which of them tells how it went: the first to fail, a person's error before others."""
    failed: list[int] = []
    give_up = float("inf")
    while any(one.poll() is None for one in started):
        if failed and time.monotonic() > give_up:
            for one in started:
                one.kill()
        failed += [i for i, one in enumerate(started) if one.poll() and i not in failed]
        if failed:
            give_up = min(give_up, time.monotonic() + GRACE_S)
        time.sleep(0.05)
    failed += [i for i, one in enumerate(started) if one.returncode and i not in failed]
    said = [i for i in failed if started[i].returncode == 2]
    return (said or failed or [0])[0]
