"""`refiner data build` and `show`: critic rows are labelled by the oracle, balanced, seeded; shown faults are real."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from data import Audit, DataOptions, Splits, load_saved, load_splits
from data.build import RIGHT, BuildOptions, build
from data.negatives import balanced_pairs
from refiner_env.cli import main
from refiner_env.tasks import TASKS, MathWordProblem
from refiner_env.types import Problem

TASK = MathWordProblem()
SMALL = ["--n-train", "40", "--n-dev", "6", "--n-test", "8"]


@pytest.fixture(scope="module")
def problems() -> Sequence[Problem]:
    return [TASK.generate(7, i) for i in range(300)]


def test_every_task_names_its_perturbations() -> None:
    for name in TASKS.names():
        kinds = TASKS.resolve(name).perturbations
        assert len(set(kinds)) == len(kinds) > 1


def test_pairs_are_labelled_by_the_oracle(problems: Sequence[Problem]) -> None:
    pairs = balanced_pairs(TASK, problems, random.Random(0), no_hint_share=0.3, per_problem=2)
    assert 540 < len(pairs) <= 600
    for pair in pairs:
        assert pair.faults == TASK.diagnose(pair.problem, pair.hypothesis)
        assert pair.feedback == TASK.feedback(pair.faults).text
    right = sum(not pair.faults for pair in pairs)
    assert 0.2 < right / len(pairs) < 0.35
    keys = [(pair.problem.uid, pair.hypothesis) for pair in pairs]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", TASKS.names())
def test_kinds_of_faults_are_about_as_frequent_as_each_other(name: str) -> None:
    task = TASKS.resolve(name)()
    drawn = [task.generate(5, i) for i in range(400)]
    pairs = balanced_pairs(task, drawn, random.Random(0), no_hint_share=0.0, per_problem=1)
    counts = Counter(kind for pair in pairs for kind in {fault.kind for fault in pair.faults})
    named = [counts[kind] for kind in task.perturbations if kind in task.fault_kinds]
    assert max(named) < 2 * min(named), counts


@pytest.mark.parametrize(("share", "right"), [(0.0, 0), (1.0, 300)])
def test_the_share_of_right_hypotheses_may_be_all_or_none(
    share: float, right: int, problems: Sequence[Problem]
) -> None:
    pairs = balanced_pairs(TASK, problems, random.Random(0), no_hint_share=share, per_problem=1)
    assert sum(not pair.faults for pair in pairs) == right


def test_problems_without_gold_make_no_pairs(problems: Sequence[Problem]) -> None:
    mixed = [problems[0].without_gold(), problems[1]]
    pairs = balanced_pairs(TASK, mixed, random.Random(0), no_hint_share=0.5, per_problem=1)
    assert [pair.problem for pair in pairs] == [problems[1]]


def test_a_build_is_read_back(problems: Sequence[Problem], tmp_path: Path) -> None:
    from datasets import load_from_disk

    splits = Splits("made", problems[:50], (), (problems[60], problems[61].without_gold()), Audit())
    built = build(TASK, splits, tmp_path / "out", BuildOptions(per_problem=2), seed=3)
    assert load_saved(built.problems).train == tuple(problems[:50])
    rows = load_from_disk(built.critic)
    assert {name: table.num_rows for name, table in rows.items()} == {k: n for k, n in built.rows.items() if n}
    assert built.without_gold == 1
    by_uid = {p.uid: p for p in problems}
    counts: Counter[str] = Counter()
    for row in rows["train"]:
        faults = TASK.diagnose(by_uid[row["uid"]], row["hypothesis"])
        assert (row["text"], row["feedback"]) == (by_uid[row["uid"]].text, TASK.feedback(faults).text)
        assert row["fault_kinds"] == list(dict.fromkeys(fault.kind for fault in faults))
        counts.update(row["fault_kinds"] or [RIGHT])
    assert built.counts["train"] == counts


def test_a_build_follows_from_its_seed(problems: Sequence[Problem], tmp_path: Path) -> None:
    from datasets import load_from_disk

    splits = Splits("made", problems[:20], problems[20:30], problems[30:40], Audit())

    def hypotheses(name: str, seed: int) -> list[str]:
        built = build(TASK, splits, tmp_path / name, BuildOptions(), seed=seed)
        found: list[str] = load_from_disk(built.critic)["train"]["hypothesis"][:]
        return found

    assert hypotheses("a", 1) == hypotheses("b", 1) != hypotheses("c", 2)


def test_official_files_can_be_built(corpora: Path, tmp_path: Path) -> None:
    splits = load_splits(TASK, DataOptions("refiner-mwp", n_train=300, n_dev=20, n_test=100), corpora)
    built = build(TASK, splits, tmp_path, BuildOptions())
    assert (built.rows["train"], built.without_gold) == (300, 0)
    assert load_saved(built.problems).audit.repairs == splits.audit.repairs


# --------------------------------------------------------------------------------------------------- commands


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("refiner: ") and error.count("\n") == 1
    return error


def test_the_build_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["data", "build", *SMALL, "--out", str(tmp_path / "out"), "--per-problem", "3", "--no-hint-share", "0.5"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("problems", "rows", "right", "operator", "missing_step", "critic"))
    assert [len(part) for part in load_saved(tmp_path / "out" / "problems").parts.values()] == [40, 6, 8]
    assert main(argv) == 2 and "already holds" in one_line(capsys)
    assert main([*argv, "--overwrite"]) == 0
    assert main(["data", "--source", str(tmp_path / "out" / "problems")]) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["build"], "--out is not given"),
        (["build", "--out", "x", "--no-hint-share", "1.5"], "--no-hint-share is 1.5: it must be between 0 and 1"),
        (["build", "--out", "x", "--per-problem", "0"], "--per-problem is 0"),
        (["build", "--out", "x", "--task", "mpw"], "Did you mean 'mwp'"),
        (["show", "--n", "0"], "--n is 0"),
        (["show", "--split", "tset"], "Did you mean 'test'"),
        (["show", "--source", "svmap"], "Did you mean 'svamp'"),
    ],
)
def test_errors_are_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *argv]) == 2
    assert said in one_line(capsys)


def test_show_prints_problems_and_one_perturbation_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", *SMALL, "--n", "2", "--split", "test"]) == 0
    printed = capsys.readouterr().out
    test = load_splits(TASK, DataOptions(n_train=40, n_dev=6, n_test=8)).test
    for number, problem in enumerate(test):
        assert (problem.text in printed) == (number < 2)
        if number < 2:
            block = printed.partition(problem.text)[2].partition("stories/")[0]
            assert str(problem.gold) in block
            for kind in TASK.perturbations:
                line = next(line for line in block.splitlines() if line.startswith(f"  {kind}: "))
                wrong = line.removeprefix(f"  {kind}: ")
                for fault in TASK.diagnose(problem, wrong):
                    assert TASK.describe([fault]) in block
                    if fault.span:
                        assert f"{fault.kind} at {wrong[slice(*fault.span)]!r}" in block
    assert "\x1b[" not in printed


def test_show_of_a_problem_without_gold(
    problems: Sequence[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from data import save_splits

    folder = save_splits(Splits("made", [replace(problems[0], gold=None)], (), (), Audit()), tmp_path / "x")
    assert main(["data", "show", "--source", str(folder)]) == 0
    assert "gold    None" in capsys.readouterr().out
