"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder with the real corpora; tests that need it skip where there is none."""
    root = os.environ.get("REFINER_DATA")
    if not root:
        pytest.skip("REFINER_DATA is not set: it names the folder that holds svamp/train.csv and svamp/dev.csv")
    return Path(root)
