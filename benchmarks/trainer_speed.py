"""`python -m benchmarks.trainer_speed`: steps a second of our training loop and of transformers' Seq2SeqTrainer.

The same model, problems, batch size and optimizer, in turn in one run, so that the ratio holds whatever else the
machine does. Theirs reads tokens that were made beforehand; ours makes them in each step, as REFINER has to.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from agents.lm import LanguageModel
from agents.models import BASE, open_model
from refiner_env.options import Parser, add_options, option, read_options
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem
from trainers.learning import fit, supervised
from trainers.progress import Progress, quiet_libraries
from trainers.runs import Run
from trainers.warm_start import solved, supervised_batches


@dataclass(frozen=True)
class SpeedOptions:
    """What is timed."""

    model: str = option(BASE, "an encoder-decoder: refiner-tiny, scratch:SIZE, a folder or a Hugging Face id")
    batch_size: int = option(16, "problems a step", low=1)
    steps: int = option(40, "steps of one turn", low=1)
    rounds: int = option(5, "turns of each; the median counts", low=1)
    problems: int = option(1_000, "training problems", low=1)


def ours(lm: LanguageModel, problems: list[Problem], o: SpeedOptions, folder: Path) -> Callable[[], float]:
    """Seconds of one turn of our loop, its metrics written as ever."""

    def turn() -> float:
        step = supervised(supervised_batches(problems, o.batch_size, 0))
        started = time.perf_counter()
        with Progress(None, folder / "metrics.jsonl").stage("ours") as update:
            fit(lm, step, Run(0, update), learning_rate=1e-4, steps=o.steps)
        return time.perf_counter() - started

    return turn


def theirs(lm: LanguageModel, problems: list[Problem], o: SpeedOptions, folder: Path) -> Callable[[], float]:
    """Seconds of one turn of Seq2SeqTrainer, with fused AdamW as ours, each batch padded to its longest text."""
    import datasets
    from transformers import DataCollatorForSeq2Seq, PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments

    whole = solved(problems)
    rows = {**lm.tokenizer(whole.prompts), "labels": lm.tokenizer(whole.targets)["input_ids"]}
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=o.batch_size,
        max_steps=o.steps,
        learning_rate=1e-4,
        optim="adamw_torch_fused",
        lr_scheduler_type="linear",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )

    def turn() -> float:
        trainer = Seq2SeqTrainer(
            model=lm.model,
            args=arguments,
            train_dataset=datasets.Dataset.from_dict(rows),
            data_collator=DataCollatorForSeq2Seq(lm.tokenizer, lm.model),
        )
        trainer.remove_callback(PrinterCallback)
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started

    return turn


def main() -> int:
    """Print steps a second of both, and the ratio of each round."""
    parser = Parser(prog="python -m benchmarks.trainer_speed", description=__doc__.splitlines()[0])
    add_options(parser, SpeedOptions())
    o = read_options(SpeedOptions(), vars(parser.parse_args()))
    quiet_libraries()
    task = MathWordProblem()
    problems = [task.generate(0, i) for i in range(o.problems)]
    torch.manual_seed(0)
    lm = open_model(o.model, task, problems)
    with tempfile.TemporaryDirectory() as name:
        contenders: dict[str, Any] = {
            "ours": ours(lm.clone(), problems, o, Path(name)),
            "Seq2SeqTrainer": theirs(lm.clone(), problems, o, Path(name)),
        }
        for turn in contenders.values():  # warm up
            turn()
        seconds = {name: list[float]() for name in contenders}
        for i in range(o.rounds):
            for name in sorted(contenders, reverse=bool(i % 2)):
                seconds[name].append(contenders[name]())
    console = Console(markup=False, highlight=False)
    for name, times in seconds.items():
        console.print(f"{name:<15}{o.steps / statistics.median(times):8.2f} steps/s")
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["Seq2SeqTrainer"], strict=True)]
    ratio = f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"
    rounds = f"{o.rounds} rounds of {o.steps} steps of {o.batch_size}, {o.model}"
    console.print(f"ours / Seq2SeqTrainer: {ratio} over {rounds}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
