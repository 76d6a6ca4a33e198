"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem

if TYPE_CHECKING:
    from agents.seq2seq import Seq2Seq


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder with the real corpora; tests that need it skip where there is none."""
    root = os.environ.get("REFINER_DATA")
    if not root:
        pytest.skip("REFINER_DATA is not set: it names the folder that holds svamp/train.csv and svamp/dev.csv")
    return Path(root)


@pytest.fixture(scope="session")
def task() -> MathWordProblem:
    return MathWordProblem()


@pytest.fixture(scope="session")
def train(task: MathWordProblem) -> list[Problem]:
    return [task.generate(1, i) for i in range(200)]


@pytest.fixture(scope="session")
def dev(task: MathWordProblem) -> list[Problem]:
    return [task.generate(2, i) for i in range(24)]


@pytest.fixture(scope="session")
def lm(task: MathWordProblem, train: list[Problem]) -> Seq2Seq:
    """An untrained tiny model. Shared: clone it before training."""
    import torch

    from agents.models import open_model

    torch.manual_seed(0)
    model = open_model("scratch:tiny", task, train, dropout=0.1)
    model.max_new_tokens = 40
    return model
