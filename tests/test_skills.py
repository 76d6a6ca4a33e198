"""The exercises for the base model: well-formed, right, readable from their text alone, and no task's sentences."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from data import skills
from data.formats import read_corpus
from data.skills import CHECK, DEMANDS, FACTS, HINTS, MENTIONS, QUESTIONS, RESULTS, SKILLS, TASK, VALUES, Exercise
from data.words import word_groups
from refiner_env.tasks.phrases import NO_HINT
from refiner_env.tasks.program import COMMUTATIVE, Number, Operand, Program, Step, StepRef, parse, render
from refiner_env.tasks.stories import DISTRACTORS, SCHEMAS
from refiner_env.types import Fault, Problem

LEVELS = (0.0, 0.5, 1.0)
FIRST_TURN = ("solve", "look_up", "relevant", "fill")
LATER_TURN = ("edit", "revise", "check", "copy", "steps", "phrases")
CRITIC = ("compare", "judge", "spot")
PROGRAMS = ("solve", "edit", "revise", "check")


@cache
def sample(skill: str, level: float, count: int = 300) -> tuple[Exercise, ...]:
    return tuple(SKILLS[skill][0](random.Random(f"test/{seed}"), level) for seed in range(count))


def everything(*skills: str, count: int = 300) -> Iterator[Exercise]:
    return (exercise for skill in skills for level in LEVELS for exercise in sample(skill, level, count))


def program(text: str) -> Program:
    read = parse(text)
    assert isinstance(read, Program), text
    return read


def oracle(exercise: Exercise, gold: str) -> tuple[Fault, ...]:
    """The faults of the hypothesis."""
    return TASK.diagnose(Problem("skill", exercise.text, gold, None, {"numbers": VALUES}), exercise.hypothesis)


# ------------------------------------------------------------------------------------------- every skill


def test_skills_have_their_names_and_shares() -> None:
    assert {*FIRST_TURN, *LATER_TURN, *CRITIC} == set(SKILLS)
    assert sum(share for _, share in SKILLS.values()) == pytest.approx(1.0)
    assert all(exercise.skill == skill for skill in SKILLS for exercise in sample(skill, 1.0))


@pytest.mark.parametrize("skill", SKILLS)
def test_texts_are_clean(skill: str) -> None:
    for exercise in everything(skill):
        assert exercise.text and exercise.target, exercise
        for text in (exercise.text, exercise.target, exercise.hypothesis, exercise.feedback):
            assert text == " ".join(text.split()), "a newline, a tab or a blank too many"
            assert not re.search(r"[{}]", text), "a slot is left"


@pytest.mark.parametrize("skill", SKILLS)
def test_the_three_forms(skill: str) -> None:
    forms = {(bool(e.hypothesis), bool(e.feedback)) for e in everything(skill)}
    assert forms == {(skill not in FIRST_TURN, skill in LATER_TURN)}


@pytest.mark.parametrize("skill", SKILLS)
def test_an_exercise_follows_from_its_seed(skill: str) -> None:
    for level in LEVELS:
        again = [SKILLS[skill][0](random.Random(f"test/{seed}"), level) for seed in range(100)]
        assert again == list(sample(skill, level)[:100])
        assert len(set(sample(skill, level))) >= 0.99 * len(sample(skill, level))


@pytest.mark.parametrize("skill", SKILLS)
def test_texts_grow_with_the_level(skill: str) -> None:
    easy, middle, full = (sum(len(e.text) for e in sample(skill, level)) for level in LEVELS)
    assert 1.05 * easy < middle and 1.05 * middle < full


def test_words_are_no_notation() -> None:
    words = [word for group in word_groups().values() for word in group]
    assert len(words) > 1_500
    assert not [word for word in words if re.fullmatch(r"EOS|(number|blank)\d+|\W+", word)]


# ------------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize("skill", PROGRAMS)
def test_programs_are_canonical_and_of_the_text(skill: str) -> None:
    for exercise in everything(skill):
        gold = program(exercise.target)
        assert render(gold) == exercise.target
        operands = [operand for step in gold.steps for operand in step.operands]
        assert sorted(o.step for o in operands if isinstance(o, StepRef)) == list(range(len(gold.steps) - 1))
        assert not any(isinstance(o, StepRef) and o.step >= k for k, s in enumerate(gold.steps) for o in s.operands)
        numbers = re.findall(r"\bnumber\d+\b", exercise.text)
        assert numbers == [f"number{i}" for i in range(len(numbers))], "numbers count up, each told once"
        assert {str(o) for o in operands if not isinstance(o, StepRef)} <= set(numbers)
        for step in gold.steps:
            assert step.first != step.second
            if step.operator in COMMUTATIVE and isinstance(step.first, Number) and isinstance(step.second, Number):
                assert step.first.index < step.second.index


@pytest.mark.parametrize("skill", PROGRAMS)
def test_programs_vary(skill: str) -> None:
    sizes = Counter(len(program(e.target).steps) for e in sample(skill, 1.0, 1_000))
    for steps, share in {1: 0.45, 2: 0.40, 3: 0.15}.items():
        assert sizes[steps] / 1_000 == pytest.approx(share, abs=0.05)
    operators = Counter(step.operator for e in sample(skill, 1.0) for step in program(e.target).steps)
    assert len(operators) == 4 and min(operators.values()) > 0.18 * operators.total()


def hinted(text: str) -> list[tuple[str, str, str]]:
    """(kind, step, slot) of every sentence of feedback in the words of `HINTS`."""
    found = []
    for sentence in re.findall(r"\S[^.]*\.", text):
        for kind, templates in HINTS.items():
            for template in templates:
                pattern = re.escape(template).replace(r"\{step\}", r"(?P<step>\d+)").replace(r"\{slot\}", r"(?P<s>\w+)")
                if match := re.fullmatch(pattern, sentence):
                    found.append((kind, match["step"], match.groupdict().get("s", "")))
    return found


@pytest.mark.parametrize("skill", ["edit", "revise"])
def test_feedback_names_the_faults(skill: str) -> None:
    own_words = 0
    told = list(everything(skill))
    for exercise in told:
        faults = oracle(exercise, exercise.target)
        assert (exercise.hypothesis != exercise.target) is bool(faults)
        if exercise.feedback == TASK.describe(faults):
            own_words += 1
            continue
        expected = [(f.kind, str(f.step), (f.slot or "") if f.kind == "operand" else "") for f in faults]
        assert sorted(hinted(exercise.feedback)) == sorted(expected), exercise
    assert 0.5 < own_words / len(told) < 0.8
    assert 0.05 < sum(e.hypothesis == e.target for e in everything(skill)) / (300 * len(LEVELS)) < 0.35


def test_comparisons_say_what_the_oracle_says() -> None:
    for exercise in everything("compare"):
        match = re.search(r"#0: .*\)", exercise.text)
        assert match, exercise
        gold = render(program(match[0]))
        assert exercise.target == TASK.describe(oracle(exercise, gold))


def test_checks_tell_nothing_of_the_faults() -> None:
    right = [e.hypothesis == e.target for e in everything("check", count=1_000)]
    assert sum(right) / len(right) == pytest.approx(0.4, abs=0.03)
    assert {e.feedback for e in everything("check")} == {CHECK}


@pytest.mark.parametrize("skill", ["compare", "judge"])
def test_three_of_ten_are_accepted(skill: str) -> None:
    accepted = [e.target == NO_HINT for level in LEVELS for e in sample(skill, level, 1_000)]
    assert sum(accepted) / len(accepted) == pytest.approx(0.3, abs=0.03)


# ------------------------------------------------------------------------------------------- a reader of facts

Pairs = tuple[tuple[str, str], ...]
SLOTS = {
    "holder": r"(?P<holder>[^\s.,:;]+)",
    "good": r"(?P<good>[^\s.,:;]+)",
    "n": r"number(?P<n>\d+)",
    "k": r"(?P<k>\d+)",
}


def as_pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", lambda m: SLOTS[m[1]], re.escape(template)))


FACT_PATTERNS = [as_pattern(template) for template in FACTS]
ASKED = [(kind, as_pattern(template)) for kind, templates in QUESTIONS.items() for template in templates]


def facts(text: str) -> Pairs | None:
    """(holder, good) of number0, number1, ...; None where a sentence is made up or has a word strewn in."""
    pairs: list[tuple[str, str]] = []
    for sentence in re.split(r"(?<=\.) ", text):
        matches = [m for m in (pattern.fullmatch(sentence) for pattern in FACT_PATTERNS) if m]
        if not matches:
            return None
        (match,) = matches
        assert int(match["n"]) == len(pairs), "numbers count up"
        pairs.append((match["holder"], match["good"]))
    return tuple(pairs)


def interpret(text: str) -> Program | None:
    """What text and demand ask for; None where the facts cannot be read. Exactly one reading is allowed."""
    told, _, demand = text.rpartition(" Wanted: ")
    pairs = facts(told)
    if pairs is None:
        return None
    assert len(set(pairs)) == len(pairs), "a mention would name two numbers"
    mentions: dict[str, Operand] = {
        m.format(holder=holder, good=good): Number(i) for i, (holder, good) in enumerate(pairs) for m in MENTIONS
    }
    assert len(mentions) == len(pairs) * len(MENTIONS), "a mention names two numbers"
    steps: list[Step] = []
    for phrase in demand.removesuffix(".").split("; then "):
        here = {m: operand for m, operand in mentions.items() if m in phrase}
        readings = {
            Step(operator, first, second)
            for operator, templates in DEMANDS.items()
            for template in templates
            for a, first in here.items()
            for b, second in here.items()
            if template.format(a=a, b=b) == phrase
        }
        assert len(readings) == 1, (phrase, readings)
        steps += readings
        last = StepRef(len(steps) - 1)
        mentions |= {r.format(k=last.step): last for r in RESULTS}  # "that outcome" is the step just before
    return Program.of(steps)


@pytest.mark.parametrize("skill", ["solve", "revise", "check"])
def test_the_text_asks_for_the_target(skill: str) -> None:
    read = [(interpret(exercise.text), exercise) for exercise in everything(skill)]
    for asked, exercise in read:
        assert asked is None or render(asked) == exercise.target, exercise
    assert sum(asked is not None for asked, _ in read) > 0.3 * len(read)
    assert {len(asked.steps) for asked, _ in read if asked} == {1, 2, 3}


def test_judgments_are_those_of_what_the_text_asks_for() -> None:
    seen = 0
    for exercise in everything("judge"):
        if gold := interpret(exercise.text):
            seen += 1
            assert exercise.target == TASK.describe(oracle(exercise, render(gold)))
    assert seen > 0.3 * 300 * len(LEVELS)


# ------------------------------------------------------------------------------------------- look-up


@dataclass(frozen=True)
class Asked:
    """A question about facts that can be read, with its answer."""

    kind: str
    match: re.Match[str]
    answer: str
    pairs: Pairs
    again: Pairs
    """Of the second list, where there is one."""


def read_look_ups(exercises: Iterable[Exercise]) -> Iterator[Asked]:
    """Those whose facts can be read."""
    for exercise in exercises:
        told, asked = exercise.text, []
        while found := [(kind, m) for kind, pattern in ASKED if (m := re.search(f" {pattern.pattern}$", told))]:
            ((kind, match),) = found
            asked.insert(0, (kind, match))
            told = told[: match.start()]
        first, _, second = told.partition(" Again: ")
        assert bool(second) is ([kind for kind, _ in asked] == ["changed"])
        answers = exercise.target.split()
        assert 1 <= len(asked) == len(answers) <= 4, exercise
        pairs, again = facts(first), facts(second) if second else ()
        if pairs is not None and again is not None:
            yield from (Asked(k, m, answer, pairs, again) for (k, m), answer in zip(asked, answers, strict=True))


@cache
def look_ups() -> tuple[Asked, ...]:
    found = tuple(read_look_ups(everything("look_up", count=1_500)))
    assert len(found) > 0.3 * 1_500 * len(LEVELS)
    return found


def test_every_kind_of_question_is_asked() -> None:
    kinds = Counter(asked.kind for asked in look_ups())
    assert set(kinds) == set(QUESTIONS) and min(kinds.values()) > 0.05 * kinds.total()


def test_look_ups_are_answered_by_their_facts() -> None:
    for asked in look_ups():
        match, pairs = asked.match.groupdict(), asked.pairs
        assert len(set(pairs)) == len(pairs)
        if asked.kind == "number":
            answer = f"number{pairs.index((match['holder'], match['good']))}"
        elif asked.kind == "changed":
            continue
        else:
            number = int(match["k"]) - 1 if asked.kind == "place" else int(match["n"])
            answer = pairs[number][asked.kind == "good"]
        assert asked.answer == answer, asked


def differing(asked: Asked) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    return [(old, new) for old, new in zip(asked.pairs, asked.again, strict=True) if old != new]


def test_what_changed_is_the_target() -> None:
    """Of the lists that differ; that all do: the next test."""
    changed = [(asked, differing(asked)) for asked in look_ups() if asked.kind == "changed"]
    assert len(changed) > 100
    for asked, differences in changed:
        for old, new in differences:
            assert len(differences) == 1 and old[0] == new[0] and new[1] == asked.answer, asked


def test_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where goods are few."""
    monkeypatch.setattr(skills, "_good", lambda rng: rng.choice(["figs", "mugs", "pins", "hats", "oars", "nets"]))
    seen = 0
    for asked in read_look_ups(SKILLS["look_up"][0](random.Random(seed), 0.0) for seed in range(1_000)):
        if asked.kind == "changed":
            seen += 1
            assert differing(asked) and len(set(asked.again)) == len(asked.again), asked
    assert seen > 50


