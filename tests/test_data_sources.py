"""Sources of files: official splits, files of one's own, tasks that do not fit, and texts in two splits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data import DataOptions, Splits, load_splits, save_splits, text_key
from refiner_env.errors import DataError, OptionError
from refiner_env.tasks import MathWordProblem, MoralStories, SyntheticReasoning
from refiner_env.types import Problem, Task

TASK = MathWordProblem()


def write(folder: Path, name: str, texts: list[str], **more: Any) -> str:
    path = folder / name
    path.write_text("".join(json.dumps({"text": t, "gold": "z", "answer": "y", **more}) + "\n" for t in texts))
    return str(path)


def files(train: str, test: str, dev: str = "", **more: Any) -> DataOptions:
    return DataOptions("files", train_file=train, dev_file=dev, test_file=test, **more)


def texts(problems: Any) -> list[str]:
    return [p.text for p in problems]


def shared(splits: Splits) -> set[str]:
    keys = [set(map(text_key, part)) for part in splits.parts.values()]
    return keys[0] & keys[1] | keys[0] & keys[2] | keys[1] & keys[2]


# ------------------------------------------------------------------------------------------------------ files


def test_files_of_ones_own(tmp_path: Path) -> None:
    train, dev, test = (
        write(tmp_path, f"{n}.jsonl", [f"{n} {i}" for i in range(20)]) for n in ("train", "dev", "test")
    )
    made = load_splits(TASK, files(train, test, dev, n_train=5))
    assert [len(part) for part in made.parts.values()] == [5, 20, 20]
    assert made.dev[0] == Problem("own/dev/0", "dev 0", "z", "y")
    carved = load_splits(TASK, files(train, test, dev_share=0.2))
    assert [len(part) for part in carved.parts.values()] == [16, 4, 20]
    assert all(p.text.startswith("train") for p in carved.dev)
    assert carved.audit.rows == 40 and made.audit.rows == 60


def test_one_file_is_enough(tmp_path: Path) -> None:
    """Training needs no test problems, and an evaluation nothing else."""
    path = write(tmp_path, "all.jsonl", [f"text {i}" for i in range(20)])
    sizes = [
        [len(part) for part in load_splits(TASK, files(*given)).parts.values()] for given in ((path, ""), ("", path))
    ]
    assert sizes == [[18, 2, 0], [0, 0, 20]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (DataOptions("files"), "train-file and test-file are not given"),
        (DataOptions("svamp", train_file="x"), "train-file needs source files; the source is 'svamp'"),
        (DataOptions(dev_file="x"), "dev-file needs source files"),
    ],
)
def test_file_options_go_with_files(options: DataOptions, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        load_splits(TASK, options)
    assert said in str(caught.value)


def test_files_of_another_task_are_refused(tmp_path: Path) -> None:
    mine, other = write(tmp_path, "a", ["a"]), write(tmp_path, "b", ["b"], task="MoralStories")
    with pytest.raises(OptionError, match="Source 'files' holds MoralStories problems: give --task moral"):
        load_splits(TASK, files(mine, other))
    assert len(load_splits(MoralStories(), files(mine, other, dev_share=0.0)).train) == 1
    third = write(tmp_path, "c", ["c"], task="SyntheticReasoning", gold="#0: a is b", answer="a is b")
    with pytest.raises(OptionError, match="The files hold problems of several tasks: MoralStories, SyntheticReasoning"):
        load_splits(TASK, files(other, third))


@pytest.mark.parametrize("source", ["svamp", "refiner-mwp", "snlr", "moral"])
def test_a_source_of_another_task_is_refused(source: str, corpora: Path) -> None:
    tasks: list[Task[Any]] = [MathWordProblem(), SyntheticReasoning(), MoralStories()]
    mine = {"snlr": 1, "moral": 2}.get(source, 0)
    for task in (other for i, other in enumerate(tasks) if i != mine):
        with pytest.raises(OptionError, match=f"Source '{source}' holds {tasks[mine].name} problems: give --task"):
            load_splits(task, DataOptions(source), corpora)


def test_a_saved_source_of_another_task_is_refused(tmp_path: Path) -> None:
    made = load_splits(MoralStories(), DataOptions(n_train=4, n_dev=2, n_test=2))
    folder = str(save_splits(made, tmp_path / "moral"))
    assert load_splits(MoralStories(), DataOptions(folder)) == made
    with pytest.raises(OptionError, match="holds MoralStories problems: give --task moral"):
        load_splits(SyntheticReasoning(), DataOptions(folder))


@pytest.mark.parametrize(
    ("source", "task", "file"),
    [
        ("refiner-mwp", TASK, "critique_train.json"),
        ("snlr", SyntheticReasoning(), "srn_train.json"),
        ("moral", MoralStories(), "critic_dev_prep.json"),
    ],
)
def test_missing_files_say_what_to_put_where(
    source: str, task: Task[Any], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFINER_DATA", raising=False)
    for root, said in ((None, "REFINER_DATA is not set"), (tmp_path, "there is no such file")):
        with pytest.raises(DataError) as caught:
            load_splits(task, DataOptions(source), root)
        assert all(part in str(caught.value) for part in (said, file, "debjitpaul/refiner", "$REFINER_DATA/refiner/"))


# ---------------------------------------------------------------------------------------------------- overlaps


def test_overlaps_are_refused_with_their_texts(tmp_path: Path) -> None:
    train, test = write(tmp_path, "a", ["A b", *"cdefg"]), write(tmp_path, "b", ["a B!", *"cdex"])
    with pytest.raises(DataError) as caught:
        load_splits(TASK, files(train, test))
    said = str(caught.value)
    assert said.startswith("4 texts stand in two splits of 'files': train (own/a/0) and test (own/b/0) share 'a B!';")
    assert said.count(" share ") == 3 and "; and 1 more." in said and "on-overlap drop" in said


def test_overlaps_are_dropped_and_counted(tmp_path: Path) -> None:
    train = write(tmp_path, "a", ["a", "b", "c", "d", "e"])
    dev, test = write(tmp_path, "b", ["A", "C", "f"]), write(tmp_path, "c", ["a.", "b.", "g"])
    made = load_splits(TASK, files(train, test, dev, on_overlap="drop"))
    assert [texts(part) for part in made.parts.values()] == [["d", "e"], ["C", "f"], ["a.", "b.", "g"]]
    assert (made.audit.rows, made.audit.kept, made.audit.skipped, made.audit.overlaps) == (11, 7, 4, 4)


def test_overlaps_with_a_carved_dev_are_none(tmp_path: Path) -> None:
    train, test = write(tmp_path, "a", list("abcdefghij")), write(tmp_path, "b", ["a", "x"])
    made = load_splits(TASK, files(train, test, on_overlap="drop", dev_share=0.3))
    assert (len(made.train), len(made.dev), made.audit.overlaps) == (6, 3, 1)
    assert not shared(made)


# ---------------------------------------------------------------------------------------------- the real files


def test_the_official_math_files(corpora: Path) -> None:
    made = load_splits(TASK, DataOptions("refiner-mwp"), corpora)
    assert (len(made.train) + len(made.dev), len(made.test)) == (3099, 999)
    assert not shared(made)
    assert made.audit.disagreements == 7
    assert made.audit.repairs["looked_up_numbers"] == 444 and "unknown_numbers" not in made.audit.repairs


def test_without_svamp_some_numbers_stay_unknown(corpora: Path, tmp_path: Path) -> None:
    shutil.copytree(corpora / "refiner/mwp", tmp_path / "refiner/mwp")
    made = load_splits(TASK, DataOptions("refiner-mwp"), tmp_path)
    assert made.audit.repairs["unknown_numbers"] == 444


def test_the_official_reasoning_files(corpora: Path, tmp_path: Path) -> None:
    made = load_splits(SyntheticReasoning(), DataOptions("snlr"), corpora)
    assert [len(part) for part in made.parts.values()] == [1000, 5000, 5000]
    assert made.audit.repairs == {"glued_steps": 85, "derived_steps": 48}
    (tmp_path / "refiner/srn").mkdir(parents=True)
    for part in ("train", "test"):
        shutil.copy(corpora / f"refiner/srn/srn_{part}.json", tmp_path / "refiner/srn")
    carved = load_splits(SyntheticReasoning(), DataOptions("snlr"), tmp_path)
    assert [len(part) for part in carved.parts.values()] == [900, 100, 5000]


def test_the_development_part_of_moral_stories_is_split(corpora: Path) -> None:
    made = load_splits(MoralStories(), DataOptions("moral"), corpora)
    assert [len(part) for part in made.parts.values()] == [720, 80, 200]
    assert not shared(made)
    assert made.audit.rows == 1000
    assert all(p.gold_metadata["misaligned"] or p.gold_metadata["contradictions"] for p in made.train)
    other = load_splits(MoralStories(), DataOptions("moral", seed=1), corpora)
    assert other.test == made.test and other.dev != made.dev


def test_the_official_parts_of_moral_stories_are_used_where_they_are(corpora: Path, tmp_path: Path) -> None:
    folder = tmp_path / "refiner/moral_stories"
    folder.mkdir(parents=True)
    rows = json.loads((corpora / "refiner/moral_stories/critic_dev_prep.json").read_text(encoding="utf-8"))
    for part, some in (("train", rows[:30]), ("dev", rows[30:40]), ("test", rows[40:60])):
        (folder / f"critic_{part}_prep.json").write_text(json.dumps(some))
    made = load_splits(MoralStories(), DataOptions("moral"), tmp_path)
    assert [len(part) for part in made.parts.values()] == [30, 10, 20]
    assert len(load_splits(MoralStories(), replace(DataOptions("moral"), n_test=5), tmp_path).test) == 5
