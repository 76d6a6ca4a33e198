"""What the README says, works, and so do the official commands of the guide to training."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Any

import pytest
from test_data_formats import CRITIC, LABELLED, OFFICIAL_TEST

from agents.lm import LanguageModel
from refiner_env.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_its_python_runs_top_to_bottom() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 2
    ending = 'assert gym.make("Refiner/MathWordProblem.terse-v0").reset(seed=0)[0]["turn"] == 0\n'
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join([*blocks, ending])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_its_commands_exist() -> None:
    named = set(re.findall(r"^ {4}(?:REFINER_DATA=\S+ )?refiner ([\w-]+)", README, re.MULTILINE))
    assert {"compare", "train", "evaluate", "data"} <= named <= set(COMMANDS)
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^ {4}make (\w+)", README, re.MULTILINE)) <= targets


def official_files(folder: Path) -> None:
    """Files as the official repository has them, with few rows."""
    for part, row, size in (("train", LABELLED, 16), ("val", LABELLED, 2), ("test", OFFICIAL_TEST, 2)):
        rows = [{**row, "Body": f"{part} {i}: {row['Body']}"} for i in range(size)]
        write(folder / f"mwp/critique_{part}.json", rows)
    stories = [{**CRITIC, "id": f"A{i}", "situation": f"Ann is {i} hours late."} for i in range(20)]
    write(folder / "moral_stories/critic_dev_prep.json", stories)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


SMALLER = {
    "google/flan-t5-base": "scratch:tiny",
    "--epochs 10": "--epochs 1",
    "--n-train 1000 --n-dev 5000 --n-test 5000": "--n-train 10 --n-dev 5 --n-test 5",
    "train ppo": "train ppo --token-budget 100",
}


def test_the_official_commands_have_equals_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the table, in its order, with a tiny model and few problems."""
    variables = dict(re.findall(r'^ {4}([A-Z]+)="(.*)"$', TRAINING, re.MULTILINE))
    commands = re.findall(r"^\|.*\| `refiner (.*)` \|$", TRAINING, re.MULTILINE)
    assert len(commands) == 10
    official_files(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    real = LanguageModel.__init__
    monkeypatch.setattr(
        LanguageModel, "__init__", lambda *args, **kwargs: real(*args, **{**kwargs, "max_new_tokens": 8})
    )
    for command in commands:
        text = Template(command).substitute(variables)
        for usual, smaller in SMALLER.items():
            text = text.replace(usual, smaller)
        assert main(shlex.split(text)) == 0, command
    made = {path.parent.name for path in tmp_path.glob("runs/*/training.json")}
    assert made == {"warm", "critic", "refined", "adapter", "ppo"}
    assert {path.name for path in tmp_path.glob("data/built-*")} == {"built-mwp", "built-moral", "built-snlr"}
