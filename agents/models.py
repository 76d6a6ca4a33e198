"""Where a model comes from: our own base model, built from scratch, a folder, or a Hugging Face id."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from agents import decoder_only, encoder_decoder
from agents.decoder_only import DecoderOnly
from agents.decoding import freeze
from agents.encoder_decoder import EncoderDecoder
from agents.lm import LanguageModel
from agents.lora import FULL, base_of, load_adapter, quantization
from agents.tokenizer import train_tokenizer
from data.negatives import critic_pairs
from refiner_env.decoding import chosen
from refiner_env.errors import CheckpointError, UnknownNameError, did_you_mean
from refiner_env.trust import TRUST, is_trusted
from refiner_env.types import Problem, Task

SIZES = (*encoder_decoder.SIZES, *decoder_only.SIZES)
"""Models that can be built from scratch."""
SCRATCH = "scratch:"
BASE = "refiner-tiny"
"""Our own base model, pre-trained on procedural exercises; its card stands beside it."""
BASE_FOLDER = Path(__file__).parent / BASE
LOADED = ("*.safetensors", "config.json", "adapter_config.json", "tokenizer*")
"""The files of a model."""


def open_model(
    spec: str, task: Task[Any], train: Sequence[Problem], *, dropout: float = 0.0, bits: str = FULL
) -> LanguageModel:
    """The model that `spec` names.

    Args:
        spec: `refiner-tiny`; or `scratch:` and one of `SIZES` (a T5 or Llama built here, its weights from torch's
            global seed and its tokenizer trained on the training problems); or a folder, or a Hugging Face id.
        train: the training problems; only a tokenizer built here reads them.
        dropout: of our own models; others keep theirs.
        bits: of a base that is loaded to train an adapter beside it (`load_model`).

    Raises:
        UnknownNameError: no such size; CheckpointError: nothing there to load.
    """
    check_spec(spec)
    if spec == BASE:
        lm = load_model(BASE_FOLDER, bits=bits, dropout_rate=dropout)
    elif spec.startswith(SCRATCH):
        tokenizer = train_tokenizer(task_texts(task, train), marks=task.marks)
        lm = build_model(spec.removeprefix(SCRATCH), tokenizer, dropout=dropout)
    else:
        lm = load_model(spec, bits=bits)
    lm.add_tokens(task.marks)
    return lm


def build_model(size: str, tokenizer: PreTrainedTokenizerBase, *, dropout: float = 0.0) -> LanguageModel:
    """A model from scratch in one of `SIZES`, randomly initialised from torch's global seed."""
    kind = DecoderOnly if size in decoder_only.SIZES else EncoderDecoder
    lm = kind.build(size, tokenizer, dropout=dropout)
    lm.model.to(pick_device())
    return lm


def load_model(name_or_path: str | Path, *, bits: str = FULL, **config: Any) -> LanguageModel:
    """A model and tokenizer from a folder or a Hugging Face id; of which kind it is, its config says.

    An adapter comes with its base, and shares it with other adapters that are loaded (`agents/lora.py`). Weights are
    read from safetensors alone, since a pickle may run anything. No code that comes with a model is run unless it is
    trusted (`refiner_env/trust.py`). Where weights are to stay, it gets the back end that is chosen for such models
    (`refiner_env/decoding.py`).

    Args:
        bits: "32" for full precision; "8" or "4" for a base that bitsandbytes quantizes, to train an adapter beside it.
        config: entries of the model's config to load it with, such as `dropout_rate` of a T5.

    Raises:
        CheckpointError: nothing there, or no language model, or one that holds a pickle or asks for code of its own;
            OptionError: quantized bases cannot be had here.
    """
    name, quantized = str(name_or_path), quantization(bits)
    try:
        _refuse_missing(Path(name))
        base = base_of(name) or name
        _refuse_pickle(Path(name), Path(base))
        trusted = {"trust_remote_code": _trusts(base, name)}
        encoder_decoder = AutoConfig.from_pretrained(base, **trusted).is_encoder_decoder
        loader = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
        model = loader.from_pretrained(
            base, dtype=torch.float32, use_safetensors=True, **trusted, **quantized, **config
        )
        tokenizer = AutoTokenizer.from_pretrained(name, **trusted)
        if quantized:
            from peft import prepare_model_for_kbit_training

            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        with torch.random.fork_rng(devices=[]):  # tokens that it lacks get the same rows whenever it is loaded
            torch.default_generator.manual_seed(0)
            lm: LanguageModel = (EncoderDecoder if encoder_decoder else DecoderOnly)(model, tokenizer)
            lm.fit_vocabulary()
        if base != name:
            load_adapter(lm, name)
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"Cannot load a language model from {name!r}: {reason}"
            " Give a folder written by refiner train, a Hugging Face id, refiner-tiny or scratch:tiny."
        ) from None
    if not quantized:
        lm.model.to(pick_device())
        if choice := chosen():
            decoding, used = choice
            why = freeze(lm, decoding)
            used[lm.backend.name] = why
    return lm


