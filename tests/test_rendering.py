"""How turns look: marks at the right characters, nothing that moves the cursor, nothing lost."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text

from refiner_env.rendering import FAULTY, MAX_SHOWN, episode_text, marked, rendered, to_ansi, turn_text, visible
from refiner_env.types import Episode, Fault, Feedback, Problem, Scores, Turn

WRONG = Scores(False, False, True, 0.25)
CODE = re.compile(r"\x1b\[[0-9;]*m")


def faulty(text: Text) -> list[str]:
    """The marked pieces."""
    return [text.plain[span.start : span.end] for span in text.spans if span.style == FAULTY]


def rejected(*faults: Fault, text: str = "Wrong.") -> Feedback:
    return Feedback(False, text, faults)


def test_a_turn_shows_hypothesis_verdict_faults_and_scores() -> None:
    feedback = rejected(Fault("operator", 0, "operator", span=(4, 7)), Fault("missing_step", 1))
    shown = rendered("How many?", "#0: add ( a )", feedback, 2, WRONG)
    assert shown.plain.splitlines() == [
        "How many?",
        "[2] #0: add ( a )",
        "    rejected: Wrong.",
        "    faults: missing_step at #1",
        "    equivalent no, exact no, answer yes, similarity 0.25",
    ]
    assert faulty(shown) == ["add"]


def test_before_the_first_turn_only_the_problem_is_shown() -> None:
    assert to_ansi(rendered("Two\nlines.")) == "Two\nlines."


def test_verdicts_probabilities_and_failures_are_told_apart() -> None:
    assert "accepted: No hint." in turn_text("z", Feedback(True, "No hint."), 1).plain
    assert turn_text("z", Feedback(False, ""), 1).plain.endswith("rejected")
    likely = Feedback(False, "No.", accept_probability=0.125)
    assert "rejected (right with probability 0.12): No." in turn_text("z", likely, 1).plain
    assert "The critic failed: it hung" in turn_text("z", Feedback(False, "", failure="it hung"), 1).plain


def test_a_hint_is_shown_where_the_text_does_not_give_it() -> None:
    fault = Fault("syntax", hint="expected #0", span=(0, 1))
    assert "faults: syntax (expected #0)" in turn_text("z", rejected(fault), 1).plain
    assert "faults" not in turn_text("z", rejected(fault, text="Said: expected #0."), 1).plain


def test_an_episode_shows_all_turns_and_scores_only_if_wished() -> None:
    turns = tuple(Turn(z, rejected(), WRONG, 0.0, None) for z in ("one", "two"))
    episode = Episode(Problem("u", "x", None, None), turns)
    assert [line[:7] for line in episode_text(episode).plain.splitlines() if line.startswith("[")] == [
        "[1] one",
        "[2] two",
    ]
    assert "similarity" in episode_text(episode).plain
    assert "similarity" not in episode_text(episode, scores=False).plain


@pytest.mark.parametrize(
    ("spans", "pieces"),
    [
        ([(0, 2)], ["ab"]),
        ([(0, 2), (1, 3)], ["abc"]),
        ([(0, 1), (2, 3)], ["a", "c"]),
        ([(-5, 1), (3, 10**9)], ["a", "d"]),
        ([(3, 1), (2, 2), (9, 12)], []),
    ],
)
def test_spans_may_overlap_lie_outside_or_be_empty(spans: list[tuple[int, int]], pieces: list[str]) -> None:
    shown = marked("abcd", [Fault("x", span=span) for span in spans])
    assert shown.plain == "abcd" and faulty(shown) == pieces


def test_marks_stay_on_their_characters_behind_escapes() -> None:
    assert faulty(marked("\x1b[2Jadd", [Fault("operator", span=(4, 7))])) == ["add"]
    assert faulty(marked("a\tb", [Fault("x", span=(1, 2))])) == [r"\t"]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\r\nb\tc\x00", r"a\r\nb\tc\x00"),
        ("\u202etxt.exe\u200b", r"\u202etxt.exe\u200b"),
        ("[red]not red[/red] :smile:", "[red]not red[/red] :smile:"),
        ("\ud800", r"\ud800"),
        ("na\u00efve \u6570 \u221a", "na\u00efve \u6570 \u221a"),
    ],
)
def test_what_does_not_print_is_shown_as_an_escape(text: str, seen: str) -> None:
    assert visible(text) == seen
    assert seen in to_ansi(rendered("x", text, rejected(text=text), 1))


def test_huge_texts_are_clipped_and_say_so() -> None:
    text = "z" * 10 * MAX_SHOWN
    assert visible(text) == "z" * MAX_SHOWN + f" ... ({len(text)} characters)"
    assert marked(text, [Fault("x", span=(0, len(text)))]).plain == visible(text)
    many = rejected(*[Fault("other", hint=text)] * 1000, text=text)
    assert len(to_ansi(rendered(text, text, many, 1))) < 6 * MAX_SHOWN


def test_a_blank_hypothesis_is_seen() -> None:
    assert turn_text("", rejected(), 1).plain.startswith("[1] (blank)\n")
    assert turn_text("  ", rejected(), 1).plain.startswith("[1] (blank)\n")


def test_ansi_has_codes_at_marks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = rendered("x " * 200, "#0: add", rejected(Fault("operator", 0, span=(4, 7))), 1, WRONG)
    plain = to_ansi(shown)
    assert "[1] #0: \x1b[1;4;31madd\x1b[0m\n" in plain
    assert len(CODE.findall(plain)) == 2
    assert CODE.sub("", plain) == "\n".join(line.rstrip() for line in shown.plain.splitlines())
    for name, value in {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "10"}.items():
        monkeypatch.setenv(name, value)
        assert to_ansi(shown) == plain


TEXTS = st.text(st.characters() | st.sampled_from("\x1b\r\n\u202e\ud800[]\\" + string.printable), max_size=40)
FAULTS = st.lists(
    st.builds(
        Fault,
        TEXTS,
        st.none() | st.integers(),
        hint=st.none() | TEXTS,
        span=st.none() | st.tuples(st.integers(-50, 50), st.integers(-50, 50)),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, TEXTS, FAULTS)
def test_whatever_models_write_the_terminal_is_safe(
    problem: str, hypothesis: str, said: str, faults: list[Fault]
) -> None:
    shown = to_ansi(rendered(problem, hypothesis, rejected(*faults, text=said), 1, WRONG))
    bare = CODE.sub("", shown)
    assert all(c.isprintable() or c == "\n" for c in bare)
    assert bare.encode() and not any(line.endswith(" ") for line in bare.splitlines())
    assert set(CODE.findall(shown)) <= {"\x1b[1;4;31m", "\x1b[0m"}
    assert visible(hypothesis).strip() in bare.replace("(blank)", "")
