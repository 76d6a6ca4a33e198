"""One process or several: who does which share of a batch, and sums over all of them.

Every process runs the same program with the same seeds, plans the same global batch and works on its share. accelerate
reads from the environment who it is; started alone, a process has everything to itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from refiner_env.errors import OptionError, RefinerError

T = TypeVar("T")
MEMORY = ("none", "cpu")
ACCELERATE = (
    ("ACCELERATE_USE_MEGATRON_LM", ("false",), "Megatron-LM is not supported, take configs/fsdp.yaml"),
    ("ACCELERATE_MIXED_PRECISION", ("no",), "say --run.precision bf16 in its place"),
    ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", ("1", "auto"), "say --run.micro-batch in its place"),
    ("ACCELERATE_GRADIENT_CLIPPING", ("auto", "none"), "say --run.clip in its place"),
    ("ACCELERATE_DEEPSPEED_CONFIG_FILE", ("none",), "say in accelerate's own file what configs/deepspeed.yaml says"),
    ("ACCELERATE_DEEPSPEED_ZERO_STAGE", ("1", "2", "3"), "give zero_stage: 1, 2 or 3"),
    ("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", MEMORY, "give offload_optimizer_device: none or cpu"),
    ("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", MEMORY, "give offload_param_device: none or cpu"),
    ("FSDP_VERSION", ("2",), "give fsdp_version: 2"),
    ("FSDP_OFFLOAD_PARAMS", ("false",), "give fsdp_offload_params: false"),
    ("FSDP_ACTIVATION_CHECKPOINTING", ("false",), "say --run.gradient-checkpointing in its place"),
)
"""What accelerate's launcher may set, the values that are supported, and what to do about others."""


@cache
def processes() -> PartialState:
    """This process among its fellows; joins them on the first call, by gloo where there is no GPU.

    Raises:
        OptionError: accelerate's settings ask for what is not supported, or not installed.
    """
    for setting, supported, advice in ACCELERATE:
        value = os.environ.get(setting, supported[0]).lower()
        if value not in supported and (sharded_by() == "FSDP" or not setting.startswith("FSDP")):
            raise OptionError(f"accelerate's {setting} is {value}, not {' or '.join(supported)}: {advice}.")
    if sharded_by() == "DeepSpeed" and not find_spec("deepspeed"):
        raise OptionError("accelerate asks for DeepSpeed: pip install -e '.[deepspeed]' in the checkout.")
    if sharded_by() and "RANK" not in os.environ:
        raise OptionError(f"accelerate's settings ask for {sharded_by()}: start it by accelerate or --num-processes.")
    # Every process reads the whole model; transformers would read it in the first alone.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    cpu = not torch.cuda.is_available()
    if cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"  # it would find out by itself, and say so
    return PartialState(cpu=cpu)


def sharded_by() -> str:
    """What accelerate's settings ask to shard models by: FSDP or DeepSpeed; "" for whole ones."""
    asked = [by for by in ("FSDP", "DeepSpeed") if os.environ.get(f"ACCELERATE_USE_{by.upper()}", "").lower() == "true"]
    return asked[0] if asked else ""


def share(items: Sequence[T]) -> list[T]:
    """This process's part of what all have: every n-th item, so that shares differ by one at most."""
    state = processes()
    return list(items[state.process_index :: state.num_processes])


def together(items: Sequence[T]) -> list[T]:
    """This process's part where equal items stay together, for what is drawn by how often one came up."""
    mine = set(share(list(dict.fromkeys(items))))
    return [item for item in items if item in mine]


def gathered(mine: Sequence[T]) -> list[T]:
    """What all processes hold, in the order from which `share` took it. Items travel pickled."""
    state = processes()
    if state.num_processes == 1:
        return list(mine)
    parts: list[list[T]] = gather_object([list(mine)])
    return [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]


def once(work: Callable[[], T]) -> T:
    """What `work` returns, done by the main process while the others wait. Its RefinerError is raised by all."""
    state = processes()
    if state.num_processes == 1:
        return work()
    result: list[Any] = [None, None]
    if state.is_main_process:
        try:
            result[0] = work()
        except RefinerError as error:
            result[1] = error
    broadcast_object_list(result)
    if result[1]:
        raise result[1]
    done: T = result[0]
    return done


def total(*values: float) -> list[float]:
    """The sum of each value over all processes."""
    state = processes()
    if state.num_processes == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device=state.device)
    dist.all_reduce(sums)
    return [float(v) for v in sums.tolist()]


def add_up(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor, in place, by its sum over all processes; one message for all of one type."""
    if processes().num_processes == 1:
        return
    for kind in dict.fromkeys(t.dtype for t in tensors):
        mine = [t for t in tensors if t.dtype == kind]
        flat = torch.cat([t.reshape(-1) for t in mine])
        dist.all_reduce(flat)
        for tensor, summed in zip(mine, flat.split([t.numel() for t in mine]), strict=True):
            tensor.copy_(summed.view_as(tensor))