def _trusts(base: str, name: str) -> bool:
    """Whether code that comes with a model may be run.

    Raises:
        CheckpointError: it may not, and the model or its tokenizer asks for it; OSError: there is no config.
    """
    if not is_trusted():
        for place, found in ((base, PreTrainedConfig.get_config_dict(base)[0]), (name, get_tokenizer_config(name))):
            if "auto_map" in found:
                raise CheckpointError(
                    f"{place!r} asks to run Python code that comes with it (auto_map in its config), and nothing of it "
                    f"was run: read that code, and add {TRUST} if you trust it."
                )
    return is_trusted()


def _refuse_pickle(*folders: Path) -> None:
    """Refuse a folder whose weights are there, but only as a pickle.

    Raises:
        CheckpointError: the message says how to convert them.
    """
    for folder in folders:
        pickles = sorted(path.name for path in folder.glob("*.bin") if "model" in path.name)
        if pickles and not any(folder.glob("*.safetensors")):
            kind = "peft.AutoPeftModel" if pickles[0].startswith("adapter") else "transformers.AutoModel"
            raise CheckpointError(
                f"{str(folder)!r} holds its weights as a pickle ({pickles[0]}), which may run anything when it is read:"
                " only safetensors are read. If you trust it, convert it in Python:"
                f" {kind}ForSeq2SeqLM (or ForCausalLM).from_pretrained({str(folder)!r}).save_pretrained(NEW_FOLDER)."
            )


def _refuse_missing(path: Path) -> None:
    """Refuse a folder without a model, before a hub is asked for it: where it would lie, or no id has its form.

    Raises:
        FileNotFoundError: no such folder, or its training is not finished.
    """
    if (path / "training.json").exists() and not any(path.glob("*config.json")):
        raise FileNotFoundError("its training is not finished: go on with refiner train --resume.")
    if not path.exists() and (len(path.parts) > 2 or (len(path.parts) == 2 and path.parent.is_dir())):
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"there is no such folder.{did_you_mean(path.name, beside)}")


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_spec(spec: str) -> None:
    """Refuse a model size that does not exist, before anything is trained.

    Raises:
        UnknownNameError: no such size; the message offers the closest.
    """
    size = spec.removeprefix(SCRATCH)
    if spec.startswith(SCRATCH) and size not in SIZES:
        raise UnknownNameError("model size", size, SIZES)


def files_hash(spec: str) -> str:
    """A hash of the files that a model is loaded from; "" where that is no folder, but the hub, or from scratch."""
    folder, found = BASE_FOLDER if spec == BASE else Path(spec), hashlib.sha256()
    for file in sorted(file for pattern in LOADED for file in folder.glob(pattern)):
        with file.open("rb") as opened:
            found.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return found.hexdigest()[:16] if folder.is_dir() else ""


def task_texts(task: Task[Any], train: Sequence[Problem]) -> list[str]:
    """What a tokenizer for a task has to cover: problems, gold, hypotheses and feedback."""
    pairs = critic_pairs(task, train, random.Random(0), no_hint_share=0.1)
    return [text for p in pairs for text in (p.problem.text, p.problem.gold or "", p.hypothesis, p.feedback)]
