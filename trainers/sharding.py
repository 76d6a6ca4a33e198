"""Where weights, gradients and optimizer of a model lie while it trains: whole in each process, or in shards over all.

Which of these, accelerate's settings say (`trainers.processes.sharded_by`). FSDP2 is here, torch's `fully_shard`;
DeepSpeed is in `trainers/zero.py`. Passes gather one block after another, and so all processes do as many; for text to
be generated, the whole model is gathered for a while. accelerate's own `prepare` shards on GPUs alone; this runs on
CPUs, too. Each process keeps a whole copy in its main memory, into which the trained weights go in the end.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Iterator, Mapping

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from agents.lm import LanguageModel
from trainers.processes import add_up, processes
from trainers.runs import RunOptions

Tensors = Mapping[str, torch.Tensor]


class Placement:
    """A model with its optimizer, whole in each process.

    Args:
        beside: modules that lie as the model does, by names that it does not have; what of them requires a gradient is
            trained, too. Like the model, they are passed by being called.
    """

    sharded = False
    """Whether passes are gone through together: all processes do as many."""

    def __init__(
        self, lm: LanguageModel, options: RunOptions, beside: Mapping[str, torch.nn.Module] | None = None
    ) -> None:
        self.lm, self.options, self.beside = lm, options, beside or {}
        self.place()

    def place(self) -> None:
        """Say what is trained, and make its optimizer."""
        self.trained = self.lm.trained()
        for name, module in self.beside.items():
            self.trained |= {f"{name}.{n}": p for n, p in module.named_parameters() if p.requires_grad}
        decayed = [p for p in self.trained.values() if p.ndim > 1]
        others = [p for p in self.trained.values() if p.ndim <= 1]
        decay = self.options.weight_decay
        groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, fused=True)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss; those of all processes add up."""
        loss.backward()

    def step(self, rate: float) -> bool:
        """Change the weights by the gradients of all processes, if these are finite; whether they were."""
        gradients = []
        for p in self.trained.values():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            gradients.append(p.grad)
        if not self.sharded:
            add_up(gradients)
        norm = full(torch.nn.utils.clip_grad_norm_(self.trained.values(), self.options.clip or math.inf))
        finite = bool(torch.isfinite(norm))
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        return finite

    def forget(self) -> None:
        """Drop what `backward` added."""
        self.optimizer.zero_grad(set_to_none=True)

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """All weights in each process inside: it may generate as it likes. All processes enter and leave."""
        return contextlib.nullcontext()

    def weights(self) -> dict[str, torch.Tensor]:
        """What this process has of each trained weight, by name."""
        return {name: p.detach() for name, p in self.trained.items()}

    def put_back(self, weights: Tensors) -> None:
        """Set trained weights, to what `weights` gave or to whole ones."""
        with torch.no_grad():
            for name, value in weights.items():
                self.trained[name].copy_(part(value, self.trained[name]))

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Weights and optimizer as named tensors, whole."""
        optimizer = {
            f"{name}/{key}": full(torch.as_tensor(value))
            for name, p in self.trained.items()
            for key, value in self.optimizer.state[p].items()
        }
        return {"weights": {name: full(w) for name, w in self.weights().items()}, "optimizer": optimizer}

    def restore(self, tensors: Mapping[str, Tensors]) -> None:
        """Put back what `state` gave, wherever the model lay then."""
        self.put_back(tensors["weights"])
        for key, value in tensors["optimizer"].items():
            name, _, what = key.rpartition("/")
            p = self.trained[name]
            self.optimizer.state[p][what] = part(value, p)

    def join(self) -> None:
        """Make the model of `lm` a plain one again, with the trained weights."""


class Shards(Placement):
    """A model that is sharded in place, until `join`."""

    sharded = True

    def __init__(
        self, lm: LanguageModel, options: RunOptions, beside: Mapping[str, torch.nn.Module] | None = None
    ) -> None:
        # Weights are copied to the main memory at once: beside them, there may be no room for a copy.
        elsewhere = {
            id(p): torch.nn.Parameter(p.detach().cpu().clone(), p.requires_grad) for p in lm.model.parameters()
        }
        self.device, self._joined = lm.model.device, copy.deepcopy(lm.model, elsewhere).cpu()
        super().__init__(lm, options, beside)

    def backward(self, loss: torch.Tensor) -> None:
        super().backward(loss * processes().num_processes)  # by which gradients are divided

    def join(self) -> None:
        weights = {name: full(w) for name, w in self.weights().items()}
        self.lm.model = self._joined.to(self.device)
        with torch.no_grad():
            for name, p in self.lm.trained().items():
                p.copy_(weights[name])


class FSDP(Shards):
    """Shards by FSDP2."""

    def place(self) -> None:
        model = self.lm.model
        self._reshard = FullyShardedDataParallelPlugin().reshard_after_forward
        # It fears in-place operations on what a block returns; no model of ours has any.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        blocks = set(model._no_split_modules or ())
        for root in (model, *self.beside.values()):
            for module in list(root.modules()):
                if type(module).__name__ in blocks:
                    fully_shard(module, reshard_after_forward=self._reshard)
            fully_shard(root)
        with torch.no_grad():
            self.lm.loss([""], [""])  # only the first pass tells the root's shards from its blocks'
        model.reshard()
        super().place()

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
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


def full(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor, which all processes ask for; itself where it is in one piece."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(value: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """What this process holds of `value` where it is sharded as `p` is."""
    value = value.to(p.device)
    if not isinstance(p, DTensor) or isinstance(value, DTensor) or value.shape != p.shape:
        return value
    return distribute_tensor(value, p.device_mesh, p.placements, src_data_rank=None)
