"""Whether Python code that comes with a model may be run: not unless the person at the keyboard says so.

    with remote_code(True):
        load_model("somebody/model-of-its-own-kind")

Every command takes `--trust-remote-code`, as a model may be named wherever a critic is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

TRUST = "--trust-remote-code"
_TRUSTED = ContextVar("trusted", default=False)


@contextlib.contextmanager
def remote_code(trusted: bool) -> Iterator[None]:
    """Inside, models that are loaded may run code that comes with them, if `trusted`."""
    token = _TRUSTED.set(trusted)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def is_trusted() -> bool:
    """Whether such code may be run."""
    return _TRUSTED.get()
