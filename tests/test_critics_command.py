"""`refiner critics`: critics compared on the same hypotheses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refiner_env.agreement import CriticFigures
from refiner_env.cli import main
from refiner_env.records import write_episodes
from refiner_env.scripted import ScriptedEditor
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Fault, Feedback
from trainers.rollout import play

SMALL = ["--data.n-train", "1", "--data.n-dev", "1", "--data.n-test", "40"]


def figures(path: Path) -> dict[str, dict[str, Any]]:
    return {line["critic"]: line for line in map(json.loads, path.read_text().splitlines())}


@pytest.mark.parametrize("task", ["mwp", "snlr", "moral"])
def test_critics_are_compared_with_the_oracle_on_the_same_hypotheses(task: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.jsonl"
    critics = ["oracle", "none", "typed", "noisy(oracle, 1.0)"]
    assert main(["critics", "--task", task, "--critics", *critics, "--out", str(out), *SMALL]) == 0
    lines = figures(out)
    assert list(lines) == critics and [line["uses_gold"] for line in lines.values()] == [True, False, True, True]
    oracle, none, typed, noise = (line["figures"] for line in lines.values())
    assert {oracle[key] for key in ("exact", "kind_f1", "accept_precision", "accept_recall")} == {1.0}
    assert (none["exact"], none["accepted"], none["kind_f1"]) == (0.0, 0.0, 0.0)
    assert typed["accept_precision"] == 1.0 and noise["exact"] < 0.5
    assert len({line["figures"]["n"] for line in lines.values()}) == 1
    assert all(line["reviews_per_s"] > line["calls_per_s"] > 0 for line in lines.values())


def test_a_failing_critic_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text(
        "from refiner_env import Critic\n"
        "class Broken(Critic):\n"
        "    def __init__(self, task): pass\n"
        "    def critique(self, problems, hypotheses): raise OSError('disk')\n"
    )
    out = tmp_path / "figures.jsonl"
    name = f"{tmp_path}/broken.py:Broken"
    assert main(["critics", "--critics", "oracle", name, "--out", str(out), *SMALL]) == 0
    assert figures(out)[name]["failures"] == 40 and figures(out)["oracle"]["failures"] == 0
    assert f"{name} failed first: OSError: disk\n" in capsys.readouterr().out


def test_brackets_in_a_name_are_shown_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # wide enough for any path in one line
    file = tmp_path / "c.py"
    file.write_text("from refiner_env import NoCritic\ndef make(task, *words): return NoCritic(task)\n")
    name = f"{file}:make([b], [/i])"
    assert main(["critics", "--critics", name, *SMALL]) == 0
    assert name in capsys.readouterr().out


def test_recorded_hypotheses_are_reviewed(tmp_path: Path, task: MathWordProblem) -> None:
    problems = [task.generate(8, i) for i in range(6)]
    editor = ScriptedEditor(task)
    episodes = play(editor, task, problems, critic="oracle", turns=3, stop="critic")
    write_episodes(tmp_path / "episodes.jsonl", task.name, "oracle", episodes)
    out = tmp_path / "figures.jsonl"
    assert (
        main(["critics", "--episodes", str(tmp_path / "episodes.jsonl"), "--critics", "oracle", "--out", str(out)]) == 0
    )
    assert figures(out)["oracle"]["figures"]["n"] == sum(len(e.turns) for e in episodes)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--critics", "oracel"], "Did you mean 'oracle'"),
        (["--task", "mpw"], "Did you mean 'mwp'"),
        (["--episodes", "no/such/file"], "no/such/file"),
        (["--right-share", "2"], "--right-share is 2.0"),
        (["--split", "tset"], "Did you mean 'test'"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["critics", *argv]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and said in printed.err


def test_the_f1_of_kinds_counts_each_kind_as_often_as_it_is_named() -> None:
    def feedback(*kinds: str) -> Feedback:
        return Feedback(not kinds, "", tuple(map(Fault, kinds)))

    right = [feedback("operator", "operator"), feedback("operand"), feedback()]
    said = [feedback("operator", "extra_step"), feedback(), feedback()]
    assert CriticFigures.of(said, right).kind_f1 == pytest.approx(2 * 1 / (2 + 3))
    assert CriticFigures.of([feedback()], [feedback()]).kind_f1 == 1.0
