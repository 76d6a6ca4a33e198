"""Several processes train as one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from several_processes import trainings

Seen = dict[str, Any]
LEARNED = ["warm start", "interrupted", "one problem", "not finite", "critic", "refiner", "critic-rl"]
DRAWN = ["refiner, noisy critic", "critic-rl, scripted editor"]
PPO = ["ppo", "ppo of one problem"]
SHARDED = ["interrupted", "not finite", "critic", "refiner", "critic-rl"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What one process came to, on one thread as the others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return trainings(tmp_path_factory.mktemp("alone"))
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """What each of two processes came to."""
    return in_two_processes(tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """What each of two processes came to that have half of the model each."""
    accelerate = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    return in_two_processes(tmp_path_factory.mktemp("sharded"), *SHARDED, *PPO, **accelerate)


@pytest.fixture(scope="module", params=[2, 3])
def zero(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """The same by DeepSpeed's ZeRO, by stage."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install -e '.[deepspeed]'")
    accelerate = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(request.param)}
    return in_two_processes(tmp_path_factory.mktemp("zero"), *SHARDED, *PPO, **accelerate)


def in_two_processes(folder: Path, *names: str, **environment: str) -> list[Seen]:
    script = Path(__file__).parent / "several_processes.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    subprocess.run([*command, str(folder), *names], check=True, timeout=400, capture_output=True, env=environment)
    return [torch.load(folder / f"seen-{i}.pt", weights_only=False) for i in range(2)]


@pytest.mark.parametrize("name", [*LEARNED, *DRAWN, *PPO])
def test_two_processes_learn_what_one_learns(alone: Seen, together: list[Seen], name: str) -> None:
    same(alone, together, name)


@pytest.mark.parametrize("name", [*SHARDED, *PPO])
def test_a_model_in_shards_learns_what_a_whole_one_learns(alone: Seen, sharded: list[Seen], name: str) -> None:
    same(alone, sharded, name)


@pytest.mark.parametrize("name", [*SHARDED, *PPO])
def test_deepspeed_learns_what_one_process_learns(zero: list[Seen], alone: Seen, name: str) -> None:
    same(alone, zero, name)


def same(alone: Seen, several: list[Seen], name: str) -> None:
    one, (first, second) = alone[name], several
    assert any(row.get("loss") or row.get("reward") for row in one["rows"])
    near_0 = 1e-5 if name in PPO else None  # the first KL is nothing but rounding
    for seen in (first[name], second[name]):
        assert seen["spent"] == one["spent"] and seen["steps"] == one["steps"] and seen["checks"] == one["checks"]
        for row, expected in zip(seen["rows"], one["rows"], strict=True):
            assert row == pytest.approx(expected, rel=1e-4, abs=near_0, nan_ok=True)
        for file, tensors in one["tensors"].items():
            for key, tensor in tensors.items():
                torch.testing.assert_close(seen["tensors"][file][key], tensor, atol=5e-5, rtol=1e-2)
    for key, weights in one["weights"].items():
        assert torch.equal(first[name]["weights"][key], second[name]["weights"][key])
        torch.testing.assert_close(first[name]["weights"][key], weights, atol=5e-5, rtol=1e-2)


def test_the_trainings_learn_something(alone: Seen) -> None:
    assert alone["warm start"]["checks"][-1]["dev"] > 0
    assert alone["critic-rl"]["spent"]["tokens"] > 0


def test_a_signal_to_one_process_stops_all_with_one_checkpoint(alone: Seen, together: list[Seen]) -> None:
    assert all(seen["stopped"] == alone["stopped"] == {"steps": [2], "number": 15} for seen in together)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(alone: Seen, together: list[Seen]) -> None:
    for seen in (alone, *together):
        resumed, straight = seen["interrupted"], seen["uninterrupted"]
        assert resumed["rows"] == straight["rows"] and resumed["spent"] == straight["spent"]
        for file, tensors in straight["tensors"].items():
            for key, tensor in tensors.items():
                torch.testing.assert_close(resumed["tensors"][file][key], tensor)


def test_a_gradient_that_is_not_finite_on_one_process_is_skipped_by_all(alone: Seen, together: list[Seen]) -> None:
    for seen in (alone, *together):
        assert seen["not finite"]["spent"]["skipped"] == 1
        assert seen["not finite"]["steps"] == [1, 3]
        assert len(seen["not finite"]["notices"][0]["problems"]) == 4  # five, one of them twice
    assert together[0]["not finite"]["notices"] == alone["not finite"]["notices"]


def test_all_processes_stop_early_after_the_same_check(alone: Seen, together: list[Seen]) -> None:
    assert alone["patience"]["spent"]["steps"] < 16
    assert all(seen["patience"]["spent"] == alone["patience"]["spent"] for seen in together)


def test_an_error_of_the_main_process_is_everybodys(alone: Seen, together: list[Seen]) -> None:
    assert all(seen["refused"] == alone["refused"] == "said by process 0" for seen in together)
