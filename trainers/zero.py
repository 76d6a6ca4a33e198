"""A model in shards over all processes while it trains: DeepSpeed's ZeRO (arXiv 1910.02054), where accelerate asks.

Stage 1 shards the optimizer, stage 2 gradients, too, and stage 3 also the weights. DeepSpeed passes, sums, clips and
steps, in float32; the batch, its parts, learning rate, precision and checkpoints are those of `trainers.learning`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param

from trainers.processes import processes
from trainers.sharding import Shards, Tensors

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW has of each weight, beside its count of steps."""


class ZeRO(Shards):
    """Shards by DeepSpeed."""

    def place(self) -> None:
        super().place()
        self.stage = int(_asked("ZERO_STAGE", "2"))
        settings = {
            "train_micro_batch_size_per_gpu": 1,  # it has to be said, and changes nothing
            "managed_gradient_accumulation": False,  # a step is done when it is asked for
            "gradient_clipping": self.options.clip,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": {
                "stage": self.stage,
                "overlap_comm": False,  # goes with the former in stage 2 alone
                "offload_optimizer": {"device": _asked("OFFLOAD_OPTIMIZER_DEVICE", "none")},
                "offload_param": {"device": _asked("OFFLOAD_PARAM_DEVICE", "none")},
            },
        }
        model = _Losses({"model": self.lm.model, **self.beside})
        self._engine = deepspeed.initialize(model=model, optimizer=self.optimizer, config=settings)[0]
        self._passed = False

    def backward(self, loss: torch.Tensor) -> None:
        self._engine.backward(self._engine(loss * processes().num_processes))  # by which it divides gradients
        self._passed = True

    def step(self, rate: float) -> bool:
        if not self._passed:  # without any gradient it fails
            self.backward(self.lm.loss([""], [""]).total * 0.0)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        self._engine.step()
        self._passed = False
        return bool(self._engine.was_step_applied())

    def forget(self) -> None:
        """Nothing: `step` has, and in shards no step is done again."""

    def whole(self) -> contextlib.AbstractContextManager[None]:
        if self.stage < 3:
            return super().whole()
        gathered: contextlib.AbstractContextManager[None] = deepspeed.zero.unwrap_model_for_generation(self._engine)
        return gathered

    def weights(self) -> dict[str, torch.Tensor]:
        """All of each trained weight, in main memory."""
        return {name: safe_get_full_fp32_param(p).cpu() for name, p in self.trained.items()}

    def put_back(self, weights: Tensors) -> None:
        for name, value in weights.items():
            p = self.trained[name]
            with deepspeed.zero.GatheredParameters([p], modifier_rank=0), torch.no_grad():
                p.copy_(value)
        self._engine.optimizer.refresh_fp32_params()  # from which a step goes on

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        weights, optimizer = self.weights(), {}
        for moment in MOMENTS:
            self._swap(moment)
            optimizer.update({f"{name}/{moment}": value for name, value in self.weights().items()})
            self._swap(moment)
        steps = next(iter(self._states.values()))["step"]  # of all, since all move in every step
        optimizer.update({f"{name}/step": steps.clone() for name in self.trained})
        return {"weights": weights, "optimizer": optimizer}

    def restore(self, tensors: Mapping[str, Tensors]) -> None:
        self.step(0.0)  # the optimizer has a state from its first step on
        for moment in MOMENTS:
            self.put_back({name: tensors["optimizer"][f"{name}/{moment}"] for name in self.trained})
            self._swap(moment)
        for state in self._states.values():
            state["step"].copy_(tensors["optimizer"][f"{next(iter(self.trained))}/step"])
        self.put_back(tensors["weights"])

    def join(self) -> None:
        super().join()
        self._engine.destroy()

    @property
    def _states(self) -> Mapping[torch.Tensor, dict[str, torch.Tensor]]:
        """This process's share of the weights that a step changes, in a row -> what the optimizer has of it."""
        states: Mapping[torch.Tensor, dict[str, torch.Tensor]] = self._engine.optimizer.optimizer.state
        return states

    def _swap(self, moment: str) -> None:
        """Exchange weights and a moment, which lie alike: what DeepSpeed does for weights, it then does for these.

        Of its own, it gathers no moments beyond the first group of parameters, and scatters none of uneven shards.
        """
        with torch.no_grad():
            for weights, state in self._states.items():
                kept = weights.clone()
                weights.copy_(state[moment])
                state[moment].copy_(kept)


class _Losses(torch.nn.ModuleDict):
    """What DeepSpeed takes for the model: it is shown a loss, after whatever passes of the modules have led to it."""

    def forward(self, loss: torch.Tensor) -> torch.Tensor:
        return loss


def _asked(what: str, default: str) -> str:
    return os.environ.get(f"ACCELERATE_DEEPSPEED_{what}", default).lower()
