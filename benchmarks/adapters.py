"""`python -m benchmarks.adapters`: the memory of a generator and a critic that are adapters of one base.

Both are built from scratch here, so that nothing is downloaded. Counted are the bytes in which weights lie; what two
models share counts once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from agents.lm import LanguageModel
from agents.lora import LoraOptions, add_adapter
from agents.models import SCRATCH, SIZES, load_model, open_model
from refiner_env.tasks import MathWordProblem
from trainers.progress import quiet_libraries


def main(argv: Sequence[str] | None = None) -> int:
    """Print the bytes of two adapters with a base each, and with one base."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="small", choices=SIZES, help="the base (default: %(default)s)")
    args = parser.parse_args(argv)
    quiet_libraries()
    task = MathWordProblem()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        open_model(SCRATCH + args.size, task, [task.generate(1, i) for i in range(200)]).save(folder / "base")
        for adapter in ("generator", "critic"):
            lm = load_model(folder / "base")
            add_adapter(lm, LoraOptions())
            lm.save(folder / adapter)
            del lm
        generator, critic = (load_model(folder / adapter) for adapter in ("generator", "critic"))
    apart, together = stored(generator) + stored(critic), stored(generator, critic)
    print(f"A base each: {apart / 1e6:.1f} MB. One base: {together / 1e6:.1f} MB, {1 - together / apart:.0%} less.")
    return 0


def stored(*models: LanguageModel) -> int:
    """Bytes in which the weights of models lie, each storage counted once."""
    storages = [weight.untyped_storage() for lm in models for weight in lm.model.parameters()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


if __name__ == "__main__":
    raise SystemExit(main())
