"""The models that are timed: our base model after a short training, as it is and inside larger shapes.

They end their completions and solve a part of the problems, as models in use do.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import torch

from agents.conversion import cache_folder
from agents.decoding import DEFAULT, freeze
from agents.encoder_decoder import EncoderDecoder
from agents.lm import LanguageModel
from agents.models import BASE, BASE_FOLDER, load_model, open_model, pick_device
from agents.prompts import critic_prompts
from benchmarks.widening import SHAPES, widened
from data.negatives import critic_pairs
from refiner_env import ProceduralProblems
from refiner_env.tasks import MathWordProblem
from trainers.batches import batch
from trainers.learning import Batch, fit, supervised
from trainers.progress import SILENT, Update
from trainers.runs import Run
from trainers.warm_start import solved

TASK = MathWordProblem()
SIZES = ("1m", *SHAPES)
STEPS, HALF = 300, 8
"""Of the training: in each step so many problems to solve, and as many hypotheses to review."""
TRAIN = ProceduralProblems(TASK, seed=1, size=2_000)
TIMED = ProceduralProblems(TASK, seed=3, size=2_000)
"""What is timed, so that nobody has trained on it."""


def timed_model(name: str, backend: str = DEFAULT) -> LanguageModel:
    """One of `SIZES`, or whatever `open_model` takes, as it is, decoded as `refiner_env.decoding.DECODERS` names it."""
    lm = load_model(warmed()) if name in SIZES else open_model(name, TASK, TRAIN[:500])
    if name in SHAPES:
        large = widened(lm.model.cpu(), **SHAPES[name])
        lm = EncoderDecoder(large.to(pick_device()), lm.tokenizer)
    freeze(lm, backend)
    return lm


def kept() -> Path:
    """Where the trained model lies in the user's cache, or will lie."""
    return cache_folder() / f"timed-{load_model(BASE_FOLDER).identity[:12]}-{STEPS}x{2 * HALF}"


def warmed(update: Update = SILENT) -> Path:
    """The folder of the base model, taught to solve and to review: made once."""
    folder = kept()
    if not folder.exists():
        torch.manual_seed(0)
        base = open_model(BASE, TASK, ())
        fit(base, supervised(both), Run(0, update), learning_rate=1e-3, steps=STEPS)
        unfinished = folder.with_suffix(f".{os.getpid()}")
        base.save(unfinished)
        try:
            unfinished.replace(folder)
        except OSError:  # somebody else was faster
            shutil.rmtree(unfinished)
    return folder


def both(number: int) -> Batch:
    """Problems with gold, and hypotheses with the oracle's feedback."""
    problems = [TRAIN[i] for i in batch(len(TRAIN), 2 * HALF, 0, number)]
    gold = solved(problems[:HALF])
    pairs = critic_pairs(TASK, problems[HALF:], random.Random(number), no_hint_share=0.5)
    asked = critic_prompts([p.problem.text for p in pairs], [p.hypothesis for p in pairs])
    return Batch(
        gold.uids + [p.problem.uid for p in pairs], gold.prompts + asked, gold.targets + [p.feedback for p in pairs]
    )


def again(lm: LanguageModel) -> LanguageModel:
    """The same model with nothing counted and no text remembered."""
    lengths = {"max_prompt_tokens": lm.max_prompt_tokens, "max_new_tokens": lm.max_new_tokens}
    other = type(lm)(lm.model, lm.tokenizer, **lengths)
    other.backend = lm.backend
    return other
