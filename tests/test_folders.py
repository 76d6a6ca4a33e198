"""Output folders: nothing is claimed that cannot be begun, and nothing deleted that is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.lm import LanguageModel
from benchmarks.compare import main as compare
from benchmarks.folders import as_begun, claim
from benchmarks.train import _TRAINERS, GeneratorCommand, main
from data import DataOptions
from refiner_env.errors import CheckpointError, OptionError, RefinerError
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem

Command = Callable[[Sequence[str]], int]
SMALL = ["--data.n-train", "4", "--data.n-dev", "1", "--data.n-test", "1"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "a folder [/] ü"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generator", "--run.micro-batch", "many"], r"--run\.micro-batch is 'many': give a number above 0, or auto"),
        (["generator", "--run.micro-batch", "0"], r"--run\.micro-batch is '0'"),
        (["critic", "--generator", "no/such/folder"], "no such folder"),
    ],
)
def test_what_cannot_be_begun_claims_no_folder(words: list[str], told: str, out: Path) -> None:
    with pytest.raises(RefinerError, match=told):
        main([*words, "--out", str(out), *SMALL])
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "marker", "words"),
    [
        (main, "training.json", ["generator", "--model"]),
        (main, "training.json", ["critic", "--generator"]),
        (compare, "run.json", ["--generator-model"]),
    ],
)
def test_overwrite_deletes_no_model_that_the_command_reads(
    command: Command, marker: str, words: list[str], out: Path, lm: LanguageModel
) -> None:
    out.mkdir(parents=True)
    (out / marker).write_text("{}")
    lm.save(out)
    with pytest.raises(RefinerError, match=rf"^--overwrite would delete {words[-1]} .*: choose another --out\.$"):
        command([*words, str(out), "--out", str(out), "--overwrite", *SMALL])
    assert (out / "model.safetensors").exists()


def test_overwrite_deletes_no_data_that_the_command_reads(out: Path) -> None:
    out.mkdir(parents=True)
    for name in ("training.json", "mine.csv"):
        (out / name).touch()
    options = GeneratorCommand(data=DataOptions(source="files", train_file=str(out / "mine.csv")))
    with pytest.raises(RefinerError, match=r"^--overwrite would delete --data\.train-file .*mine\.csv"):
        claim(out, "training.json", overwrite=True, reads=options)
    claim(out, "training.json", overwrite=True, reads=GeneratorCommand())
    assert not any(out.iterdir())


@pytest.mark.parametrize(("command", "words"), [(main, ["generator"]), (compare, [])])
def test_going_on_and_deleting_exclude_each_other(command: Command, words: list[str], out: Path) -> None:
    with pytest.raises(OptionError, match=r"--resume goes on .* --overwrite deletes it: give one of them"):
        command([*words, "--out", str(out), "--resume", "--overwrite"])


def test_a_folder_is_told_in_one_line_as_it_is(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However long it is, and whatever its name would mean as markup."""
    long = out / ("x" * 100)
    main(["generator", "--model", "scratch:tiny", "--train.steps", "1", "--out", str(long), *SMALL])
    main(["generator", "--out", str(long), "--resume"])
    *_, saved, finished = capsys.readouterr().out.splitlines()
    assert saved == f"Saved to {long}: load it with --generator, --model or from_pretrained."
    assert finished == f"The training in {long} is finished: nothing to go on with."


def test_a_training_goes_on_with_what_it_was_begun_with(
    out: Path, lm: LanguageModel, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, files = out / "model", {"train": out / "train.jsonl", "dev": out / "dev.jsonl"}
    model.mkdir(parents=True)
    words = ["generator", "--model", str(model), "--out", str(out / "trained")]
    words += [word for part, file in files.items() for word in (f"--data.{part}-file", str(file))]

    def begin(lm: LanguageModel, n: int) -> None:
        lm.save(model)
        for file, problems in zip(files.values(), (train[:n], train[-2:]), strict=True):
            file.write_text("".join(json.dumps({**asdict(p), "task": MathWordProblem.name}) + "\n" for p in problems))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(_TRAINERS, "generator", stop)
    begin(lm, 4)
    with pytest.raises(KeyboardInterrupt):
        main(words)
    with pytest.raises(KeyboardInterrupt):
        main([*words, "--resume"])
    begin(lm, 5)
    with pytest.raises(RefinerError, match=r"^--resume: .*trained was begun with other problems than .* holds now\.$"):
        main([*words, "--resume"])
    other = lm.clone()
    with torch.no_grad():
        next(p for name, p in other.model.named_parameters() if "SelfAttention" in name).zero_()
    begin(other, 4)
    with pytest.raises(RefinerError, match=r"^--resume: .*trained was begun with another model than .*model is now\.$"):
        main([*words, "--resume"])


def test_a_folder_that_cannot_be_written_to_is_one_line(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("benchmarks.train.write_record", refuse)
    with pytest.raises(CheckpointError, match=r"^Cannot write to .*: Permission denied\. Choose another --out\.$"):
        main(["generator", "--model", "scratch:tiny", "--out", str(out), *SMALL])


def test_a_resumption_may_change_what_changes_no_result() -> None:
    begun = GeneratorCommand(seed=3)
    given: dict[str, Any] = {"run.micro_batch": "2", "run.keep": 5, "run.gradient_checkpointing": True}
    now = as_begun(begun, given)
    assert (now.run.micro_batch, now.run.keep, now.run.gradient_checkpointing, now.seed) == ("2", 5, True, 3)
    with pytest.raises(OptionError, match=r"--run\.clip was 1\.0 and is 2\.0 now: leave it out"):
        as_begun(begun, {**given, "run.clip": 2.0})
