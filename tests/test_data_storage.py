"""Saved splits come back as they were, broken folders are named, and nothing of the user's is overwritten."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from data import Audit, DataOptions, Splits, load_saved, load_splits, save_splits
from data.cli import main
from refiner_env.errors import DataError, OptionError
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem

AUDIT = Audit(9, 4, 5, 1, {"rounded_answer": 1}, ("x.csv, line 3: é",))
TRAIN = (
    Problem("t/0", "Zoé has number0 ?", "number0 | EOS", 0.1 + 0.2, {"numbers": (0.1 + 0.2,), "repairs": ("a", "b")}),
    Problem("t/1", "b", None, None, {"nested": ((1, 2), "x"), "flag": True, "none": None}),
)
TEST = (Problem("t/2", "c", "number0 | EOS", 2.0, {"numbers": (2.0, 3.0)}),)
MADE = Splits("made", TRAIN, (), TEST, AUDIT)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_splits(MADE, tmp_path_factory.mktemp("saved") / "deep" / "splits")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def test_splits_come_back_as_they_were(saved: Path) -> None:
    assert load_saved(saved) == MADE
    assert load_splits(MathWordProblem(), DataOptions(str(saved))) == MADE
    assert [p.name for p in saved.parent.iterdir()] == ["splits"]


def test_the_folder_opens_with_datasets_alone(saved: Path) -> None:
    from datasets import load_from_disk

    tables = load_from_disk(saved)
    assert {name: table.num_rows for name, table in tables.items()} == {"train": 2, "test": 1}
    assert tables["test"][0]["metadata"] == '{"numbers": [2.0, 3.0]}'
    assert json.loads((saved / "audit.json").read_text(encoding="utf-8"))["audit"]["rows"] == 9


def test_answers_may_be_text(tmp_path: Path) -> None:
    made = Splits("norms", (Problem("m/0", "x", "z", "It is rude.", {}),), (), (), Audit())
    assert load_saved(save_splits(made, tmp_path / "norms")) == made


def test_limits_hold_for_saved_splits_too(saved: Path) -> None:
    assert len(load_splits(MathWordProblem(), DataOptions(str(saved), n_train=1)).train) == 1
    with pytest.raises(OptionError, match=r"n-train is 3.*2 train"):
        load_splits(MathWordProblem(), DataOptions(str(saved), n_train=3))


def test_saved_splits_are_replaced_only_when_asked(copy: Path) -> None:
    other = Splits("other", TEST, (), (), Audit())
    with pytest.raises(DataError, match=rf"{copy} already holds saved splits.*--overwrite"):
        save_splits(other, copy)
    assert load_saved(copy) == MADE
    save_splits(other, copy, overwrite=True)
    assert load_saved(copy) == other


def test_other_content_is_never_replaced(copy: Path, tmp_path: Path) -> None:
    (copy / "thesis.tex").write_text("years of work")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "audit.json").write_text("{}")
    for folder in (copy, tmp_path / "mine"):
        with pytest.raises(DataError, match=rf"{folder} holds something other"):
            save_splits(MADE, folder, overwrite=True)
    with pytest.raises(DataError, match="is a file"):
        save_splits(MADE, copy / "thesis.tex", overwrite=True)
    assert (copy / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert load_saved(save_splits(MADE, tmp_path)) == MADE


def test_a_place_that_cannot_be_written_is_a_data_error(copy: Path) -> None:
    (copy.parent / "file").touch()
    with pytest.raises(DataError, match="cannot be saved"):
        save_splits(MADE, copy.parent / "file" / "below")


def test_metadata_that_is_not_json_is_a_data_error(tmp_path: Path) -> None:
    made = Splits("made", (Problem("t/9", "x", None, None, {"what": object()}),), (), (), Audit())
    with pytest.raises(DataError, match="metadata of 't/9'"):
        save_splits(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", ["audit.json", "dataset_dict.json", "test", "train/data-00000-of-00001.arrow"])
def test_a_folder_with_a_part_missing_is_a_data_error(lost: str, copy: Path) -> None:
    path = copy / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=rf"{copy} holds no splits"):
        load_saved(copy)


@pytest.mark.parametrize("broken", ["audit.json", "dataset_dict.json", "train/data-00000-of-00001.arrow"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}"])
def test_a_folder_with_a_part_broken_is_a_data_error(broken: str, content: bytes, copy: Path) -> None:
    (copy / broken).write_bytes(content)
    with pytest.raises(DataError, match=rf"{copy} "):
        load_saved(copy)


def test_changed_content_is_found_by_its_hash(copy: Path) -> None:
    path = copy / "train" / "data-00000-of-00001.arrow"
    changed = path.read_bytes().replace("Zoé has number0 ?".encode(), "Zoë has number0 ?".encode())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(DataError, match="has changed since it was saved"):
        load_saved(copy)


def test_a_missing_folder_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_saved(tmp_path / "nowhere")


def test_without_datasets_the_error_says_how_to_get_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install"):
        save_splits(MADE, tmp_path / "out")
    with pytest.raises(DataError, match="pip install"):
        load_saved(saved)


# --------------------------------------------------------------------------------------------- refiner data


def test_the_command_prints_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    sizes = ["--n-train", "12", "--n-dev", "4", "--n-test", "5"]
    assert main([*sizes, "--out", str(folder)]) == 0
    made = load_splits(MathWordProblem(), DataOptions(n_train=12, n_dev=4, n_test=5))
    assert load_saved(folder) == made
    printed, errors = capsys.readouterr()
    assert errors == ""
    assert all(part[0].text in printed and f"{part[0].gold}" in printed for part in made.parts.values())
    assert all(word in printed for word in ("read", "kept", "skipped", "step", "subtract", "content hash", str(folder)))
    with pytest.raises(DataError, match="already holds"):
        main([*sizes, "--out", str(folder)])
    assert main([*sizes, "--out", str(folder), "--overwrite"]) == 0
    assert main(["--source", str(folder)]) == 0


def test_the_command_reports_the_real_corpora(
    corpora: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFINER_DATA", str(corpora))
    assert main(["--source", "svamp"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for expected in (
        "kept │ 4,138",
        "repaired: rounded_answer │ 12",
        "disagrees with answer │ 6",
        "line 288",
        "1 step",
    ):
        assert expected in printed


def test_the_help_describes_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    options = (
        "task",
        "source",
        "n-train",
        "n-dev",
        "n-test",
        "dev-share",
        "seed",
        "on-malformed",
        "on-disagreement",
        "on-overlap",
        "train-file",
        "dev-file",
        "test-file",
        "out",
    )
    assert all(f"--{name} " in printed for name in options)
    assert printed.count("(default: ") == 16
