"""Who may import whom: refiner_env <- data, agents <- trainers <- baselines <- benchmarks, and no other arrow."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "refiner_env": set(),
    "data": {"refiner_env"},
    "agents": {"refiner_env", "data"},
    "trainers": {"refiner_env", "data", "agents"},
    "baselines": {"refiner_env", "data", "agents", "trainers"},
    "benchmarks": {"refiner_env", "data", "agents", "trainers", "baselines"},
    "tests": {"refiner_env", "data", "agents", "trainers", "baselines", "benchmarks"},
}
"""Folder -> the other folders that its files may import."""


def imports(path: Path, folder: str) -> Iterator[tuple[int, str]]:
    """(line, top-level name) of every import of a file, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name.partition(".")[0]) for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, module.partition(".")[0]
            case ast.ImportFrom():
                yield node.lineno, folder
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
                match node.args:
                    case [ast.Constant(value=str(module)), *_]:
                        yield node.lineno, module.partition(".")[0]


def files(root: Path, folder: str) -> list[Path]:
    return sorted((root / folder).rglob("*.py"))


def forbidden(root: Path) -> list[str]:
    """`file:line imports folder` for every arrow that is not allowed, and for files outside the folders."""
    found = [
        f"{path.relative_to(root)}:{line} imports {name}"
        for folder, allowed in ALLOWED.items()
        for path in files(root, folder)
        for line, name in imports(path, folder)
        # A test file is imported by name where it stands (`conftest`), never through `tests`.
        if name in ALLOWED and name not in allowed and (name != folder or name == "tests")
    ]
    return found + [f"{path.name}: no Python file may stand beside the folders" for path in root.glob("*.py")]


def test_only_the_allowed_arrows_exist() -> None:
    assert forbidden(ROOT) == []


def test_every_folder_is_looked_at() -> None:
    assert all(files(ROOT, folder) for folder in ALLOWED)


def test_refiner_env_imports_only_what_its_wheel_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["api"]]
    declared = {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}
    used = {name for path in files(ROOT, "refiner_env") for _, name in imports(path, "refiner_env")}
    assert used - set(sys.stdlib_module_names) - {"refiner_env"} == declared


@pytest.mark.parametrize(
    ("file", "source", "arrow"),
    [
        ("refiner_env/tasks/bad.py", "from data import Corpus", "data"),
        ("refiner_env/bad.py", "import agents.critic as critic", "agents"),
        ("refiner_env/bad.py", "def late():\n    from agents.critic import LearnedCritic", "agents"),
        ("refiner_env/bad.py", "if TYPE_CHECKING:\n    import trainers", "trainers"),
        ("refiner_env/bad.py", "import os, benchmarks", "benchmarks"),
        ("refiner_env/bad.py", "importlib.import_module('baselines.ppo')", "baselines"),
        ("data/bad.py", "from agents import models", "agents"),
        ("agents/bad.py", "from trainers.rollout import play", "trainers"),
        ("trainers/bad.py", "try:\n    import baselines\nexcept ImportError: pass", "baselines"),
        ("baselines/bad.py", "from benchmarks import compare", "benchmarks"),
        ("benchmarks/bad.py", "from tests.conftest import corpora", "tests"),
        ("tests/bad.py", "from tests import test_envs", "tests"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, source: str, arrow: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    (found,) = forbidden(tmp_path)
    assert found.startswith(f"{file}:") and found.endswith(f" imports {arrow}")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("refiner_env/good.py", "from refiner_env.types import Task\nfrom . import types\nimport numpy, json"),
        ("data/good.py", "from refiner_env.types import Problem\nfrom data.corpus import Corpus"),
        ("agents/good.py", "import data\nimport refiner_env"),
        ("benchmarks/good.py", "import refiner_env, data, agents, trainers, baselines, benchmarks"),
        ("tests/good.py", "import benchmarks\nfrom agents.critic import LearnedCritic"),
        ("refiner_env/good.py", "import database, agents_of_change"),
    ],
)
def test_an_allowed_import_is_left_alone(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert forbidden(tmp_path) == []


def test_a_file_beside_the_folders_is_found(tmp_path: Path) -> None:
    (tmp_path / "loose.py").write_text("")
    assert forbidden(tmp_path) == ["loose.py: no Python file may stand beside the folders"]
