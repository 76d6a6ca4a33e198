"""`refiner replay`: other critics on recorded episodes, and what is made of what they say."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from refiner_env import OracleCritic, ProceduralProblems, resolve_critic
from refiner_env.agreement import CriticFigures, agree
from refiner_env.cli import main
from refiner_env.critics import CRITICS
from refiner_env.records import read_episodes, write_episodes
from refiner_env.replaying import Review, replay
from refiner_env.tasks import MathWordProblem, resolve_task
from refiner_env.types import Critic, Episode, Fault, Feedback, Problem, Task, Turn

ROOT = Path(__file__).parents[1]
TASK = MathWordProblem()
ACCEPTS, REJECTS = Feedback(True, "No hint."), Feedback(False, "Hm.", (Fault("other", hint="Hm."),))


def recorded(path: Path, task: Task[Any] = TASK, n: int = 6, critic: str = "oracle") -> Path:
    """Episodes of two turns: a perturbation of gold, then gold."""
    episodes = []
    judge = resolve_critic(critic, task)
    for problem in ProceduralProblems(task, seed=3, size=n)[:]:
        attempts = [task.perturb(problem, random.Random(0)), str(problem.gold)]
        said = judge.critique([problem] * 2, attempts)
        scores = [task.score(problem, attempt) for attempt in attempts]
        turns = [Turn(z, f, s, 0.0, None) for z, f, s in zip(attempts, said, scores, strict=True)]
        episodes.append(Episode(problem, tuple(turns)))
    write_episodes(path, task.name, critic, episodes, append=True)
    return path


def reviews(path: Path, *critics: str, batch_size: int = 64) -> list[Review]:
    return [review for batch in replay(read_episodes(path), critics, batch_size) for review in batch]


class Spy(Critic):
    """Accepts what holds `subtract`, fails on what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.batches: list[tuple[Sequence[Problem], Sequence[str]]] = []
        self.fails_on = ""

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        self.batches.append((problems, hypotheses))
        if self.fails_on in hypotheses:
            raise ValueError("no idea")
        return [ACCEPTS if "subtract" in hypothesis else REJECTS for hypothesis in hypotheses]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    made = Spy()
    monkeypatch.setattr(CRITICS, "_entries", {**CRITICS._entries, "spy": lambda task: made})
    return made


def test_every_recorded_hypothesis_is_reviewed_in_batches_without_gold(tmp_path: Path, spy: Spy) -> None:
    path = recorded(tmp_path / "e.jsonl")
    said = reviews(path, "spy", batch_size=5)
    assert [len(hypotheses) for _, hypotheses in spy.batches] == [5, 5, 2]
    assert all(problem.gold is None and not problem.gold_metadata for batch, _ in spy.batches for problem in batch)
    turns = [turn for record in read_episodes(path) for turn in record.episode.turns]
    assert [review.hypothesis for review in said] == [turn.hypothesis for turn in turns]
    assert [review.feedback[0] for review in said] == [turn.feedback for turn in turns]
    assert [review.turn for review in said] == [1, 2] * 6
    assert said == reviews(path, "spy", batch_size=1)


def test_the_same_critic_agrees_with_itself(tmp_path: Path) -> None:
    said = reviews(recorded(tmp_path / "e.jsonl"), "oracle")
    assert not any(review.disputed for review in said)
    assert [review.right.accepted for review in said if review.right] == [False, True] * 6


def test_a_failure_is_its_feedback_and_costs_no_other(tmp_path: Path, spy: Spy) -> None:
    path = recorded(tmp_path / "e.jsonl")
    spy.fails_on = read_episodes(path)[2].episode.turns[1].hypothesis
    said = reviews(path, "spy")
    failed = [review for review in said if review.feedback[1].failure]
    assert [review.hypothesis for review in failed] == [spy.fails_on]
    assert failed[0].disputed and "no idea" in failed[0].feedback[1].failure


def test_files_may_hold_several_tasks(tmp_path: Path) -> None:
    path = recorded(tmp_path / "e.jsonl", n=2)
    recorded(path, resolve_task("snlr"), n=2)
    recorded(path, n=1, critic="none")
    assert [review.task for review in reviews(path, "oracle")] == ["MathWordProblem"] * 6 + ["SyntheticReasoning"] * 4


