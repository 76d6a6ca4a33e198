"""Pre-training of a base model from scratch on procedural exercises (`data.skills`), with its skills watched."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from agents.lm import LanguageModel
from agents.models import build_model
from agents.prompts import critic_prompts, generator_prompt
from agents.tokenizer import train_tokenizer
from data.skills import SKILLS, TASK, VALUES, Exercise
from refiner_env.options import option
from refiner_env.tasks import program as ir
from refiner_env.types import ParseFailure, Problem
from trainers.learning import Batch, fit, step_seed, supervised
from trainers.processes import gathered, share
from trainers.runs import Outcome, Run

PHASES: tuple[tuple[float, float, Mapping[str, float]], ...] = (
    (0.10, 0.1, {"copy": 1.0}),
    (0.20, 0.1, {"copy": 0.2, "fill": 0.3, "look_up": 0.4, "spot": 0.1}),
    (0.45, 0.2, {"edit": 0.65, "copy": 0.05, "fill": 0.05, "look_up": 0.2, "spot": 0.05}),
)
"""(share of training at which it ends, level, skill -> share of the batches) of what comes before all skills together.

Random words are hard to guess, so copying and finding them gives a strong gradient and comes out within 2,000 steps;
the few values of a program's slots teach the same slowly. Whoever can copy then learns to edit.
"""
GROWN_AT = 0.75
"""Share of training from which exercises of all skills have their full level."""
SLOT_FAULTS = frozenset({"operator", "operand"})


@dataclass(frozen=True)
class PretrainOptions:
    """Pre-training of a base model on procedural exercises."""

    steps: int = option(16_000, "optimizer steps", low=1)
    batch_size: int = option(32, "exercises a step, all of one skill", low=1)
    learning_rate: float = option(1.5e-3, "peak AdamW learning rate", low=0.0, high=1.0)
    vocabulary: int = option(3_000, "upper bound on the pieces that the tokenizer learns", low=200)
    tokenizer_texts: int = option(30_000, "exercises that the tokenizer is trained on", low=100)
    checks: int = option(6, "how often the skills are measured", low=1)
    held_out: int = option(100, "held-out exercises per skill", low=1)


def build_base(size: str, options: PretrainOptions, seed: int) -> LanguageModel:
    """A model of one of `agents.models.SIZES` with a tokenizer trained on exercises, its weights from torch's seed."""
    stream = exercises(random.Random(f"tokenizer/{seed}"))
    texts = (text for _ in range(options.tokenizer_texts) for text in _texts(next(stream)))
    return build_model(size, train_tokenizer(texts, options.vocabulary), dropout=0.0)


def pretrain(lm: LanguageModel, options: PretrainOptions, run: Run = Run()) -> Outcome:
    """Train `lm` in place on an endless stream of exercises.

    Returns:
        What it spent, and in its checks how the skills grew (`skill_accuracies`), the end included.
    """

    def exercise_batch(number: int) -> Batch:
        rng = random.Random(step_seed(run.seed, "exercises", number))
        chosen = skill_batch(rng, options.batch_size, *curriculum(number / options.steps))
        uids = [f"{e.skill}-{number}-{i}" for i, e in enumerate(chosen)]
        return Batch(uids, [prompt(e) for e in chosen], [e.target for e in chosen])

    return fit(
        lm,
        supervised(exercise_batch),
        run,
        learning_rate=options.learning_rate,
        steps=options.steps,
        score=lambda: skill_accuracies(lm, options.held_out),
        checks=options.checks,
        keep_best=False,
    )


def curriculum(done: float) -> tuple[float, Mapping[str, float]]:
    """(level, skill -> share of the batches) after this fraction of training."""
    for until, level, shares in PHASES:
        if done < until:
            return level, shares
    start, first_level, _ = PHASES[-1]
    grown = (done - start) / (GROWN_AT - start)
    return min(1.0, first_level + (1 - first_level) * grown), {name: share for name, (_, share) in SKILLS.items()}


def skill_batch(rng: random.Random, size: int, level: float, shares: Mapping[str, float]) -> list[Exercise]:
    """Exercises of one skill, so that texts of a batch are about as long as each other; half of them easier."""
    (name,) = rng.choices(list(shares), list(shares.values()))
    return [SKILLS[name][0](rng, level * rng.choice((rng.random(), 1.0))) for _ in range(size)]


