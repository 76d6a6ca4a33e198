"""The `refiner` command: light to start, clear when it is misused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

import refiner_env
from refiner_env import cli
from refiner_env.cli import COMMANDS, main
from refiner_env.critics import CRITICS
from refiner_env.rewards import REWARDS
from refiner_env.types import Critic, Feedback, Problem

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "trl", "datasets", "accelerate", "pandas", "scipy", "matplotlib")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)


def one_line_of_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The only thing printed: one line on stderr."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("refiner: ") and printed.err.endswith("\n") and printed.err.count("\n") == 1
    return printed.err


def fake_command(monkeypatch: pytest.MonkeyPatch, folder: Path, module: str, source: str | None = None) -> None:
    """Make `refiner train` load `module`, written under `folder` if a source is given."""
    monkeypatch.setitem(COMMANDS, "train", (module, "a stand-in"))
    monkeypatch.syspath_prepend(folder)
    if source is not None:
        (folder / f"{module}.py").write_text(source)


# ------------------------------------------------------------------------------------------------ lightness


@pytest.mark.parametrize(
    "code",
    [
        "import refiner_env",
        "import gymnasium as g, refiner_env; e = g.make('Refiner/MathWordProblem-v0'); e.reset(seed=0); e.step('x')",
        "import runpy, sys; sys.argv = ['refiner', '--help']\n"
        "try: runpy.run_module('refiner_env.cli', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stop: assert not stop.code",
        "from refiner_env.cli import main; assert main(['envs']) == 0",
        "import io, sys; sys.stdin = io.StringIO('x\\nq'); from refiner_env.cli import main; main(['play', 'mwp'])",
        "import refiner_env.replaying",
        "from refiner_env.cli import main\n"
        "try: main(['data', '--help'])\n"
        "except SystemExit as stop: assert not stop.code",
    ],
    ids=["import", "environment", "help", "envs", "play", "replay", "data help"],
)
def test_no_heavy_library_is_imported(code: str) -> None:
    run = python("-c", f"{code}\nimport sys; print('HEAVY', sorted({set(HEAVY)} & set(sys.modules)))")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "HEAVY []"


# --------------------------------------------------------------------------------------------------- usage


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert usage.startswith("usage: refiner COMMAND")
    for name, (_, text) in COMMANDS.items():
        assert any(line.split() == [name, *text.split()] for line in usage.splitlines()), name
    assert main(["-h"]) == 0 and capsys.readouterr().out == usage


def test_no_command_prints_the_usage_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: refiner COMMAND" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"refiner-env {refiner_env.__version__}\n"


@pytest.mark.parametrize(("module", "text"), COMMANDS.values(), ids=list(COMMANDS))
def test_every_command_has_its_module(module: str, text: str) -> None:
    assert text and (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


# -------------------------------------------------------------------------------------------------- errors


def test_an_unknown_command_gets_the_closest_and_status_2() -> None:
    run = python("-m", "refiner_env.cli", "comapre")
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr == (
        "refiner: Unknown command 'comapre'. Did you mean 'compare'? "
        "Known: bench, compare, critics, data, envs, evaluate, merge, new-critic, play, pretrain, replay, train.\n"
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["trian"], "Did you mean 'train'"),
        (["two\nlines"], r"Unknown command 'two\nlines'"),
        (["data", "--n-train", "-1"], "n-train is -1: it must be at least 0."),
        (["data", "--dev-share", "2"], "--dev-share is 2.0: it must be between 0 and 0.9."),
        (["data", "--source", "svmap"], "Did you mean 'svamp'"),
        (["data", "--source", "no/such/file.py:problems"], "no such file"),
    ],
)
def test_errors_are_one_line_and_status_2(argv: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert said in one_line_of_error(capsys)


def test_missing_corpora_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("REFINER_DATA", raising=False)
    assert main(["data", "--source", "svamp"]) == 2
    assert "REFINER_DATA is not set" in one_line_of_error(capsys)


def test_an_interrupt_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_command(monkeypatch, tmp_path, "interrupted_command", "def main(argv): raise KeyboardInterrupt")
    assert main(["train"]) == 130
    assert one_line_of_error(capsys) == "refiner: interrupted\n"


def test_a_command_gets_its_arguments_and_gives_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(monkeypatch, tmp_path, "counting_command", "def main(argv): return len(argv)")
    assert main(["train", "a", "--b", "c"]) == 3


def test_outside_a_checkout_a_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "CHECKOUT_PACKAGES", ("no_such_folder",))
    fake_command(monkeypatch, tmp_path, "no_such_folder.train")
    assert main(["train"]) == 2
    assert "runs from a checkout" in one_line_of_error(capsys)


def test_a_missing_library_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_command(monkeypatch, tmp_path, "needy_command", "import no_such_library")
    assert main(["train"]) == 2
    error = one_line_of_error(capsys)
    assert "'no_such_library'" in error and "pip install -e '.[train]'" in error


def test_a_package_of_the_same_name_is_named_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "CHECKOUT_PACKAGES", ("shadowing",))
    (tmp_path / "shadowing").mkdir()
    (tmp_path / "shadowing" / "__init__.py").write_text("")
    fake_command(monkeypatch, tmp_path, "some_command", "import shadowing.part")
    assert main(["train"]) == 2
    assert str(tmp_path / "shadowing") in one_line_of_error(capsys)


def test_a_defect_of_our_own_is_not_taken_for_a_mix_up_of_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_command(monkeypatch, tmp_path, "broken_command", "from data import no_such_name")
    with pytest.raises(ImportError, match="no_such_name"):
        main(["train"])


# ---------------------------------------------------------------------------------------------------- envs


def test_envs_lists_ids_critics_and_rewards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    printed = capsys.readouterr().out
    for name in [*(id for id in gym.registry if id.startswith("Refiner/")), *CRITICS.names(), *REWARDS.names()]:
        assert name in printed


def test_envs_lists_critics_and_rewards_without_docstrings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terse(Critic):
        def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
            return []

    id = "Refiner/MathWordProblem.terse-v0"
    monkeypatch.setattr(CRITICS, "_entries", {**CRITICS._entries, "terse": lambda task: Terse()})
    monkeypatch.setattr(REWARDS, "_entries", {**REWARDS._entries, "nil": lambda problem, hypothesis, scores: 0.0})
    monkeypatch.setitem(gym.registry, id, EnvSpec(id, kwargs={"task": "MathWordProblem", "critic": "terse"}))
    assert main(["envs"]) == 0
    printed = capsys.readouterr().out
    assert id in printed and "nil" in printed
