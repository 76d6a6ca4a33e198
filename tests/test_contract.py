"""Every critic that comes with refiner_env holds to the contract that plug-ins inherit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refiner_env.testing import CriticContract


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
