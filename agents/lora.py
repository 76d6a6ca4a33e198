"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft: few trained weights beside a frozen base.

The paper's code trains its large models so, with the defaults here. An adapter's folder names its base, and plain peft
loads it. Two adapters of one base, a generator's and a critic's say, share the base's storage. Nothing is switched
between them: each is a model of its own, with its own parameters, modes and gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file, find_adapter_config_file

from agents.lm import LanguageModel
from refiner_env.errors import OptionError
from refiner_env.options import differing, option

WEIGHTS = f"adapter_{SAFE_WEIGHTS_NAME}"
AUTO = ("auto",)
FULL = "32"
"""Bits of a base that is not quantized."""

_FROZEN: WeakValueDictionary[tuple[str, str], torch.nn.Parameter] = WeakValueDictionary()
"""(base, name of a weight in it) -> the weight of the first adapter of that base that is still there."""


@dataclass(frozen=True)
class LoraOptions:
    """An adapter's shape, and what its base is held in."""

    r: int = option(8, "rank", low=1)
    alpha: int = option(32, "scale, over the rank", low=1)
    dropout: float = option(0.1, "dropout before the adapter", low=0.0, high=0.9)
    targets: tuple[str, ...] = option(AUTO, "names of the modules to adapt; auto for peft's choice for the model")
    bits: str = option(
        FULL, "bits of the base's weights in training; fewer than 32 need bitsandbytes", choices=(FULL, "8", "4")
    )


def check_adapter(options: LoraOptions, lora: bool) -> None:
    """Refuse an adapter's options where none is trained or its base cannot be quantized, before anything is loaded.

    Raises:
        OptionError: without an adapter, or without bitsandbytes.
    """
    for name, (_, value) in differing(LoraOptions(), options, "adapter.").items():
        if not lora:
            raise OptionError(f"{name} {value} needs --lora: without it no adapter is trained.")
    quantization(options.bits)


def quantization(bits: str) -> dict[str, Any]:
    """What `from_pretrained` has to be told for a base of so many bits: 4 as in QLoRA (arXiv 2305.14314).

    Raises:
        OptionError: bitsandbytes is not installed.
    """
    if bits == FULL:
        return {}
    if not find_spec("bitsandbytes"):
        raise OptionError(f"--adapter.bits {bits} needs bitsandbytes: pip install -e '.[quantized]' in the checkout.")
    cuda = torch.cuda.is_available()
    four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.bfloat16}
    config = BitsAndBytesConfig(load_in_4bit=True, **four) if bits == "4" else BitsAndBytesConfig(load_in_8bit=True)
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device() if cuda else "cpu"}}


def add_adapter(lm: LanguageModel, options: LoraOptions) -> None:
    """Freeze the model and put an adapter beside it, or go on with the adapter that it has.

    Tokens that the base does not know are trained, too.

    Raises:
        OptionError: the base is not saved anywhere, or has no modules of these names; or the adapter that is there
            has another shape than is asked for.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    if is_adapted(lm):
        _refuse_other_shape(lm.model.peft_config["default"], options)
        return
    if not lm.model.config.name_or_path:
        raise OptionError("--lora needs a base that is saved: give a folder or a Hugging Face id as --model.")
    config = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if lm.model.config.is_encoder_decoder else TaskType.CAUSAL_LM,
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=None if options.targets == AUTO else list(options.targets),
        trainable_token_indices=lm.added or None,
    )
    try:
        _put_beside(lm, lambda base: get_peft_model(base, config))
    except ValueError as error:
        raise OptionError(f"--adapter.targets {' '.join(options.targets)}: {str(error).splitlines()[0]}") from None


def _refuse_other_shape(has: Any, options: LoraOptions) -> None:
    default = LoraOptions()
    for name, value in (("r", has.r), ("alpha", has.lora_alpha), ("dropout", has.lora_dropout)):
        asked = getattr(options, name)
        if asked not in (value, getattr(default, name)):
            raise OptionError(f"--adapter.{name} is {asked}, but --model has an adapter with {value}: leave it out.")
    if options.targets != AUTO and set(options.targets) != set(has.target_modules):
        targets = " ".join(sorted(has.target_modules))
        raise OptionError(f"--adapter.targets: --model has an adapter on {targets} already: leave the option out.")


def is_adapted(lm: LanguageModel) -> bool:
    """Whether an adapter stands beside the model."""
    return not isinstance(lm.model, PreTrainedModel)


def base_of(name: str | Path) -> str:
    """The base that an adapter's folder or Hugging Face id names; "" where it is no adapter."""
    if not find_adapter_config_file(str(name)):
        return ""
    from peft import PeftConfig

    return str(PeftConfig.from_pretrained(str(name)).base_model_name_or_path)


def load_adapter(lm: LanguageModel, name: str | Path) -> None:
    """Put a saved adapter beside its base, to act, to go on training or to merge it.

    Raises:
        OSError: its weights are not there as safetensors; peft would read a pickle.
    """
    from peft import PeftModel

    cached_file(str(name), WEIGHTS)
    _put_beside(lm, lambda base: PeftModel.from_pretrained(base, str(name), is_trainable=True))


def _put_beside(lm: LanguageModel, adapted: Callable[[PreTrainedModel], Any]) -> None:
    base, weights = lm.model.config.name_or_path, dict(lm.model.named_parameters())
    lm.model = adapted(lm.model)
    share_base(base, {name: weight for name, weight in weights.items() if not weight.requires_grad})


def share_base(base: str, weights: Mapping[str, torch.nn.Parameter]) -> None:
    """Let frozen weights of a base lie where another adapter of the same base has them, if they are equal to the bit.

    Only storage is shared, and only after comparing: of a base that has changed on disk, has more tokens or is trained
    in part, the rest is. Models without adapters never take part, nor do quantized weights.
    """
    base = str(Path(base).resolve()) if Path(base).is_dir() else base
    for name, weight in weights.items():
        there = _FROZEN.setdefault((base, name), weight)
        if there is not weight and not there.requires_grad and _equal(there, weight):
            weight.data = there.data


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if (a.shape, a.dtype) != (b.shape, b.dtype) or not a.is_floating_point():
        return False
    left, right = (t.detach().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(left, right.to(left.device))


def merged(lm: LanguageModel) -> PreTrainedModel:
    """The model; where an adapter stands beside it, a copy of the base with the adapter worked in."""
    return copy.deepcopy(lm.model).merge_and_unload() if is_adapted(lm) else lm.model


def merge(lm: LanguageModel) -> None:
    """Work the adapter into a copy of the base, which others may share: a plain model again."""
    lm.model = merged(lm)
