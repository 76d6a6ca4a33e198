"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft: few trained weights beside a frozen base.

The paper's code trains its large models so, with the defaults here. An adapter's folder names its base, and plain peft
loads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agents.lm import LanguageModel
from refiner_env.errors import OptionError
from refiner_env.options import option

CONFIG = "adapter_config.json"
"""The file by which an adapter's folder is known."""
AUTO = ("auto",)


@dataclass(frozen=True)
class LoraOptions:
    """An adapter's shape."""

    r: int = option(8, "rank", low=1)
    alpha: int = option(32, "scale, over the rank", low=1)
    dropout: float = option(0.1, "dropout before the adapter", low=0.0, high=0.9)
    targets: tuple[str, ...] = option(AUTO, "names of the modules to adapt; auto for peft's choice for the model")


def add_adapter(lm: LanguageModel, options: LoraOptions) -> None:
    """Freeze the model and put an adapter beside it. Tokens that the base does not know are trained, too.

    Raises:
        OptionError: the base is not saved anywhere, or has no modules of these names.
    """
    from peft import LoraConfig, TaskType, get_peft_model

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
        lm.model = get_peft_model(lm.model, config)
    except ValueError as error:
        raise OptionError(f"--adapter.targets {' '.join(options.targets)}: {str(error).splitlines()[0]}") from None


def base_of(folder: str | Path) -> str:
    """The base that an adapter's folder names; "" where the folder holds no adapter."""
    if not (Path(folder) / CONFIG).is_file():
        return ""
    from peft import PeftConfig

    return str(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path)


def load_adapter(lm: LanguageModel, folder: str | Path) -> None:
    """Put a saved adapter beside its base, to go on training or to merge it."""
    from peft import PeftModel

    lm.model = PeftModel.from_pretrained(lm.model, str(folder), is_trainable=True)


def merge(lm: LanguageModel) -> None:
    """Work the adapter into the base: a plain model again."""
    lm.model = lm.model.merge_and_unload()