def exercises(rng: random.Random) -> Iterator[Exercise]:
    """An endless stream over all skills and levels, the skills by their shares."""
    while True:
        yield skill_batch(rng, 1, *curriculum(1.0))[0]


def prompt(exercise: Exercise) -> str:
    """The model input of an exercise: first turn, later turn or critic, as it has hypothesis and feedback."""
    if exercise.hypothesis and not exercise.feedback:
        return critic_prompts([exercise.text], [exercise.hypothesis])[0]
    return generator_prompt(exercise.text, (exercise.hypothesis, exercise.feedback))


def _texts(exercise: Exercise) -> list[str]:
    return [t for t in (exercise.text, exercise.hypothesis, exercise.feedback, exercise.target) if t]


def skill_accuracies(lm: LanguageModel, count: int, skills: Iterable[str] = SKILLS) -> dict[str, float]:
    """Each skill's accuracy on `count` full-level exercises that training does not see.

    Programs count when equivalent, other targets when equal. `edit` has no single right answer: it counts when the
    result does what the feedback says and no more; `edit_kept` and `edit_changed` are its two halves.
    """
    figures: dict[str, float] = {}
    for name in skills:
        items = held_out(name, count)
        outputs = gathered(lm.generate([prompt(e) for e in share(items)]))
        if name == "edit":
            figures |= _edit_figures(items, outputs)
        else:
            figures[name] = sum(map(_right, items, outputs)) / count
    return figures


def skill_losses(lm: LanguageModel, count: int) -> dict[str, float]:
    """Each skill's cross-entropy per target token on the same held-out exercises."""
    losses: dict[str, float] = {}
    for name in SKILLS:
        items = held_out(name, count)
        with lm.evaluating(), torch.inference_mode():
            losses[name] = lm.loss([prompt(e) for e in items], [e.target for e in items]).mean.item()
    return losses


def held_out(skill: str, count: int) -> list[Exercise]:
    """Exercises of the full level that no training seed draws."""
    rng = random.Random(f"held-out/{skill}")
    return [SKILLS[skill][0](rng, 1.0) for _ in range(count)]


def _right(exercise: Exercise, output: str) -> bool:
    if exercise.skill in ("solve", "revise", "check"):
        return TASK.same(_gold_of(exercise), output, exercise.target)
    return output == exercise.target


def _edit_figures(items: Sequence[Exercise], outputs: Sequence[str]) -> dict[str, float]:
    """The share of unnamed slots kept, of named ones changed, and of exercises where both hold throughout.

    Over exercises whose faults are slots, just those in which target and hypothesis differ.
    """
    kept, changed, both = [], [], []
    for item, output in zip(items, outputs, strict=True):
        before, after, target = (TASK.parse(text) for text in (item.hypothesis, output, item.target))
        assert not isinstance(before, ParseFailure) and not isinstance(target, ParseFailure)
        faults = TASK.diagnose(_gold_of(item), item.hypothesis)
        if not {f.kind for f in faults} <= SLOT_FAULTS:
            continue
        named = {(f.step, f.slot) for f in faults}
        slots = [(k, s) for k in range(len(before.steps)) for s in ("operator", *ir.SLOTS)]
        if named != {place for place in slots if _slot(before, place) != _slot(target, place)}:
            continue
        same = {place: _slot(after, place) == _slot(before, place) for place in slots}
        kept += [same[place] for place in slots if place not in named]
        changed += [not same[place] for place in slots if place in named]
        both.append(all(same[place] is (place not in named) for place in slots))
    return {"edit": _mean(both), "edit_kept": _mean(kept), "edit_changed": _mean(changed)}


def _gold_of(item: Exercise) -> Problem:
    return Problem("skill", item.text, item.target, None, {"numbers": VALUES})


def _slot(program: ir.Program | ParseFailure, place: tuple[int, str]) -> object:
    step, slot = place
    if isinstance(program, ParseFailure) or step >= len(program.steps):
        return None
    return program.steps[step].operator if slot == "operator" else program.steps[step].operand(slot)


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
