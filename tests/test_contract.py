"""Every critic that comes with refiner_env holds to the contract that plug-ins inherit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from refiner_env.critics import HumanCritic
from refiner_env.testing import CriticContract
from refiner_env.types import Critic, Task


class TestOracle(CriticContract):
    spec = "oracle"


class TestNone(CriticContract):
    spec = "none"


class TestExecution(CriticContract):
    spec = "execution"


class TestNoisy(CriticContract):
    spec = "noisy(oracle, 0.5)"


class TestScalar(CriticContract):
    spec = "scalar"


class TestTyped(CriticContract):
    spec = "typed"


class TestConsensus(CriticContract):
    spec = "consensus"


class TestTimed(CriticContract):
    spec = "timed(noisy)"


class TestCached(CriticContract):
    spec = "cached(oracle)"


class TestHuman(CriticContract):
    """A person who says the same of everything."""

    def critic(self, task: Task[Any]) -> Critic:
        return HumanCritic(task, lambda prompt: "Look again.", Console(quiet=True))


class TestApi(CriticContract):
    """A model at the end of a line, here one on this machine (conftest) that always answers alike."""

    spec = "api"
    size = 2


class TestLearned(CriticContract):
    """The base model, which writes nonsense."""

    spec = "learned"
    size = 1

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        """A model this small gains nothing from more, and several wait for each other on a busy machine."""
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


class TestSelf(TestLearned):
    """The same, asked in many words: one task, as it takes its time to read them."""

    spec = "self"
    tasks = ("MathWordProblem",)
