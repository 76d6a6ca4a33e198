"""`refiner new-critic` writes a package that works as soon as it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from refiner_env.cli import main

ROOT = Path(__file__).parents[1]
NAME = "un.used"
PACKAGE = "refiner-critic-un-used"


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a folder, with what is installed in its `site`."""
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True)


def entry_point(site: Path, package: str, name: str, value: str) -> None:
    """What an installer leaves of a package's entry point."""
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[refiner_env.critics]\n{name} = {value}\n")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, and `site` where it is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    made = python(folder, "-m", "refiner_env.cli", "new-critic", NAME)
    assert made.returncode == 0, made.stderr
    for line in made.stdout.splitlines()[:4]:
        assert (folder / line.removeprefix("wrote ")).is_file()
    assert made.stdout.splitlines()[-2:] == [f"  pip install -e '{PACKAGE}[test]'", f"  pytest {PACKAGE}"]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", "site"]
    done = python(folder, "-m", "pip", "install", *options, f"./{PACKAGE}")
    assert done.returncode == 0, done.stderr
    return folder


def test_its_environments_are_there_after_one_import(installed: Path) -> None:
    code = f"""
import gymnasium as gym
for task in ("MathWordProblem", "SyntheticReasoning", "MoralStories"):
    env = gym.make(f"refiner_env:Refiner/{{task}}.{NAME}-v0")
    env.reset(options={{"index": 1}})
    print(env.step("#0: add ( number0, number1 ) | EOS")[0]["feedback"])
"""
    run = python(installed, "-W", "error", "-c", code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "Look again at the question: number2 is not used."
    assert len(run.stdout.splitlines()) == 3


def test_its_own_test_passes(installed: Path) -> None:
    run = python(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", PACKAGE)
    assert run.returncode == 0 and "11 passed" in run.stdout, run.stdout


def test_it_is_listed_with_its_distribution_and_version(installed: Path) -> None:
    run = python(installed, "-m", "refiner_env.cli", "envs")
    assert run.returncode == 0, run.stderr
    (row,) = [line for line in run.stdout.splitlines() if line.startswith(f"│ {NAME} ")]
    assert f"{PACKAGE} 0.1.0" in row and "Says what shows without gold" in row
    assert f"Refiner/MoralStories.{NAME}-v0" in run.stdout


def test_its_files_are_tidy(installed: Path) -> None:
    for command in (["check", "--select", "E,F,W,I,UP,B,RUF"], ["format", "--check"]):
        arguments = ["-m", "ruff", *command, "--isolated", "--line-length", "120", "."]
        run = python(installed / PACKAGE, *arguments)
        assert run.returncode == 0, run.stdout


# ------------------------------------------------------------------------------------- mistakes of a person


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my critic", "The critic name 'my critic' makes no package: .* as in 'my-critic'"),
        ("3d", "start with a letter"),
        ("../up", "as in 'up'"),
        ("é", "as in 'my-critic'"),
        ("ends.", "end with a letter or digit, as in 'ends'"),
        ("two\nlines", r"'two\\nlines' makes no package"),
        ("oracle", "There is a critic 'oracle': choose another name than api, "),
        ("x" * 300, "cannot be written: File name too long"),
    ],
)
def test_a_bad_name_is_one_line(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-critic", name]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert re.search(said, printed.err)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    for out in (tmp_path, tmp_path / "README.md"):
        assert main(["new-critic", "mine", "--out", str(out)]) == 2
        assert f"--out {out} is there and not empty" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    assert main(["new-critic", "mine", "--out", str(tmp_path / "README.md" / "below")]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    assert main(["new-critic", "mine", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "pyproject.toml", "src", "tests"]


# -------------------------------------------------------------------------------- packages that are not well


def test_a_broken_package_breaks_nothing_until_it_is_used(tmp_path: Path) -> None:
    site = tmp_path / "site"
    entry_point(site, "critics-of-nowhere", "nowhere", "no_such_module:Critic")
    entry_point(site, "critics-that-raise", "raising", "raising_critics:Critic")
    (site / "raising_critics.py").write_text("raise RuntimeError('[/red] no\\nlicence')")
    code = """
import warnings
warnings.simplefilter("error")
import gymnasium as gym
from refiner_env.errors import RefinerError
gym.make("refiner_env:Refiner/MathWordProblem-v0").reset()
for name in ("nowhere", "raising"):
    try:
        gym.make(f"Refiner/MathWordProblem.{name}-v0")
    except RefinerError as error:
        print(error)
"""
    run = python(tmp_path, "-c", code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "A critic of critics-of-nowhere 1.0 cannot be loaded: "
        "Cannot load 'no_such_module:Critic': no module 'no_such_module' here.",
        "A critic of critics-that-raise 1.0 cannot be loaded: "
        "Cannot load 'raising_critics:Critic': RuntimeError: [/red] no licence (raising_critics.py, line 1).",
    ]
    listed = python(tmp_path, "-m", "refiner_env.cli", "envs")
    assert listed.returncode == 0, listed.stderr
    (row,) = [line for line in listed.stdout.splitlines() if line.startswith("│ raising ")]
    assert "critics-that-raise 1.0" in row and "RuntimeError: [/red] no licence" in row


def test_names_that_are_taken_or_impossible_are_left_out_with_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    entry_point(site, "critics-of-others", "oracle", "json:loads")
    entry_point(site, "critics-unnameable", "my critic", "json:loads")
    run = python(tmp_path, "-c", "import refiner_env; print(refiner_env.CRITICS.resolve('oracle'))")
    assert run.stdout == "<class 'refiner_env.critics.basic.OracleCritic'>\n"
    assert "The critic 'oracle' of critics-of-others 1.0 is left out: The critic name 'oracle' is taken" in run.stderr
    assert "The critic 'my critic' of critics-unnameable 1.0 is left out" in run.stderr


def test_unreadable_entry_points_leave_the_rest_whole(tmp_path: Path) -> None:
    entry_point(tmp_path / "site", "critics-garbled", "x", "json:loads\nno entry point")
    run = python(tmp_path, "-c", "import refiner_env; refiner_env.RefinerEnv().reset()")
    assert run.returncode == 0, run.stderr
    assert "Critics of installed packages are left out: TypeError" in run.stderr
