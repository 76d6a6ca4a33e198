"""What tasks remember of texts is forgotten, so that a benchmark times the work and not the memory of it."""

from __future__ import annotations

import sys
from functools import _lru_cache_wrapper

from refiner_env.tasks import worlds


def forget() -> None:
    """Empty every cache of refiner_env."""
    for name, module in list(sys.modules.items()):
        if name.startswith("refiner_env."):
            for value in vars(module).values():
                if isinstance(value, _lru_cache_wrapper):
                    value.cache_clear()
    worlds.forget()
