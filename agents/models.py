"""Where a model comes from: our own base model, built from scratch, a folder, or a Hugging Face id."""

from __future__ import annotations

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
    PreTrainedTokenizerBase,
)

from agents import decoder_only, encoder_decoder
from agents.decoder_only import DecoderOnly
from agents.encoder_decoder import EncoderDecoder
from agents.lm import LanguageModel
from agents.lora import base_of, load_adapter
from agents.tokenizer import train_tokenizer
from data.negatives import critic_pairs
from refiner_env.errors import CheckpointError, UnknownNameError, did_you_mean
from refiner_env.types import Problem, Task

SIZES = (*encoder_decoder.SIZES, *decoder_only.SIZES)
"""Models that can be built from scratch."""
SCRATCH = "scratch:"
BASE = "refiner-tiny"
"""Our own base model, pre-trained on procedural exercises; its card stands beside it."""
BASE_FOLDER = Path(__file__).parent / BASE


def open_model(spec: str, task: Task[Any], train: Sequence[Problem], *, dropout: float = 0.0) -> LanguageModel:
    """The model that `spec` names.

    Args:
        spec: `refiner-tiny`; or `scratch:` and one of `SIZES` (a T5 or Llama built here, its weights from torch's
            global seed and its tokenizer trained on the training problems); or a folder, or a Hugging Face id.
        train: the training problems; only a tokenizer built here reads them.
        dropout: of our own models; others keep theirs.

    Raises:
        UnknownNameError: no such size; CheckpointError: nothing there to load.
    """
    check_spec(spec)
    if spec == BASE:
        lm = load_model(BASE_FOLDER, dropout_rate=dropout)
    elif spec.startswith(SCRATCH):
        tokenizer = train_tokenizer(task_texts(task, train), marks=task.marks)
        lm = build_model(spec.removeprefix(SCRATCH), tokenizer, dropout=dropout)
    else:
        lm = load_model(spec)
    lm.add_tokens(task.marks)
    return lm


def build_model(size: str, tokenizer: PreTrainedTokenizerBase, *, dropout: float = 0.0) -> LanguageModel:
    """A model from scratch in one of `SIZES`, randomly initialised from torch's global seed."""
    kind = DecoderOnly if size in decoder_only.SIZES else EncoderDecoder
    lm = kind.build(size, tokenizer, dropout=dropout)
    lm.model.to(pick_device())
    return lm


def load_model(name_or_path: str | Path, **config: Any) -> LanguageModel:
    """A model and tokenizer from a folder or a Hugging Face id; of which kind it is, its config says.

    Args:
        config: entries of the model's config to load it with, such as `dropout_rate` of a T5.

    Raises:
        CheckpointError: nothing there, or no language model.
    """
    name = str(name_or_path)
    try:
        _refuse_missing(Path(name))
        base = base_of(name) or name
        encoder_decoder = AutoConfig.from_pretrained(base).is_encoder_decoder
        loader = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
        model = loader.from_pretrained(base, dtype=torch.float32, **config)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"Cannot load a language model from {name!r}: {reason}"
            " Give a folder written by refiner train, a Hugging Face id, refiner-tiny or scratch:tiny."
        ) from None
    lm: LanguageModel = (EncoderDecoder if encoder_decoder else DecoderOnly)(model, tokenizer)
    lm.fit_vocabulary()
    if base != name:
        load_adapter(lm, name)
    lm.model.to(pick_device())
    return lm


def _refuse_missing(path: Path) -> None:
    """Refuse a folder that is not there, before a hub is asked for it: where it would lie, or no id has its form.

    Raises:
        FileNotFoundError: no such folder.
    """
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


def task_texts(task: Task[Any], train: Sequence[Problem]) -> list[str]:
    """What a tokenizer for a task has to cover: problems, gold, hypotheses and feedback."""
    pairs = critic_pairs(task, train, random.Random(0), no_hint_share=0.1)
    return [text for p in pairs for text in (p.problem.text, p.problem.gold or "", p.hypothesis, p.feedback)]
