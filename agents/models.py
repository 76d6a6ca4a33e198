"""Where a model comes from: our own base model, built from scratch, a folder, or a Hugging Face id."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.seq2seq import SIZES, Seq2Seq
from agents.tokenizer import train_tokenizer
from data.negatives import critic_pairs
from refiner_env.errors import UnknownNameError
from refiner_env.types import Problem, Task

SCRATCH = "scratch:"
BASE = "refiner-tiny"
"""Our own base model, pre-trained on procedural exercises; its card stands beside it."""
BASE_FOLDER = Path(__file__).parent / BASE


def open_model(spec: str, task: Task[Any], train: Sequence[Problem], *, dropout: float = 0.0) -> Seq2Seq:
    """The model that `spec` names.

    Args:
        spec: `refiner-tiny`; or `scratch:` and one of `SIZES` (a T5 built here, its weights from torch's global seed
            and its tokenizer trained on the training problems); or a folder, or a Hugging Face id.
        train: the training problems; only a tokenizer built here reads them.
        dropout: of our own models; others keep theirs.

    Raises:
        UnknownNameError: no such size; CheckpointError: nothing there to load.
    """
    check_spec(spec)
    if spec == BASE:
        lm = Seq2Seq.load(BASE_FOLDER, dropout_rate=dropout)
    elif spec.startswith(SCRATCH):
        tokenizer = train_tokenizer(task_texts(task, train), marks=task.marks)
        lm = Seq2Seq.build(spec.removeprefix(SCRATCH), tokenizer, dropout=dropout)
    else:
        lm = Seq2Seq.load(spec)
    lm.add_tokens(task.marks)
    return lm


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