def test_no_recorded_name_is_a_command_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = read_episodes(recorded(tmp_path / "e.jsonl", n=1))
    write_episodes(tmp_path / "f.jsonl", TASK.name, "\x1b]0;owned\x07", [record.episode for record in records])
    assert main(["replay", str(tmp_path / "f.jsonl"), "--critic", "none"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and r"recorded with \x1b]0;owned" in shown


def test_without_gold_agreement_is_still_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = [record.episode for record in read_episodes(recorded(tmp_path / "e.jsonl"))]
    hidden = [Episode(episode.problem.without_gold(), episode.turns) for episode in episodes]
    write_episodes(tmp_path / "hidden.jsonl", TASK.name, "oracle", hidden)
    assert main(["replay", str(tmp_path / "hidden.jsonl"), "--critic", "none"]) == 0
    shown = capsys.readouterr().out
    assert cells(shown, "none") == [["none", "0", "-", "-", "-", "0"], ["recorded", "none", "0", "6", "6", "0", "0"]]


def cells(shown: str, name: str) -> list[list[str]]:
    """The rows of the tables that name it."""
    rows = [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in shown.splitlines() if "\u2502" in line]
    return [row for row in rows if name in row]


def test_counts_and_shares_are_those_that_a_hand_counts(
    tmp_path: Path, spy: Spy, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded(tmp_path / "e.jsonl")
    spy.fails_on = read_episodes(path)[2].episode.turns[0].hypothesis
    assert main(["replay", str(path), "--critic", "spy"]) == 0
    shown = capsys.readouterr().out
    verdicts = [
        ("subtract" in turn.hypothesis, turn.scores.ir_equivalent, turn.hypothesis == spy.fails_on)
        for record in read_episodes(path)
        for turn in record.episode.turns
    ]
    heard = [(spied, right) for spied, right, failed in verdicts if not failed]
    both, only_spy = heard.count((True, True)), heard.count((True, False))
    only_oracle, neither = heard.count((False, True)), heard.count((False, False))
    assert both and only_spy and only_oracle
    quality, pair = cells(shown, "spy")
    precision, recall = 100 * both / (both + only_spy), 100 * both / 6
    assert quality == ["spy", str(both + only_spy), f"{precision:.1f}", f"{recall:.1f}", f"{100 * both / 12:.1f}", "1"]
    assert pair == ["recorded", "spy", *map(str, (both, neither, only_oracle, only_spy, both))]
    assert cells(shown, "recorded")[0] == ["recorded", "6", "100.0", "100.0", "100.0", "0"]
    assert f"{12 - both} disagreements, {only_spy + only_oracle} of them on the verdict." in shown


def test_each_two_critics_are_compared_and_repeated_ones_are_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [part for name in ("none", "oracle", "none") for part in ("--critic", name)]
    assert main(["replay", str(recorded(tmp_path / "e.jsonl")), *named]) == 0
    shown = capsys.readouterr().out
    assert len(cells(shown, "none")) == 3 and cells(shown, "none")[2][:2] == ["none", "oracle"]


def test_disagreements_are_shown_and_all_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = recorded(tmp_path / "e.jsonl"), tmp_path / "new" / "out.jsonl"
    assert main(["replay", str(path), "--critic", "none", "--show", "2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "12 disagreements, 6 of them on the verdict." in shown
    assert shown.count("  gold\n") == 2 == shown.count("  gold\n    accepted: No hint.")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    first = read_episodes(path)[0].episode
    assert [row["right"] for row in rows] == [False, True] * 6
    assert rows[0]["hypothesis"] == first.turns[0].hypothesis and rows[0]["uid"] == first.problem.uid
    assert [said["critic"] for said in rows[0]["said"]] == ["recorded", "none"]
    assert rows[0]["said"][0]["text"] == first.turns[0].feedback.text
    assert main(["replay", str(path), "--critic", "none", "--out", str(out)]) == 2
    assert "exists: choose another file" in capsys.readouterr().err


def test_one_is_told_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(recorded(tmp_path / "e.jsonl", n=1)), "--critic", "oracle"]) == 0
    assert capsys.readouterr().out.startswith("1 episode, 2 hypotheses, ")


def test_a_broken_line_is_told_and_the_rest_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "e.jsonl")
    path.write_text(path.read_text()[:-30])
    assert main(["replay", str(path), "--critic", "oracle"]) == 0
    printed = capsys.readouterr()
    assert "5 episodes, 10 hypotheses, 5 of them right; recorded with oracle." in printed.out
    assert printed.err.count("\n") == 1 and "line 6 is no recorded episode" in printed.err


def test_misuse_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, empty = recorded(tmp_path / "e.jsonl"), tmp_path / "empty.jsonl"
    write_episodes(empty, TASK.name, "oracle", [Episode(TASK.generate(0, 0), ())])
    unknown = tmp_path / "unknown.jsonl"
    write_episodes(unknown, "MathWordProblems", "oracle", [Episode(TASK.generate(0, 0), ())])
    for argv, said in {
        (str(path), "--critic", "orcle"): "Did you mean 'oracle'?",
        (str(tmp_path / "none"), "--critic", "oracle"): "cannot be read",
        (str(empty), "--critic", "oracle"): "hold 0 hypotheses",
        (str(unknown), "--critic", "oracle"): "Did you mean 'MathWordProblem'?",
        (str(path), "--critic", "oracle", "--batch-size", "0"): "--batch-size is 0",
    }.items():
        assert main(["replay", *argv]) == 2
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.count("\n") == 1


def test_a_person_reviews_until_they_stop_and_what_they_said_counts(tmp_path: Path) -> None:
    path = recorded(tmp_path / "e.jsonl")
    run = subprocess.run(
        [sys.executable, "-m", "refiner_env.cli", "replay", str(path), "--critic", "human"],
        input="Hm\n\n\nq\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "Stopped after 3 of 12 hypotheses." in run.stdout
    assert cells(run.stdout, "human")[0] == ["human", "2", "50.0", "100.0", "33.3", "0"]


# -------------------------------------------------------------------------------------------------- agreement


def test_agreement_is_of_verdicts_and_typed_faults() -> None:
    a, b = Fault("operator", 0, "operator"), Fault("missing_step", 1)
    said = Feedback(False, "x", (a, b))
    assert agree(said, Feedback(False, "y", (b, Fault("operator", 0, "operator", span=(1, 2)))))
    assert not agree(said, Feedback(False, "x", (a,)))
    assert not agree(said, Feedback(False, "x", (a, b, b)))
    assert not agree(ACCEPTS, Feedback(False, ""))
    assert not agree(Feedback(False, "", failure="x"), Feedback(False, "", failure="x"))


def test_a_failure_accepts_nothing() -> None:
    figures = CriticFigures.of([ACCEPTS, Feedback(False, "", failure="x"), ACCEPTS], [ACCEPTS, ACCEPTS, REJECTS])
    assert (figures.accept_precision, figures.accept_recall, figures.exact) == (0.5, 0.5, 1 / 3)


def test_the_oracle_is_right() -> None:
    problems = ProceduralProblems(TASK, size=5)[:]
    said = OracleCritic(TASK).critique(problems, [TASK.guess] * 5)
    assert CriticFigures.of(said, said).exact == 1
