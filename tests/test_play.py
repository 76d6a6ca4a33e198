"""`refiner play`: a person as generator and as critic, from injected lines and through a pipe."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from refiner_env import ProceduralProblems, resolve_critic
from refiner_env.cli import main
from refiner_env.critics import Boundary, HumanCritic
from refiner_env.errors import UnknownNameError
from refiner_env.playing import PlayOptions, environment_id, seated
from refiner_env.records import read_episodes
from refiner_env.tasks import TASKS, MathWordProblem, resolve_task
from refiner_env.types import Fault, StopReason

TASK = MathWordProblem()
PROBLEMS = ProceduralProblems(TASK, seed=0)
GUESS = TASK.guess
ROOT = Path(__file__).parents[1]


def gold(index: int) -> str:
    return str(PROBLEMS[index].gold)


def lines(typed: Iterable[str | type[BaseException]]) -> Callable[[str], str]:
    """Reads these lines, raises where an exception stands among them, then input is at its end."""
    rest = iter(typed)

    def read(prompt: str) -> str:
        line = next(rest, EOFError)
        if isinstance(line, str):
            return line
        raise line

    return read


def played(
    *typed: str | type[BaseException],
    name: str = "mwp",
    role: str = "generator",
    record: Path | None = None,
    **options: Any,
) -> str:
    """What is shown where this is typed."""
    console = Console(file=io.StringIO(), width=1000)
    session = seated(name, role, PlayOptions(**options), record, lines(typed), console)
    try:
        session.run()
    finally:
        session.finish()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# -------------------------------------------------------------------------------------------- as the generator


def test_a_problem_is_tried_until_it_is_right() -> None:
    shown = played(GUESS, gold(3), index=3)
    assert PROBLEMS[3].text in shown and f"[1] {GUESS}\n    rejected: " in shown
    assert "Right, and accepted, after 2 turns." in shown
    assert shown.endswith("1 episode, 1 solved, 2.00 turns and reward 1.00 on average.\n")


def test_what_decodes_the_models_is_told_before_the_first_problem() -> None:
    shown = played(critic="learned", decoding="leaving")
    assert shown.startswith("Decoded by leaving.\n") and "Decoded by" not in played()


def test_the_next_problem_comes_on_enter_or_n_and_in_order() -> None:
    shown = played(gold(0), "", "n", GUESS, "q")
    assert [PROBLEMS[i].text in shown for i in range(4)] == [True, True, True, False]
    assert "2 episodes, 1 solved, 1.00 turns and reward 0.50" in shown


def test_the_turns_run_out() -> None:
    shown = played("what?", "what?", max_turns=2)
    assert "Neither right nor accepted, after 2 turns." in shown


def test_scores_are_hidden_until_the_episode_is_over() -> None:
    assert "equivalent" not in played(GUESS, "h", index=3)
    assert "equivalent" in played(GUESS, "g", "h", index=3)


def test_a_critic_that_errs_is_told_apart_from_a_right_hypothesis(tmp_path: Path) -> None:
    shown = played(GUESS, index=3, critic="execution")
    assert "Accepted, but not right, after 1 turn." in shown
    assert "Right, but not accepted, after 1 turn." in played(gold(3), index=3, critic="none", max_turns=1)


def test_giving_up_shows_gold_and_ends_the_episode(tmp_path: Path) -> None:
    record = tmp_path / "e.jsonl"
    shown = played(GUESS, "g", gold(3), index=3, record=record)
    assert f"gold  {gold(3)}" in shown and "This episode is over" in shown
    (kept,) = read_episodes(record)
    assert [turn.hypothesis for turn in kept.episode.turns] == [GUESS] and kept.episode.stop is None


def test_gold_is_nowhere_before_it_is_asked_for() -> None:
    assert gold(3) not in played("?", "h", GUESS, "h", "", "n", "q", index=3)


@pytest.mark.parametrize("task", TASKS.names())
def test_help_shows_the_form_of_z_of_every_task(task: str) -> None:
    shown = played("?", name=task)
    assert resolve_task(task).guess in shown and "h  history" in shown and "No episode was played." in shown


def test_help_shows_another_problem_whose_gold_is_more_than_the_guess() -> None:
    guess = resolve_task("snlr").guess
    assert played("?", name="snlr").count(guess) == 1  # what z looks like, but not the example


def test_history_shows_the_turns_so_far() -> None:
    shown = played("one", "two", "h", index=3)
    history = shown.rpartition(PROBLEMS[3].text)[2]
    assert "[1] one" in history and "[2] two" in history


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_however_it_ends_what_was_played_is_recorded_and_summed_up(tmp_path: Path, end: type[BaseException]) -> None:
    record = tmp_path / "e.jsonl"
    shown = played(gold(0), "n", GUESS, end, record=record)
    assert "2 episodes, 1 solved" in shown
    first, second = read_episodes(record)
    assert first.episode.problem == PROBLEMS[0] and first.episode.stop is StopReason.ACCEPTED
    assert second.episode.problem == PROBLEMS[1] and second.episode.stop is None
    assert (first.task, first.critic, first.stop) == ("MathWordProblem", "oracle", "critic")
    played(gold(0), record=record)
    assert len(read_episodes(record)) == 3


def test_a_failing_critic_loses_nothing(tmp_path: Path) -> None:
    plugin = tmp_path / "flaky.py"
    plugin.write_text(
        "from refiner_env import Critic, Feedback\n"
        "class Flaky(Critic):\n"
        "    def critique(self, problems, hypotheses):\n"
        "        if 'boom' in hypotheses[0]: raise ValueError('boom')\n"
        "        return [Feedback(False, 'Hm.')] * len(hypotheses)\n"
        "def make(task): return Flaky()\n"
    )
    record = tmp_path / "e.jsonl"
    shown = played("one", "boom", "three", record=record, critic=f"{plugin}:make")
    assert "[2] boom\n    The critic failed: Flaky ValueError: boom\n[3] three\n    rejected: Hm.\n" in shown
    assert [turn.hypothesis for turn in read_episodes(record)[0].episode.turns] == ["one", "boom", "three"]


def test_seed_level_and_critic_are_taken() -> None:
    hard = ProceduralProblems(TASK, seed=7, level="hard")[2]
    assert hard.text in played(seed=7, level="hard", index=2)
    noise = [played(*["x"] * 4, critic="noisy(oracle, 1.0)", seed=5) for _ in range(2)]
    assert noise[0] == noise[1] != played(*["x"] * 4, critic="noisy(oracle, 1.0)", seed=6)


# ---------------------------------------------------------------------------------------------- as the critic


def test_feedback_is_read_and_the_editor_follows_it(tmp_path: Path) -> None:
    record = tmp_path / "e.jsonl"
    shown = played("The operator in #0 is incorrect", "", role="critic", index=3, record=record)
    (kept,) = read_episodes(record)
    first, second = kept.episode.turns
    assert kept.critic == "human" and kept.episode.problem == PROBLEMS[3]
    assert first.feedback.faults == (Fault("operator", 0, "operator"),) and second.feedback.accepted
    assert first.hypothesis != second.hypothesis
    assert f"[1] {first.hypothesis}" in shown and f"[2] {second.hypothesis}" in shown
    assert "rejected: The operator in #0 is incorrect." in shown and "accepted: No hint." in shown


def test_commands_work_for_a_critic_too() -> None:
    shown = played("?", "h", "g", "n", "q", role="critic", index=3)
    assert TASK.phrases.templates["operator"] in shown and gold(3) in shown and PROBLEMS[4].text in shown


def test_some_hypotheses_are_right_from_the_start_and_some_are_not(tmp_path: Path) -> None:
    record = tmp_path / "e.jsonl"
    played(*["", "n"] * 20, role="critic", record=record)
    right = [kept.episode.turns[0].scores.ir_equivalent for kept in read_episodes(record)]
    assert len(right) == 20 and set(right) == {True, False}


# -------------------------------------------------------------------------------------------------- its names


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("Refiner/MathWordProblem-v0", "Refiner/MathWordProblem-v0"),
        ("mwp", "Refiner/MathWordProblem-v0"),
        ("SNLR", "Refiner/SyntheticReasoning-v0"),
        ("MoralStories", "Refiner/MoralStories-v0"),
        ("Refiner/MathWordProblem.noisy-v0", "Refiner/MathWordProblem.noisy-v0"),
        ("moral.noisy", "Refiner/MoralStories.noisy-v0"),
    ],
)
def test_an_environment_has_short_names(name: str, id: str) -> None:
    assert environment_id(name) == id


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("mpw", "mwp"),
        ("MathWordProblems", "MathWordProblem"),
        ("Refiner/MathWordProblem.nosy-v0", "Refiner/MathWordProblem.noisy-v0"),
        ("mwp.nosy", "mwp.noisy"),
        ("Refiner/SyntheticReasonin-v0", "Refiner/SyntheticReasoning-v0"),
    ],
)
def test_an_unknown_environment_gets_the_closest(name: str, close: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{close}'"):
        environment_id(name)


def test_options_that_do_not_fit_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = tmp_path / "notes.txt"
    foreign.write_text("mine\n")
    for argv, said in {
        ("mwp", "--as", "critc"): "Did you mean 'critic'?",
        ("mwp", "--as", "critic", "--critic", "oracle"): "drop one",
        ("mwp", "--level", "hrad"): "Did you mean 'hard'?",
        ("mwp", "--critic", "orcle"): "Did you mean 'oracle'?",
        ("mwp", "--max-turns", "0"): "--max-turns is 0",
        ("mwp", "--index", "10000"): "--index is 10000",
        ("mwp.Critic",): "refiner play mwp --as critic",
        ("Refiner/MoralStories.Critic-v0",): "--as critic",
        ("mwp", "--record", str(foreign)): "holds no recorded episodes",
    }.items():
        assert main(["play", *argv]) == 2
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert foreign.read_text() == "mine\n"


# ---------------------------------------------------------------------------------------------- through a pipe


def piped(typed: bytes, *argv: str, **environment: str) -> tuple[str, str, int]:
    run = subprocess.run(
        [sys.executable, "-m", "refiner_env.cli", "play", *argv],
        input=typed,
        capture_output=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", **environment},
    )
    return run.stdout.decode(), run.stderr.decode(), run.returncode


@pytest.mark.parametrize(
    ("encoding", "seen"),
    [
        ("utf-8", "caf\xe9 " + r"\udcff\x1b[2J [red] \u202e"),
        ("ascii", r"caf\udcc3\udca9 \udcff\x1b[2J [red] \udce2\udc80\udcae"),
    ],
)
def test_lines_may_be_piped_in_and_nothing_breaks(tmp_path: Path, encoding: str, seen: str) -> None:
    record = tmp_path / "e.jsonl"
    odd = b"caf\xc3\xa9 \xff\x1b[2J [red] \xe2\x80\xae"
    typed = odd + b"\n" + gold(3).encode() + b"\n\nhalf a li"
    out, err, status = piped(typed, "mwp", "--index", "3", "--record", str(record), PYTHONIOENCODING=encoding)
    assert status == 0 and err == ""
    assert "\x1b" not in out and f"[1] {seen}\n" in out
    assert "2 episodes, 1 solved" in out and "z1>" not in out
    first, second = read_episodes(record)
    assert first.episode.turns[1].scores.ir_exact and second.episode.turns[0].hypothesis == "half a li"


def test_no_line_at_all_ends_with_the_summary() -> None:
    out, err, status = piped(b"", "mwp.none", "--as", "critic")
    assert (err, status) == ("", 0) and out.endswith("No episode was played.\n")


# ------------------------------------------------------------------------------------------- the human critic


def reviewing(*typed: str | type[BaseException]) -> tuple[HumanCritic, io.StringIO]:
    shown = io.StringIO()
    return HumanCritic(TASK, lines(typed), Console(file=shown, width=1000)), shown


def test_a_person_accepts_by_enter_and_types_faults_or_own_words() -> None:
    critic, shown = reviewing("", "A step is missing at #1.", "Subtract instead", "Step #0 is not needed")
    said = Boundary(critic).ask([PROBLEMS[0]] * 2 + [PROBLEMS[1]] * 2, ["a", "b\x1b", "c", "d"])
    assert [feedback.accepted for feedback in said] == [True, False, False, False]
    assert [feedback.faults for feedback in said[1:]] == [
        (Fault("missing_step", 1),),
        (Fault("other", hint="Subtract instead."),),
        (Fault("extra_step", 0),),
    ]
    text = shown.getvalue()
    assert text.count(PROBLEMS[0].text) == text.count(PROBLEMS[1].text) == 1 and r"z   b\x1b" in text


def test_a_person_gets_help_and_never_sees_gold() -> None:
    critic, shown = reviewing("?", "")
    Boundary(critic).ask([PROBLEMS[3]], ["a"])
    assert all(sentence in shown.getvalue() for sentence in TASK.phrases.templates.values())
    assert gold(3) not in shown.getvalue() and not critic.uses_gold and not critic.deterministic


@pytest.mark.parametrize("end", ["q", EOFError, KeyboardInterrupt])
@pytest.mark.parametrize("on_failure", ["stop", "record"])
def test_a_person_who_stops_stops_the_run(end: str | type[BaseException], on_failure: str) -> None:
    critic, _ = reviewing(end)
    with pytest.raises(KeyboardInterrupt):
        Boundary(critic, on_failure).ask([PROBLEMS[0]], ["a"])


def test_human_is_a_name_of_a_critic() -> None:
    assert isinstance(resolve_critic("human", TASK), HumanCritic)
