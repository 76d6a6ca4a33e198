"""Recorded episodes come back as they were, and files that are not whole say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refiner_env.errors import DataError
from refiner_env.records import SCHEMA, Record, frozen, read_episodes, read_object, write_episodes
from refiner_env.types import Episode, Fault, Feedback, Problem, Scores, StopReason, Turn

PROBLEM = Problem(
    "s/1",
    "How many?",
    "#0: add ( number0, number1 ) | EOS",
    7.0,
    {"numbers": (3.0, 4.0), "nested": {"pairs": ((1, 2), ())}},
    {"paraphrases": ("one", "two"), "synthetic": True},
)
FEEDBACK = Feedback(
    False,
    "The operator in #0 is incorrect.",
    (Fault("operator", 0, "operator", span=(4, 12)), Fault("other", hint='a "hint"')),
    0.25,
)
FIRST = Turn("#0: subtract", FEEDBACK, Scores(False, False, True, 0.5), 0.5, None, {"answer": 1.0, "dense": 0.0})
FAILED = Turn("", Feedback(False, "", failure="it hung"), Scores(False, False, False, 0.0), 0.0, StopReason.MAX_TURNS)
EPISODE = Episode(PROBLEM, (FIRST, FAILED))
CUT_SHORT = Episode(PROBLEM, (FIRST,))


def written(path: Path, *episodes: Episode, **options: Any) -> Path:
    write_episodes(path, "MathWordProblem", "noisy(oracle)", episodes, **options)
    return path


def test_episodes_come_back_equal_with_their_header(tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "episodes.jsonl", EPISODE, CUT_SHORT, Episode(PROBLEM, ()), stop="gold")
    assert read_episodes(path) == [
        Record(episode, "MathWordProblem", "noisy(oracle)", "gold")
        for episode in (EPISODE, CUT_SHORT, Episode(PROBLEM, ()))
    ]
    assert read_episodes(path)[1].episode.stop is None
    assert [json.loads(line)["schema"] for line in path.read_text().splitlines()] == [SCHEMA] * 3


def test_without_gold_none_comes_back(tmp_path: Path) -> None:
    episode = Episode(PROBLEM.without_gold(), (FIRST,))
    assert read_episodes(written(tmp_path / "e.jsonl", episode))[0].episode == episode


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udcff\udfff\x00\u2028\n\r"))
"""Surrogates that make no pair: JSON cannot tell a pair from the character that it stands for."""


@settings(max_examples=100, deadline=None)
@given(TEXT, TEXT, TEXT)
def test_any_text_survives_lone_surrogates_included(
    tmp_path_factory: pytest.TempPathFactory, text: str, hypothesis: str, said: str
) -> None:
    turn = Turn(hypothesis, Feedback(False, said, (Fault("other", hint=said),)), FIRST.scores, 0.0, None)
    episode = Episode(Problem("u", text, text, text), (turn,))
    path = written(tmp_path_factory.mktemp("records") / "e.jsonl", episode, CUT_SHORT)
    assert [record.episode for record in read_episodes(path)] == [episode, CUT_SHORT]
    assert path.read_text(encoding="ascii").count("\n") == 2


def test_sequences_become_tuples_at_any_depth() -> None:
    assert frozen({"a": [1, [2, {"b": [3]}]], "c": "text"}) == {"a": (1, (2, {"b": (3,)})), "c": "text"}


def test_a_path_may_be_text(tmp_path: Path) -> None:
    path = written(tmp_path / "e.jsonl", EPISODE)
    assert read_episodes(str(path)) == read_episodes(path)


def test_appending_keeps_what_is_there_and_writing_does_not(tmp_path: Path) -> None:
    path = written(tmp_path / "e.jsonl", EPISODE, append=True)
    written(path, CUT_SHORT, append=True)
    assert [record.episode for record in read_episodes(path)] == [EPISODE, CUT_SHORT]
    assert len(read_episodes(written(path, EPISODE))) == 1


def test_half_a_line_is_numbered_in_one_warning_and_the_rest_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "e.jsonl", EPISODE, EPISODE)
    path.write_bytes(path.read_bytes()[:-40])
    written(path, CUT_SHORT, append=True)
    with pytest.warns(UserWarning, match=r"e\.jsonl: line 2 is no recorded episode .*; 2 episodes are read") as warned:
        records = read_episodes(path)
    assert [record.episode for record in records] == [EPISODE, CUT_SHORT] and len(warned) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": SCHEMA + 1}, f"its schema is {SCHEMA + 1}, and this version reads {SCHEMA}"),
        ({"text": 5}, "its text is 5, no text"),
        ({"turns": [{}]}, "it lacks 'feedback'"),
        ({"metadata": None, "turns": None}, "not iterable"),
        ({"turns": [{**json.loads('{"hypothesis": 1}'), "feedback": {"text": "", "faults": []}}]}, "Feedback"),
    ],
)
def test_a_line_of_other_content_is_left_out_with_the_reason(tmp_path: Path, change: Any, said: str) -> None:
    path = written(tmp_path / "e.jsonl", EPISODE)
    row = {**json.loads(path.read_text()), **change}
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    warnings: list[str] = []
    assert len(read_episodes(path, warnings.append)) == 1
    assert len(warnings) == 1 and "line 2" in warnings[0] and said in warnings[0]


def test_many_broken_lines_make_one_warning(tmp_path: Path) -> None:
    path = written(tmp_path / "e.jsonl", EPISODE)
    path.write_text(path.read_text() + "[]\n" * 30)
    warnings: list[str] = []
    read_episodes(path, warnings.append)
    assert len(warnings) == 1 and "lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... are" in warnings[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"a,b\n1,2\n", "line 1 is none, it is no whole JSON"),
        (b'\n{"arm": "refiner"}\n', "line 2 is none, it lacks 'schema'"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "line 1 is none"),
        (b"[" * 100_000, "it is no whole JSON"),
        (b"null\n", "it is no object"),
    ],
)
def test_a_foreign_file_is_one_clear_error(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(DataError, match="holds no recorded episodes") as caught:
        read_episodes(path)
    assert said in str(caught.value) and "refiner play --record" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "it is no whole JSON"), (b'{"a": 1', "it is no whole JSON"), (b"[]", "it is no object")]
)
def test_settings_that_are_damaged_are_one_clear_error(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"run\.json cannot be read \({said}\): mend it, or take another folder\."):
        read_object(tmp_path / "run.json")


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read: No such file"):
        read_episodes(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be written: Is a directory"):
        written(tmp_path, EPISODE)


def test_metadata_that_is_no_json_names_its_problem(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The episode on 'u' cannot be recorded: .*set"):
        written(tmp_path / "e.jsonl", Episode(Problem("u", "x", None, None, {"a": {1}}), ()))
    assert not (tmp_path / "e.jsonl").exists()
