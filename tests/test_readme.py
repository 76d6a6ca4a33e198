"""What the README says, works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from refiner_env.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
