"""Norms: what judges what, whatever words it takes, and texts that are no norms."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refiner_env.tasks.norms import MAX_CHARS, OPENINGS, RIGHT, WRONG, Judgment, Norm, parse, rejudge, render
from refiner_env.types import ParseFailure

same_every_run = settings(deadline=None, max_examples=300, derandomize=True)


def norm(text: str) -> Norm:
    parsed = parse(text)
    assert isinstance(parsed, Norm), parsed
    return parsed


@pytest.mark.parametrize("judgment", Judgment)
@pytest.mark.parametrize("phrase", ["feed the ducks", "be late for dinner", "leave when it is rude to stay"])
def test_every_opening_is_read_as_what_it_is(judgment: Judgment, phrase: str) -> None:
    for opening in OPENINGS[judgment]:
        read = norm(f"{opening} {phrase}.")
        assert (read.judgment, read.phrase) == (judgment, phrase), opening


@pytest.mark.parametrize(
    ("text", "judgment", "phrase"),
    [
        ("It's good to feed the ducks.", RIGHT, "feed the ducks"),
        ("its GOOD   to feed\nthe ducks", RIGHT, "feed the ducks"),
        ("It\u2019s good to feed the ducks!", RIGHT, "feed the ducks"),
        ("It is all_right to feed the ducks.", RIGHT, "feed the ducks"),
        ("It's never really acceptable to feed the ducks.", WRONG, "feed the ducks"),
        ("It's considered unkind to feed the ducks.", WRONG, "feed the ducks"),
        ("It's a sign of bad manners to feed the ducks.", WRONG, "feed the ducks"),
        ("It's wrong not to feed the ducks.", RIGHT, "feed the ducks"),
        ("It's rude to not feed the ducks.", RIGHT, "feed the ducks"),
        ("You shouldn't not feed the ducks.", RIGHT, "feed the ducks"),
        ("It's expected that you feed the ducks.", RIGHT, "feed the ducks"),
        ("It's expected that you don't feed the ducks.", WRONG, "feed the ducks"),
        ("You are expected to feed the ducks.", RIGHT, "feed the ducks"),
        ("You can't feed the ducks.", WRONG, "feed the ducks"),
        ("One ought never to feed the ducks.", WRONG, "feed the ducks"),
        ("Don't feed the ducks.", WRONG, "feed the ducks"),
        ("Always feed the ducks.", RIGHT, "feed the ducks"),
        ("Feed the ducks.", RIGHT, "Feed the ducks"),
        ("Feeding the ducks is unhealthy.", WRONG, "Feeding the ducks"),
        ("Not feeding the ducks is unhealthy.", RIGHT, "feeding the ducks"),
        ("Feeding ducks that cannot fly is kind.", RIGHT, "Feeding ducks that can not fly"),
        ("Guests should feed the ducks.", RIGHT, "Guests feed the ducks"),
        ("It's good for guests to feed the ducks.", RIGHT, "guests feed the ducks"),
        ("It's good for people to feed the ducks.", RIGHT, "feed the ducks"),
        ("Guests are not expected to feed the ducks.", WRONG, "Guests feed the ducks"),
        ("If a duck is ill, you should feed it.", RIGHT, "If a duck is ill, feed it"),
        ("It's annoying when people feed the ducks.", WRONG, "feed the ducks"),
    ],
)
def test_judgment_and_action(text: str, judgment: Judgment, phrase: str) -> None:
    read = norm(text)
    assert (read.judgment, read.phrase) == (judgment, phrase)
    assert render(read) == " ".join(text.split())


@pytest.mark.parametrize("action", ["", "Ann feeds the ducks."])
@pytest.mark.parametrize("judgment", Judgment)
@pytest.mark.parametrize(
    "text",
    [
        "It's good to feed the ducks.",
        "Always feed the ducks.",
        "Not feeding the ducks is unhealthy.",
        "Guests are expected not to feed the ducks.",
        "It's annoying when people feed the ducks.",
        "The ducks of Ann look hungry.",
    ],
)
def test_rejudging_changes_the_judgment_alone(text: str, judgment: Judgment, action: str) -> None:
    old = norm(f"{text} <|M_ACT|> {action}")
    for seed in range(20):
        new = norm(rejudge(old, judgment, random.Random(seed)))
        assert (new.judgment, new.phrase.lower(), new.action) == (judgment, old.phrase.lower(), "")


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("Not feeding the ducks is unhealthy.", "Not feeding the ducks is ", "."),
        ("Guests are expected not to feed the ducks.", "Guests ", " feed the ducks."),
        ("It's annoying when people feed the ducks.", "It is ", " when people feed the ducks."),
        ("It's good for guests not to feed the ducks.", "It is ", " for guests not to feed the ducks."),
    ],
)
def test_where_no_opening_fits_the_words_that_judge_are_exchanged(text: str, start: str, end: str) -> None:
    for judgment in Judgment:
        new = rejudge(norm(text), judgment, random.Random(0))
        assert new.startswith(start) and new.endswith(end), new


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You should rest. <|M_ACT|> Ann rests.", ("You should rest.", "Ann rests.")),
        ("  you should\trest  <|m_act|>Ann\nrests. ", ("you should rest", "Ann rests.")),
        ("You should rest.", ("You should rest.", "")),
        ("You should rest. <|M_ACT|>  ", ("You should rest.", "")),
    ],
)
def test_parts(text: str, expected: tuple[str, str]) -> None:
    read = norm(text)
    assert (read.text, read.action) == (" ".join(expected[0].split()), expected[1])


@pytest.mark.parametrize(
    ("text", "kind", "culprit"),
    [
        ("", "syntax", ""),
        (" \n", "syntax", " \n"),
        ("?!", "syntax", "?!"),
        ("42", "syntax", "42"),
        ("<|M_ACT|> Ann rests.", "syntax", ""),
        ("<|NRM|> You should rest.", "syntax", "<|NRM|>"),
        ("You should rest. <|M_ACT|> Ann rests. <|M_ACT|> Ann rests.", "syntax", "<|M_ACT|>"),
        ("You should rest. <|M_ACT|> Ann <|SIT|> rests.", "syntax", "<|SIT|>"),
        ("You should rest." + "." * MAX_CHARS, "too_long", "." * 16),
    ],
)
def test_what_is_no_norm(text: str, kind: str, culprit: str) -> None:
    failure = parse(text)
    assert isinstance(failure, ParseFailure)
    assert (failure.kind, text[slice(*failure.span)]) == (kind, culprit)


WORDS = (
    "it is",
    "it's",
    "good",
    "wrong",
    "to",
    "not",
    "never",
    "you",
    "should",
    "for",
    "when",
    "<|M_ACT|>",
    "be",
    "ducks",
    ",",
)


@same_every_run
@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join),
        st.binary().map(lambda b: b.decode("latin-1")),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    read = parse(text)
    if isinstance(read, ParseFailure):
        assert 0 <= read.span[0] <= read.span[1] <= len(text)
    else:
        assert parse(render(read)) == read
        for judgment in Judgment:
            rejudge(read, judgment, random.Random(0))
