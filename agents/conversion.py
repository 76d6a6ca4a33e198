"""What back ends share that decode a converted model: a cache to keep it in, and a comparison with the model itself."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.decoding import BACKENDS, REFERENCE, Backend, Decoding
from agents.lm import LanguageModel
from refiner_env.errors import OptionError

CACHE = "REFINER_CACHE"
"""The environment variable that names the folder of `cache_folder`."""
PROBES, LENGTH = 8, 16
"""A converted model is asked for so many completions of this length, and for log-probabilities."""
LOOSE = 0.1
"""Where log-probabilities may differ by as much a token, completions may differ, too."""


def cache_folder() -> Path:
    """Where models are kept that can be made again."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE) or Path(home) / "refiner-env")


def kept(lm: LanguageModel, reader: str, write: Callable[[LanguageModel, Path], None]) -> Path:
    """The folder of the converted model in the cache; one that is there is not made again.

    Args:
        reader: what reads it, with its version where that matters.
        write: makes this folder; whatever else it writes beside that is thrown away.

    Raises:
        OptionError: the cache cannot be written.
    """
    cache = cache_folder()
    folder = cache / reader / lm.identity
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
            made = Path(unfinished) / "model"
            write(lm, made)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # another process was faster
                    raise
    except OSError as error:
        raise OptionError(f"{cache} cannot hold a converted model ({error}): name another folder in {CACHE}.") from None
    return folder


def check(backend: Backend, lm: LanguageModel, tolerance: float) -> None:
    """Compare with the model itself on random text.

    Args:
        tolerance: by how much log-probabilities may differ, in nats a token.

    Raises:
        OptionError: they differ by more, or would on other text: scores are to be changed.
    """
    draw, special = random.Random(0), set(lm.tokenizer.all_special_ids)
    plain = [i for i in range(len(lm.tokenizer)) if i not in special]
    prompts, targets = (
        [frame.around(draw.choices(plain, k=draw.randint(4, LENGTH))) for _ in range(PROBES)]
        for frame in (lm.prompt_frame, lm.target_frame)
    )
    greedy = {"do_sample": False, "num_beams": 1, "max_new_tokens": LENGTH, **lm.start}
    if asked := lm.model.generate(**lm.batch(prompts[:1]), **greedy, custom_generate=_processors):
        names = ", ".join(type(processor).__name__ for processor in asked)
        raise OptionError(f"{backend.name} knows no {names}, which the model's generation config asks for.")
    both, decoding = (backend, BACKENDS[REFERENCE]), Decoding(LENGTH)
    here, there = (b.log_probabilities(lm, prompts, targets) for b in both)
    off = max(abs(a - b) / len(target) for a, b, target in zip(here, there, targets, strict=True))
    if not off <= tolerance:
        raise OptionError(f"{backend.name} computes something else than the model: {off:.2g} nats a token.")
    same = sum(map(list.__eq__, *(b.generate(lm, prompts, decoding) for b in both)))
    if tolerance < LOOSE and same < PROBES - 1:
        raise OptionError(f"{backend.name} writes what the model does in {same} of {PROBES} completions alone.")


def _processors(model: Any, input_ids: Any, logits_processor: Any, **_: Any) -> Any:
    """Of all that `generate` has prepared, what changes the model's scores."""
    return logits_processor