def test_relevant_numbers_are_those_of_the_subject() -> None:
    seen, wholes = 0, 0
    for exercise in everything("relevant"):
        text, _, subject = exercise.text.removesuffix("?").rpartition(" Which concern ")
        if pairs := facts(text):
            seen += 1
            concerned = [i for i, pair in enumerate(pairs) if subject in pair]
            assert exercise.target == " ".join(f"number{i}" for i in concerned)
            wholes += len(concerned) == len(pairs)
    assert seen > 0.3 * 300 * len(LEVELS)
    assert wholes < 0.5 * seen


@pytest.mark.parametrize("skill", ["look_up", "relevant"])
def test_answers_stand_in_the_text(skill: str) -> None:
    """Of made-up sentences, too."""
    for exercise in everything(skill):
        words = re.findall(r"[^\s.,:;?]+", exercise.text)
        assert all(word in words for word in exercise.target.split()), exercise


# ------------------------------------------------------------------------------------------- other forms


def test_copies_are_accepted() -> None:
    assert all(e.target == e.hypothesis and e.feedback == NO_HINT for e in everything("copy"))


def test_blanks_are_filled_from_the_first_telling() -> None:
    for exercise in everything("fill"):
        first, again, second = exercise.text.partition(" Again: ")
        spans = re.split(r" ?(blank\d+) ", exercise.target)[1:]
        for blank, span in zip(spans[::2], spans[1::2], strict=True):
            assert second.count(blank) == 1 and 1 <= len(span.split()) <= 3
            second = second.replace(blank, span)
        assert again and second == first, exercise


