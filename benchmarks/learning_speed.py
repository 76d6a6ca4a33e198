"""A step of REFINER training timed: ours, and the schedule of the official code.

- ours: `trainers.refiner.refiner_step`, hypotheses sampled from the policy as in the paper;
- official: every problem in every turn, solved or not; N samples for each by the library's `generate`, all of them
  decoded and reviewed one by one, the last one taken; all that after the last turn, too; labels padded to the longest
  of all problems, padding trained on; one backward pass over the graphs of all turns.

The optimizer is the same, and its learning rate is 0, so that each step begins with the same weights.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from gymnasium.vector import AutoresetMode
from rich.table import Table
from torch.nn import functional as F

from agents.decoding import DEFAULT
from agents.lm import LanguageModel
from agents.prompts import generator_prompt
from benchmarks.caches import forget
from benchmarks.rounds import Row, by, in_turn, made, now, peak, ratio, shown
from benchmarks.timed_models import TASK, TIMED, timed_model
from refiner_env import RefinerVectorEnv
from refiner_env.types import Problem, Task
from trainers.learning import Learner, seed_step, step_seed
from trainers.refiner import RefinerOptions, hypothesis_source, refiner_step
from trainers.runs import RunOptions

EXPLORATION = 3
"""Samples for each problem: `--exp_num` of the official code."""
TOP_P, LONGEST = 0.5, 50
"""Nucleus mass and tokens of its samples, and of ours."""
SAMPLES = {"ours": 1, "official": EXPLORATION, "official, N=1": 1}

Sample = Callable[[Sequence[str]], list[str]]
"""N hypotheses for each prompt, those of a prompt side by side."""


@dataclass(frozen=True)
class Shape:
    """A step."""

    batch_size: int = 16
    turns: int = 4
    backend: str = DEFAULT


def official_step(
    lm: LanguageModel, task: Task[Any], problems: Sequence[Problem], turns: int, sample: Sample, longest: int
) -> float:
    """Gradients of all turns on these problems, in the official order of things.

    Args:
        longest: tokens to which labels are padded.

    Returns:
        The loss, padding included, summed over turns.
    """
    labels = lm.padded(lm.target_rows([problem.gold or "" for problem in problems]))
    labels = F.pad(labels, (0, longest - labels.shape[1]), value=lm.pad)
    prompts = [generator_prompt(problem.text) for problem in problems]
    loss = torch.zeros((), device=labels.device)
    for _ in range(turns):
        logits = lm.teacher_forced(lm.encode(prompts), labels)
        loss = loss + F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        written = sample(prompts)
        each = len(written) // len(problems)
        reviewed = [(z, task.feedback(task.diagnose(problems[i // each], z)).text) for i, z in enumerate(written)]
        prompts = [generator_prompt(p.text, reviewed[(i + 1) * each - 1]) for i, p in enumerate(problems)]
    loss.backward()
    return loss.item()


def library_samples(lm: LanguageModel, count: int) -> Sample:
    """Samples as the official code draws them: in training mode, as many as it is told."""

    def sample(prompts: Sequence[str]) -> list[str]:
        options = {"do_sample": True, "top_p": TOP_P, "top_k": 0, "num_return_sequences": count}
        with torch.no_grad():
            batch = lm.encode(prompts)
            written = lm.model.generate(**batch, **lm.start, max_new_tokens=lm.max_new_tokens, **options)
        return lm.texts(lm.completed(written, batch["input_ids"].shape[1]))

    return sample


def prepared(lm: LanguageModel, contender: str, shape: Shape) -> Callable[[int], float]:
    """(number) -> seconds of that step, the optimizer's part included."""
    learner, problems = Learner(lm, learning_rate=0.0, options=RunOptions(decoding=shape.backend)), TIMED[:]
    lm.max_new_tokens = LONGEST
    learner.step(0.0)  # makes the optimizer's state
    options = RefinerOptions(batch_size=shape.batch_size, turns=shape.turns, source="policy", top_p=TOP_P)
    env = RefinerVectorEnv(
        shape.batch_size,
        task=TASK,
        problems=problems,
        max_turns=shape.turns,
        stop="gold",
        autoreset_mode=AutoresetMode.DISABLED,
    )
    propose, _ = hypothesis_source(lm, TASK, problems, options, ())
    sample = library_samples(lm, SAMPLES[contender])
    longest = max(map(len, lm.target_rows([problem.gold or "" for problem in problems])))

    def step(number: int) -> float:
        forget()
        seed_step(0, number)
        places = [(number * shape.batch_size + i) % len(problems) for i in range(shape.batch_size)]
        started = now()
        if contender == "ours":
            refiner_step(learner, env, places, propose, options, step_seed(0, number))
        else:
            official_step(lm, TASK, [problems[i] for i in places], shape.turns, sample, longest)
        learner.step(0.5)
        return now() - started

    return step


def measure(name: str, shape: Shape, rounds: int) -> Iterator[Row]:
    """The rows of one model."""
    lm = timed_model(name)
    steps = {contender: prepared(lm, contender, shape) for contender in SAMPLES}
    for step in steps.values():
        step(0)  # warm up
    numbers = {contender: map(step, count(1)) for contender, step in steps.items()}
    times = in_turn({contender: partial(next, taken) for contender, taken in numbers.items()}, rounds)
    peaks = {contender: peak(_beginning, name, contender, shape) for contender in SAMPLES}
    for contender in SAMPLES:
        yield {
            "part": "learning",
            "model": name,
            "contender": contender,
            "samples": SAMPLES[contender],
            "to_ours": ratio(times[contender], times["ours"]),
            "seconds": times[contender],
            "peak_mib": peaks[contender],
            "peak_to_ours": peaks[contender] / peaks["ours"],
            "batch_size": shape.batch_size,
            "turns": shape.turns,
        }


def _beginning(name: str, contender: str, shape: Shape) -> Callable[[], object]:
    """A step, once the weights and the optimizer's state are there."""
    return partial(prepared(timed_model(name), contender, shape), 1)


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """One for each model."""
    for name, of_model in by("model", rows):
        title = f"A REFINER step, {name}: {of_model[0]['batch_size']} problems, T={of_model[0]['turns']}"
        table = made(title, ["schedule"], ["samples", "time x ours", "peak x ours", "s/step", "peak MiB"])
        for row in of_model:
            figures = shown(row["to_ours"]), f"{row['peak_to_ours']:.1f}"
            second = statistics.median(row["seconds"])
            table.add_row(row["contender"], str(row["samples"]), *figures, f"{second:.2f}", f"{row['peak_mib']:,.0f}")
        yield table
