"""Killed at random moments and resumed, every trainer ends with the weights of the uninterrupted run."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

KILLS = 20
DATA = ["--data.n-train", "30", "--data.n-dev", "3", "--data.n-test", "3", "--run.checkpoint-every", "1"]
COMMANDS = {
    "generator": ["--train.steps", "12", "--train.batch-size", "3"],
    "critic": ["--train.steps", "8", "--train.batch-size", "3"],
    "critic-rl": ["--train.steps", "6", "--train.batch-size", "2", "--train.samples", "2"],
    "refiner": ["--train.steps", "6", "--train.batch-size", "3", "--train.turns", "2"],
    "ppo": ["--token-budget", "2500", "--train.batch-size", "4"],
}
SHORT = 8
"""Tokens that models write, so that all this takes seconds."""


def work(argv: list[str]) -> None:
    """One `refiner train`, in a process of its own."""
    import torch

    from agents.lm import LanguageModel
    from benchmarks.train import main

    torch.set_num_threads(1)
    LanguageModel.__init__.__kwdefaults__["max_new_tokens"] = SHORT
    main(argv)


@pytest.fixture(scope="module")
def processes() -> Any:
    """Starts processes that have everything imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.train", "trl.experimental.ppo"])
    return context


def run(processes: Any, argv: list[str], kill_after: float | None = None) -> int | None:
    """The exit code of the command, killed after so many seconds where it still runs."""
    process = processes.Process(target=work, args=(argv,))
    process.start()
    process.join(kill_after)
    if process.is_alive():
        process.kill()
    process.join()
    code: int | None = process.exitcode
    return code


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_killed_at_random_moments_it_ends_with_the_same_weights(processes: Any, tmp_path: Path) -> None:
    rng, base, killed = random.Random(0), tmp_path / "base", 0
    small = ["--model", "scratch:tiny", "--train.steps", "1", "--train.batch-size", "2", *DATA]
    assert run(processes, ["generator", "--out", str(base), *small]) == 0
    for number, (what, options) in enumerate(COMMANDS.items()):
        whole, cut = tmp_path / f"{what}-whole", tmp_path / f"{what}-cut"
        argv = [what, "--model", str(base), *options, *DATA]
        started = time.monotonic()
        assert run(processes, [*argv, "--out", str(whole)]) == 0
        took = time.monotonic() - started
        mine = 0
        while mine < KILLS * (number + 1) // len(COMMANDS) - KILLS * number // len(COMMANDS):
            begun = (cut / "training.json").exists()
            resumed = ["--resume"] if begun else ["--overwrite"]
            code = run(processes, [*argv, "--out", str(cut), *resumed], rng.uniform(0.3, 0.9) * took)
            assert code in (0, -signal.SIGKILL)
            if code == 0:  # finished before its time: from the beginning, to be killed earlier
                (cut / "training.json").unlink()
                took *= 0.8
            else:
                mine += 1
        killed += mine
        resumed = ["--resume"] if (cut / "training.json").exists() else []
        assert run(processes, [*argv, "--out", str(cut), *resumed]) == 0
        assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes(), what
        assert steps(cut) == steps(whole) == list(range(1, len(steps(whole)) + 1)), what
        records = [json.loads((folder / "training.json").read_text()) for folder in (whole, cut)]
        for record in records:
            del record["spent"]["wall_s"]
        assert records[0] == records[1], what
        assert not (cut / "checkpoints").exists()
    assert killed == KILLS