def test_the_words_that_differ_are_named_in_order() -> None:
    for exercise in everything("spot"):
        words, row = exercise.text.split(), exercise.hypothesis.split()
        differing = [(old, new) for old, new in zip(words, row, strict=True) if old != new]
        assert len(set(words)) == len(words), "a word names its place"
        assert exercise.target == " ".join(f"{old}, not {new}." for old, new in differing) and differing, exercise


def statements(numbered: str) -> list[str]:
    parts = re.split(r" ?#(\d+): ", numbered)[1:]
    assert parts[::2] == [str(k) for k in range(len(parts) // 2)]
    return parts[1::2]


def test_chains_lead_from_start_to_end() -> None:
    hints: Counter[str] = Counter()
    for exercise in everything("steps"):
        match = re.fullmatch(r"(.*)\. Start: (\S+)\. End: (\S+)\.", exercise.text)
        assert match, exercise
        told, chain, wrong = match[1].split(". "), statements(exercise.target), statements(exercise.hypothesis)
        assert {*chain, *wrong} <= set(told)
        ends = [re.fullmatch(r"(\S+) is (\S+)", statement) for statement in chain]
        links = [(end[1], end[2]) for end in ends if end]
        assert links[0][0] == match[2] and links[-1][1] == match[3] and len(links) == len(chain)
        assert all(a[1] == b[0] for a, b in pairwise(links))

        hint = re.fullmatch(r"(.*?) ?#(\d+)(.*)\.", exercise.feedback)
        assert hint and wrong != chain, exercise
        hints[hint[1] + hint[3]] += 1
        k = int(hint[2])
        if "missing" in exercise.feedback:
            assert [*chain[:k], *chain[k + 1 :]] == wrong
        elif "needed" in exercise.feedback:
            assert [*wrong[:k], *wrong[k + 1 :]] == chain
        else:
            assert [*wrong[:k], chain[k], *wrong[k + 1 :]] == chain
    assert len(hints) == 3 and min(hints.values()) > 0.25 * hints.total()


def test_phrases_are_mended_as_feedback_says() -> None:
    line = re.compile(r"To (.*) is (\w+)\.")
    for exercise in everything("phrases"):
        right, wrong = line.fullmatch(exercise.target), line.fullmatch(exercise.hypothesis)
        assert right and wrong and exercise.target != exercise.hypothesis, exercise
        words, given = right[1].split(), wrong[1].split()
        if match := re.fullmatch(r"Missing: (\S+) (?:after (\S+)|at the start)\.", exercise.feedback):
            assert words.count(match[1]) == 1 and [w for w in words if w != match[1]] == given
        elif match := re.fullmatch(r"Not (\S+) but (\S+)\.", exercise.feedback):
            assert match[1] != match[2] and words in [
                [*given[:k], match[2], *given[k + 1 :]] for k, word in enumerate(given) if word == match[1]
            ]
        else:
            assert exercise.feedback == "The judgment contradicts." and words == given and right[2] != wrong[2]
        assert (right[2] == wrong[2]) is (exercise.feedback != "The judgment contradicts.")


def test_the_place_of_a_missing_word_is_told() -> None:
    for exercise in everything("phrases"):
        if match := re.fullmatch(r"Missing: (\S+) (?:after (\S+)|at the start)\.", exercise.feedback):
            words = exercise.target.removesuffix(".").split()
            assert words[words.index(match[1], 1) - 1] == (match[2] or "To"), exercise
        else:
            assert "Missing" not in exercise.feedback


# ------------------------------------------------------------------------------------------- no task's sentences

TEMPLATES = [
    *FACTS,
    *MENTIONS,
    *RESULTS,
    *(t for table in (DEMANDS, QUESTIONS, HINTS) for templates in table.values() for t in templates),
]
STORIES = [
    *(telling for schema in SCHEMAS for telling in schema.tellings),
    *(question for schema in SCHEMAS for _, question in schema.questions),
    *(sentence for sentences in DISTRACTORS.values() for sentence in sentences),
]


def tokens(text: str) -> tuple[str, ...]:
    """Lower-case words, `_` for a slot; of "'s" only the letter is left, which is no word."""
    return tuple(re.findall(r"\w+", re.sub(r"\{\w+\}", " _ ", text.lower())))


def n_words(pattern: tuple[str, ...]) -> int:
    return sum(len(token) > 1 for token in pattern)


def contains(pattern: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return f" {' '.join(part)} " in f" {' '.join(pattern)} "


def runs(pattern: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Four tokens in a row that hold two words or more."""
    return {run for i in range(len(pattern) - 3) if n_words(run := pattern[i : i + 4]) > 1}


def test_no_template_is_a_story_s() -> None:
    sentences = [tokens(sentence) for text in STORIES for sentence in (text, *re.split(r"(?<=\.) ", text))]
    story_runs = set().union(*map(runs, sentences))
    assert len(story_runs) > 500
    for template in TEMPLATES:
        pattern = tokens(template)
        assert not runs(pattern) & story_runs, template
        for sentence in sentences:
            assert not contains(pattern, sentence)
            # Slots alone ("_ _ _") are no sentence: they stand in every text.
            assert not (n_words(pattern) and contains(sentence, pattern)), (template, sentence)


def test_no_template_stands_in_the_corpora(corpora: Path) -> None:
    """A slot stands for up to three words."""
    problems = [p for name in ("train", "dev") for p in read_corpus(corpora / "svamp" / f"{name}.csv").problems]
    texts = "\n".join(" ".join(tokens(problem.text)) for problem in problems)
    patterns = {t: tokens(t) for t in TEMPLATES if n_words(tokens(t)) >= 3}
    assert len(patterns) > 15 and len(problems) > 4_000
    for template, pattern in patterns.items():
        slotted = " ".join(r"\w+(?: \w+){0,2}" if token == "_" else token for token in pattern)
        assert not (found := re.search(rf"\b{slotted}\b", texts)), (template, found)


@cache
def training_texts() -> frozenset[str]:
    """Of a stream as in training."""
    names, shares = list(SKILLS), [share for _, share in SKILLS.values()]
    rng = random.Random("pretrain/0")
    drawn = rng.choices(names, shares, k=2_000)
    return frozenset(SKILLS[name][0](rng, rng.choice((rng.random(), 1.0))).text for name in drawn)


@pytest.mark.parametrize("skill", SKILLS)
def test_held_out_exercises_are_not_in_training(skill: str) -> None:
    rng = random.Random(f"held-out/{skill}")
    held_out = {SKILLS[skill][0](rng, 1.0).text for _ in range(200)}
    assert len(held_out) > 190 and len(training_texts()) > 1_900
    assert not held_out & training_texts()
