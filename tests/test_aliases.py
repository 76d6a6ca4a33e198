"""The official code's options: other names of ours, with the same effect; what they cannot mean is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_data_formats import LABELLED

from benchmarks import evaluate as evaluation
from benchmarks import train as training
from benchmarks.original import NAMES
from refiner_env.cli import main
from refiner_env.options import Parser

Given = dict[str, Any]

IN_FILES = "--training_file train.json --validation_file val.json --language_model google/flan-t5-base --batch-size 8"
IN_FILES += " --epochs 10 --model-dir runs/out --critique_model-dir runs/critic --number_turn 4 --exp_num 3 --lora True"
"""Every option of the official README's commands, in its spelling, and the one of exploration."""


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """What a command would have done: its options and its folder."""
    seen: Given = {}

    def train(order: training.Order, console: Console) -> None:
        seen.update(what=order.what, options=order.options, out=order.folder)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(evaluation, "evaluate", lambda options, *args: seen.update(options=options))
    return seen


def told(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The options that were said to have no effect."""
    lines = capsys.readouterr().err.splitlines()
    assert all(" has no effect: " in line and line.startswith("refiner: --") for line in lines)
    return {line.split()[1] for line in lines}


# ----------------------------------------------------------------------------------------- what they mean


def test_options_of_refiner_training(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "refiner", *IN_FILES.split()]) == 0
    o = given["options"]
    assert (o.data.source, o.data.train_file, o.data.dev_file) == ("files", "train.json", "val.json")
    assert (o.model, o.critic, o.epochs, o.lora) == ("google/flan-t5-base", "runs/critic", 10.0, True)
    assert (o.train.batch_size, o.train.turns) == (8, 4)
    assert given["out"] == Path("runs/out")
    assert told(capsys) == {"--exp-num"}


def test_options_of_warm_start_and_critic_training(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "generator", *IN_FILES.split(), "--lr", "0.5"]) == 0
    assert (given["options"].model, given["options"].train.learning_rate) == ("google/flan-t5-base", 0.5)
    assert told(capsys) == {"--critique-model-dir", "--number-turn", "--exp-num"}
    words = IN_FILES.replace("--model-dir runs/out ", "", 1).split()
    assert main(["train", "critic", *words]) == 0
    assert (given["out"], given["options"].turns) == (Path("runs/critic"), 4)
    assert told(capsys) == {"--exp-num"}


def test_options_of_an_evaluation(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *IN_FILES.split()]) == 0
    o = given["options"]
    assert (o.data.source, o.data.train_file, o.data.dev_file, o.data.test_file) == (
        "files",
        "train.json",
        "",
        "val.json",
    )
    assert (o.generator, o.critic, o.turns, o.split) == ("runs/out", "runs/critic", 4, "test")
    assert told(capsys) == {"--language-model", "--epochs", "--batch-size", "--exp-num", "--lora"}


@pytest.mark.parametrize("what", [name for name in NAMES if name != "evaluate"])
def test_every_training_reads_every_option(
    what: str, given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or refuses it in one line, where training would be of another length than asked for."""
    words = ["--model-dir", "runs/out", *IN_FILES.replace("runs/critic", "runs/out").split()]
    if what == "critic-rl":  # its model is a critic
        words[words.index("google/flan-t5-base")] = "runs/out"
    if what in ("critic-rl", "ppo"):
        assert main(["train", what, *words]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("refiner: --epochs is not counted in ") and not given
        cut = words.index("--epochs")
        del words[cut : cut + 2]
    assert main(["train", what, *words]) == 0
    assert given["what"] == what and given["options"].lora and given["options"].data.source == "files"


def test_a_source_that_is_named_is_not_changed_by_a_file(given: Given) -> None:
    main(["train", "generator", "--training-file", "x", "--data.source", "svamp", "--out", "o"])
    assert given["options"].data.source == "svamp"
    main(["train", "generator", "--data.test-file", "x", "--out", "o"])
    assert given["options"].data.source == "files"
    main(["train", "generator", "--out", "o"])
    assert given["options"].data.source == "procedural"


# ----------------------------------------------------------------------------------------- what they cannot


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model a --language-model b", "--model is a and --language-model is b: they are one option"),
        ("--language_model b --model a", "--language-model is b and --model is a: they are one option"),
        ("--training-file a --data.train-file b", "--training-file is a and --data.train-file is b"),
        ("--batch-size 8 --train.batch-size 16", "--batch-size is 8 and --train.batch-size is 16"),
        ("--model-dir runs", "--out is o and --model-dir is runs"),
        ("--epochs 2 --train.steps 30", "--epochs and --train.steps both say how long to train: give one of them."),
        ("--epochs nan", "--epochs is nan: it must be between"),
        ("--epochs inf", "--epochs is inf: it must be between"),
        ("--batch-size 0", "--train.batch-size is 0: it must be at least 1."),
        ("--batch_sise 8", "Unknown option '--batch-sise'. Did you mean '--batch-size'?"),
        ("--val-batch-size 8", "Unknown option '--val-batch-size'. Did you mean '--batch-size'?"),
        ("--lora Maybe", "Unexpected argument 'Maybe'."),
        ("--run.micro-batch 0", "--run.micro-batch is '0': give a number above 0, or auto."),
        ("--resume --model-dir o", "--resume: o holds no training: leave it out to begin one, or mend --out."),
    ],
)
def test_what_does_not_fit_is_one_line(words: str, said: str, given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "generator", "--out", "o", *words.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith(f"refiner: {said}")
    assert not given


def test_what_is_to_be_trained_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", "o"]) == 2
    assert "are required: generator|critic|critic-rl|refiner|ppo" in capsys.readouterr().err


def test_one_value_under_two_names_is_fine_and_the_last_of_one_name_counts(given: Given) -> None:
    words = "--out o --model a --language-model a --model_dir o --seed 1 --seed 2"
    main(["train", "generator", *words.split()])
    assert (given["options"].model, given["options"].seed) == ("a", 2)


@pytest.mark.parametrize(
    ("words", "lora"),
    [("--lora", True), ("--lora True", True), ("--lora False", False), ("--no-lora", False), ("--lora --seed 1", True)],
)
def test_a_switch_may_be_followed_by_true_or_false(words: str, lora: bool, given: Given) -> None:
    assert main(["train", "generator", "--out", "o", *words.split()]) == 0
    assert given["options"].lora is lora


def test_true_is_a_value_where_no_switch_stands_before_it() -> None:
    parser = Parser(prog="x")
    parser.add_argument("--name")
    parser.add_argument("words", nargs="*")
    read = parser.parse_args(["--name", "True", "False", "--", "--true_word"])
    assert (read.name, read.words) == ("True", ["False", "--true_word"])


# ------------------------------------------------------------------------------------------------ their effect


def test_official_names_and_files_train_the_same(tmp_path: Path) -> None:
    """Also: two passes over the 20 problems, in batches of 16, are three steps."""
    train, val = (str(tmp_path / f"critique_{part}.json") for part in ("train", "val"))
    for path, kind, size in ((train, "pens", 20), (val, "lids", 3)):
        rows = [{**LABELLED, "Body": f"{kind} {i} {LABELLED['Body']}"} for i in range(size)]
        Path(path).write_text(json.dumps(rows))
    theirs = f"--training-file {train} --validation_file {val} --language-model scratch:tiny --batch-size 16"
    ours = f"--data.source files --data.train-file {train} --data.dev-file {val} --model scratch:tiny"
    ours += " --train.batch-size 16"
    records = []
    for name, words in (("theirs", f"{theirs} --model-dir"), ("ours", f"{ours} --out")):
        folder = tmp_path / name
        assert main(["train", "generator", "--epochs", "2", *words.split(), str(folder)]) == 0
        records.append(json.loads((folder / "training.json").read_text()))
        records[-1]["spent"].pop("wall_s")
    assert records[0] == records[1]
    assert records[0]["options"]["train"]["steps"] == records[0]["spent"]["steps"] == 3
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("theirs", "ours")]
    assert weights[0] == weights[1]


def test_an_epoch_of_the_warm_start_is_over_its_share() -> None:
    options = training.GeneratorCommand(epochs=1.5)
    small = training.WarmStartOptions(share=0.25, batch_size=10)
    assert training._in_steps(options, 200).train.steps == 5  # 300 of 64
    assert training._in_steps(training.GeneratorCommand(epochs=1.5, train=small), 200).train.steps == 8  # 75 of 10
    assert training._in_steps(training.CriticCommand(epochs=1e-6), 200).train.steps == 1


def test_the_trainers_are_a_module_to_launch(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "refiner", "--help"])
    run = [sys.executable, "-m", "trainers", "refiner", "--help"]
    launched = subprocess.run(run, capture_output=True, text=True, check=True)
    assert launched.stdout == capsys.readouterr().out and "--critique-model-dir" in launched.stdout
