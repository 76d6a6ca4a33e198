"""A model in shards over all processes while it trains: FSDP2, torch's `fully_shard`, where accelerate's settings ask.

Weights, gradients and optimizer are sharded. Forward and backward passes gather one block after another, and so all
processes do as many; for text to be generated, the whole model is gathered for a while. accelerate's own
`prepare` shards on GPUs alone; this runs on CPUs, too. Each process keeps a whole copy in its main memory, into which
the trained weights go in the end.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from agents.lm import LanguageModel


class Shards:
    """Shards the model of `lm` in place, until `join`."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm, self.device = lm, lm.model.device
        self._joined = copy.deepcopy(lm.model).cpu()
        self._reshard = FullyShardedDataParallelPlugin().reshard_after_forward
        # It fears in-place operations on what a block returns; no model of ours has any.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        blocks = set(lm.model._no_split_modules or ())
        for module in list(lm.model.modules()):
            if type(module).__name__ in blocks:
                fully_shard(module, reshard_after_forward=self._reshard)
        fully_shard(lm.model)
        with torch.no_grad():
            lm.loss([""], [""])  # only the first pass tells the root's shards from its blocks'
        lm.model.reshard()

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """All weights in each process inside: it may generate as it likes. All processes enter and leave."""
        model, modules = self.lm.model, [m for m in self.lm.model.modules() if isinstance(m, FSDPModule)]
        for module in modules:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        try:
            yield
        finally:
            for module in modules:
                module.set_reshard_after_forward(self._reshard and module is not model, recurse=False)
                module.reshard()

    def join(self) -> None:
        """Make the model of `lm` a plain one again, with the trained weights."""
        weights = {name: full(p) for name, p in self.lm.trained().items()}
        self.lm.model = self._joined.to(self.device)
        put_back(self.lm.trained(), weights)


def full(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor, which all processes ask for; itself where it is in one piece."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(value: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """What this process holds of `value` where it is sharded as `p` is."""
    value = value.to(p.device)
    if not isinstance(p, DTensor) or isinstance(value, DTensor) or value.shape != p.shape:
        return value
    return distribute_tensor(value, p.device_mesh, p.placements, src_data_rank=None)


def put_back(parameters: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor]) -> None:
    """Copy saved values into parameters of the same names."""
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(part(saved[name], p))
