"""What the guides say, works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from refiner_env import CRITICS
from refiner_env.cli import COMMANDS
from refiner_env.scaffold import write
from refiner_env.testing import CriticContract

ROOT = Path(__file__).parents[1]
GUIDES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of every `refiner` command that stands in a line of its own."""
    return [shlex.split(line, comments=True) for line in re.findall(r"^ {4}(refiner .*)", text, re.MULTILINE)]


@pytest.mark.parametrize("guide", GUIDES)
def test_its_python_runs_top_to_bottom(guide: str, tmp_path: Path) -> None:
    code = blocks(GUIDES[guide], "python")
    for block in code:
        if named := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / named[1]).write_text(block)
    (tmp_path / "guide.py").write_text("\n".join(code))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "guide.py"]  # its tests too
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == (0 if "class Test" in "".join(code) else 5), done.stdout  # 5: there is no test


@pytest.mark.parametrize("guide", GUIDES)
def test_its_commands_exist(guide: str) -> None:
    assert {words[1] for words in commands(GUIDES[guide])} <= set(COMMANDS)


@pytest.mark.parametrize("guide", GUIDES)
def test_its_links_lead_somewhere(guide: str) -> None:
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", GUIDES[guide]):
        assert (ROOT / "docs" / target).exists(), target


def test_the_contract_is_listed_whole() -> None:
    listed = re.findall(r"^\| `(test_\w+)`", GUIDES["critics.md"], re.MULTILINE)
    assert sorted(listed) == sorted(name for name in dir(CriticContract) if name.startswith("test_"))


def test_every_critic_that_comes_with_refiner_env_is_there() -> None:
    for name in CRITICS.names():
        factory = CRITICS.resolve(name)
        ours = getattr(factory, "__module__", "").startswith("refiner_env.")
        if ours and getattr(factory, "origin", "refiner-env") == "refiner-env":
            assert re.search(rf"`{name}\b", GUIDES["critics.md"]), name


def test_the_package_is_made_as_shown(tmp_path: Path) -> None:
    (name,) = [words[2] for words in commands(GUIDES["critics.md"]) if words[1] == "new-critic"]
    write(name, tmp_path)
    (entry,) = blocks(GUIDES["critics.md"], "toml")
    assert entry in (tmp_path / "pyproject.toml").read_text()
    assert f"pytest refiner-critic-{name}\n" in GUIDES["critics.md"]
