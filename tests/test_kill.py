"""Killed at random moments and resumed, every trainer ends with the weights of the uninterrupted run."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
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


def run(processes: Any, argv: list[str], folder: Path, kill_at: tuple[int, float] | None = None) -> int | None:
    """The exit code of the command; killed, where it still runs, so long after its folder has so many metrics."""
    process = processes.Process(target=work, args=([*argv, "--out", str(folder)],))
    process.start()
    if kill_at:
        while process.is_alive() and len(steps(folder)) < kill_at[0]:
            time.sleep(0.002)
        process.join(kill_at[1])
        process.kill()
    process.join()
    code: int | None = process.exitcode
    return code


def steps(folder: Path) -> list[int]:
    """Those of which there are metrics, a half-written last line left out."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line)["step"] for line in lines]


def test_killed_at_random_moments_it_ends_with_the_same_weights(processes: Any, tmp_path: Path) -> None:
    rng, base, killed = random.Random(0), tmp_path / "base", 0
    small = ["--model", "scratch:tiny", "--train.steps", "1", "--train.batch-size", "2", *DATA]
    assert run(processes, ["generator", *small], base) == 0
    for number, (what, options) in enumerate(COMMANDS.items()):
        whole, cut = tmp_path / f"{what}-whole", tmp_path / f"{what}-cut"
        argv = [what, "--model", str(base), *options, *DATA]
        assert run(processes, argv, whole) == 0
        wanted = KILLS * (number + 1) // len(COMMANDS)

        def resume() -> list[str]:
            return ["--resume"] if (cut / "training.json").exists() else []  # noqa: B023  (called in this round alone)

        while killed < wanted:
            moment = len(steps(cut)) + rng.choice((0, 1, 1, 2)), rng.uniform(0.0, 0.2)
            code = run(processes, [*argv, *resume()], cut, moment)
            assert code in (0, -signal.SIGKILL), what
            if code == 0:
                shutil.rmtree(cut)  # finished before its time: from the beginning
            else:
                killed += 1
        assert run(processes, [*argv, *resume()], cut) == 0
        assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes(), what
        assert steps(cut) == steps(whole) == list(range(1, len(steps(whole)) + 1)), what
        records = [json.loads((folder / "training.json").read_text()) for folder in (whole, cut)]
        for record in records:
            del record["spent"]["wall_s"]
        assert records[0] == records[1], what
        assert not (cut / "checkpoints").exists()
    assert killed == KILLS
