"""Several processes of one command look like one."""

from __future__ import annotations

import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest

from benchmarks.launching import launch
from benchmarks.train import main
from refiner_env.errors import OptionError
from refiner_env.trust import TRUST, remote_code
from trainers.processes import processes

RANK = "import os, sys; rank = int(os.environ['RANK']); "


def test_all_run_and_the_first_is_seen(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = RANK + f"open('{tmp_path}/' + str(rank), 'w').write(os.environ['WORLD_SIZE']); print('said by', rank)"
    assert launch(["-c", code], 2) == 0
    assert capfd.readouterr().out == "said by 0\n"
    assert [(tmp_path / name).read_text() for name in "01"] == ["2", "2"]


@pytest.mark.parametrize("who", ["True", "rank == 0", "rank == 1"])
def test_an_error_is_told_once(capfd: pytest.CaptureFixture[str], who: str) -> None:
    code = RANK + f"print('refiner: wrong' if {who} else 'other', file=sys.stderr); sys.exit(2 if {who} else 1)"
    assert launch(["-c", code], 2) == 2
    assert capfd.readouterr().err == "refiner: wrong\n"


def test_a_process_that_was_killed_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(["-c", RANK + "os.kill(os.getpid(), 9 * rank)"], 2) == 137
    assert capfd.readouterr().err == "refiner: process 1 of 2 was ended by SIGKILL\n"


def test_others_that_hang_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.launching.GRACE_S", 0.2)
    assert launch(["-c", RANK + "import time; rank and sys.exit(2); time.sleep(60)"], 2) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_all_once(tmp_path: Path, number: signal.Signals) -> None:
    code = RANK + (
        "import signal, time; seen = []\n"
        f"signal.signal({int(number)}, lambda n, f: seen.append(n))\n"
        f"open('{tmp_path}/' + str(rank), 'w')\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.1); sys.exit(100 + len(seen))"
    )

    def send() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    sender = Thread(target=send)
    sender.start()
    before = signal.getsignal(number)
    assert launch(["-c", code], 2) == 101
    assert signal.getsignal(number) is before
    sender.join()


def test_threads_are_shared_out_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    code = RANK + "sys.exit(100 + int(os.environ['OMP_NUM_THREADS']))"
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert launch(["-c", code], 2) == 103
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert launch(["-c", code], 2) == 105


def test_the_command_starts_itself_unless_it_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("benchmarks.train.launch", lambda command, count: started.append([*command, str(count)]) or 7)
    words = ["generator", "--out", str(tmp_path / "out"), "--num-processes", "2"]
    assert main(words) == 7
    with remote_code(True):
        assert main(words) == 7
    assert started == [["-m", "trainers", *words, "2"], ["-m", "trainers", *words, TRUST, "2"]]
    with pytest.raises(OptionError, match="--num-processes is 0: it must be at least 1"):
        main([*words[:-1], "0"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM is not supported"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "say --run.precision bf16"),
        ({"ACCELERATE_GRADIENT_CLIPPING": "1.0"}, "say --run.clip"),
        ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": "0"}, "is 0, not 1 or 2 or 3: give zero_stage"),
        ({"ACCELERATE_DEEPSPEED_CONFIG_FILE": "ds.json"}, "is ds.json, not none: say in accelerate's own file"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "give fsdp_version: 2"),
    ],
)
def test_settings_that_are_not_supported_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=told):
        processes.__wrapped__()


def test_deepspeed_is_asked_for_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr("trainers.processes.find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"accelerate asks for DeepSpeed: pip install -e '\.\[deepspeed\]'"):
        processes.__wrapped__()


@pytest.mark.parametrize("by", ["FSDP", "DeepSpeed"])
def test_what_cannot_be_sharded_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{by.upper()}", "true")
    out = ["--out", str(tmp_path / "out")]
    with pytest.raises(OptionError, match=f"--adapter.bits 4 cannot be sharded: start it without {by}"):
        main(["critic", "--lora", "--adapter.bits", "4", *out])
    if by == "FSDP" or find_spec("deepspeed"):
        with pytest.raises(OptionError, match=f"ask for {by}: start it by accelerate or --num-processes"):
            processes.__wrapped__()
