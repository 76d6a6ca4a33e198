"""What decodes models whose weights stay, in evaluation, play and review; a model in training never asks here.

    with frozen("ctranslate2") as used:
        critic = resolve_critic("runs/critic", task)

The back ends themselves are in `agents/decoding.py`, `agents/ctranslate2.py` and `agents/vllm.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from refiner_env.errors import UnknownNameError
from refiner_env.options import option

AUTO = "auto"
FOLLOWING = ("leaving", "transformers", "compiled")
"""Those that decode weights as they are now, and so models in training, too."""
DECODERS = (AUTO, *FOLLOWING, "ctranslate2", "ctranslate2-int8", "vllm")
DECODING = option(
    AUTO, "what decodes the models; auto: ctranslate2 where it can, on a CPU with the extra [fast]", choices=DECODERS
)

Used = dict[str, str]
"""Back ends by name, each with the reason where `auto` took it for want of a faster one."""
_CHOSEN = ContextVar[tuple[str, Used] | None]("chosen", default=None)


@contextlib.contextmanager
def frozen(choice: str) -> Iterator[Used]:
    """Inside, models that are loaded decode as chosen; what they came to decode by is written into what is yielded.

    Raises:
        UnknownNameError: not one of `DECODERS`.
    """
    if choice not in DECODERS:
        raise UnknownNameError("back end", choice, DECODERS)
    used: Used = {}
    token = _CHOSEN.set((choice, used))
    try:
        yield used
    finally:
        _CHOSEN.reset(token)


def told(used: Used) -> str:
    """What models decode by, in a line; "" where there are none."""
    named = [f"{name} ({why})" if why else name for name, why in used.items()]
    return f"Decoded by {' and '.join(named)}." if named else ""


def chosen() -> tuple[str, Used] | None:
    """The choice, and where to write what came of it; None where models may be trained."""
    return _CHOSEN.get()
