"""Synthetic natural-language reasoning: parsing, faults, perturbations and edits."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sources import DataOptions, load_splits
from refiner_env.errors import DataError
from refiner_env.tasks import SyntheticReasoning
from refiner_env.tasks.inference import INVALID, Inference, Statement
from refiner_env.tasks.synthetic_reasoning import TEMPLATES
from refiner_env.tasks.worlds import LEVELS, NOTHING, read_world, world
from refiner_env.types import Fault, Feedback, ParseFailure, Problem, Scores

TASK = SyntheticReasoning()
PROBLEMS = [world(3, i, level) for level in LEVELS for i in range(150)]
RULES = (
    "If Bob is big or sad, then Bob is red. If person is hot, then person is old. "
    "If Bob is weak and old, then Bob is slow. If person is fast, then person is soft."
)
BOB = Problem("bob", f"{RULES} Bob is huge and hot.", None, "Bob is red and old")
GOLD = "#0: huge is big #1: Bob is person #2: Bob is hot #3: Bob is red and old"
BOB = Problem(BOB.uid, BOB.text, GOLD, BOB.answer)
NOBODY = Problem("nobody", f"{RULES} Bob is blue and clean.", INVALID, NOTHING)


def faults(hypothesis: str, problem: Problem = BOB) -> list[tuple[str, int | None]]:
    return [(f.kind, f.step) for f in TASK.diagnose(problem, hypothesis)]


# ------------------------------------------------------------------------------------------------- parsing


@pytest.mark.parametrize(
    "text",
    [
        GOLD,
        GOLD + " ",
        GOLD.upper(),
        GOLD.replace(" #", " | #") + " | EOS",
        GOLD.replace(" #", ". #").replace("Bob is person", "Bob  is a person") + ".",
        GOLD.replace("huge", "The huge").replace(": ", ":"),
    ],
)
def test_spellings_of_the_same_steps(text: str) -> None:
    steps = TASK.parse(text)
    assert isinstance(steps, Inference) and TASK.render(steps) == GOLD
    assert TASK.score(BOB, text) == Scores(True, True, True, 1.0)


@pytest.mark.parametrize("text", [INVALID, "The argument is invalid!! ", "nothing", "#0: the argument is invalid. EOS"])
def test_spellings_of_nothing(text: str) -> None:
    assert TASK.parse(text) == Inference(())
    assert TASK.score(NOBODY, text) == Scores(True, True, True, 1.0)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("", (0, 0)),
        ("Bob is red", (0, 10)),
        ("#1: Bob is red", (0, 3)),
        ("#0: Bob is red #2: Bob is hot", (15, 18)),
        ("#0: Bob was red", (3, 15)),
        ("#0: Bob is red hot", (3, 18)),
        ("#0: Bob is red #1:", (18, 18)),
        ("#0: tiny is smallmean is bad", (3, 28)),
    ],
)
def test_what_cannot_be_read(text: str, span: tuple[int, int]) -> None:
    failure = TASK.parse(text)
    assert isinstance(failure, ParseFailure) and (failure.kind, failure.span) == ("syntax", span)
    assert faults(text) == [("syntax", None)] and TASK.score(BOB, text) == Scores(False, False, False, 0.0)


def test_too_long_and_too_many() -> None:
    assert faults("x" * 2_001) == [("too_long", None)]
    assert faults(" ".join(f"#{k}: a is b" for k in range(33))) == [("syntax", None)]


@pytest.mark.parametrize("problem", PROBLEMS[::7], ids=lambda p: p.uid)
def test_what_is_rendered_is_read(problem: Problem) -> None:
    steps = TASK.parse(problem.gold or "")
    assert isinstance(steps, Inference) and TASK.parse(TASK.render(steps)) == steps
    assert TASK.render(steps) == problem.gold


@given(st.one_of(st.text(), st.lists(st.sampled_from([*GOLD.split(), "|", "EOS", "\n", "\ud800"])).map(" ".join)))
@settings(deadline=None)
def test_no_text_raises(text: str) -> None:
    rng = random.Random(0)
    found = TASK.diagnose(BOB, text)
    assert bool(found) is not TASK.score(BOB, text).ir_equivalent
    assert all(f.kind in TASK.fault_kinds for f in found)
    assert TASK.read_feedback(text).text == text
    assert isinstance(TASK.parse(TASK.edit(BOB.text, text, found, rng)), Inference)
    assert isinstance(TASK.edit(text, text, TASK.read_feedback(text).faults, rng), str)
    assert TASK.same(BOB, text, text)


def test_gold_that_cannot_be_read_is_a_data_error() -> None:
    with pytest.raises(DataError, match="'bob' has no readable gold steps: 'x'"):
        TASK.diagnose(Problem("bob", BOB.text, "x", None), GOLD)


# -------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("hypothesis", "expected"),
    [
        (GOLD, []),
        ("#0: Bob is hot #1: Bob is person #2: huge is big #3: Bob is old and red", []),
        ("#0: Bob is hot #1: Bob is person #2: Bob is old #3: huge is big #4: Bob is red", []),
        ("#0: huge is big #1: Bob is person #2: Bob is big #3: Bob is hot #4: Bob is red and old", []),
        ("#0: Bob is person #1: Bob is hot #2: Bob is red and old", [("missing_knowledge", 2)]),
        ("#0: huge is big #1: Bob is hot #2: Bob is red and old", [("missing_knowledge", 2)]),
        ("#0: huge is big #1: Bob is person #2: Bob is red and old", [("missing_link", 2)]),
        ("#0: huge is big #1: Bob is red and old #2: Bob is person #3: Bob is hot",
         [("missing_link", 1), ("missing_knowledge", 1)]),
        ("#0: huge is sad #1: Bob is person #2: Bob is hot #3: Bob is red and old", [("invalid_step", 0)]),
        ("#0: huge is big #1: Bob is plant #2: Bob is hot #3: Bob is red and old", [("invalid_step", 1)]),
        ("#0: huge is big #1: Bob is person #2: Bob is cold #3: Bob is red and old", [("invalid_step", 2)]),
        ("#0: huge is big #1: Bob is person #2: Bob is hot #3: Bob is red", [("conclusion", 3)]),
        ("#0: huge is big #1: Bob is person #2: Bob is hot #3: Bob is red and soft", [("conclusion", 3)]),
        ("#0: huge is big #1: huge is big #2: Bob is person #3: Bob is hot #4: Bob is red and old",
         [("extra_step", 1)]),
        (INVALID, [("conclusion", 0), ("missing_knowledge", 0), ("missing_link", 0), ("missing_knowledge", 0)]),
    ],
)  # fmt: skip
def test_each_fault_has_its_kind_and_place(hypothesis: str, expected: list[tuple[str, int]]) -> None:
    assert faults(hypothesis) == expected
    assert TASK.score(BOB, hypothesis).ir_equivalent is not expected


def test_a_conclusion_where_nothing_follows() -> None:
    assert faults("#0: Bob is person #1: Bob is soft", NOBODY) == [("extra_step", 0), ("conclusion", 1)]
    assert TASK.score(NOBODY, "#0: Bob is soft") == Scores(False, False, False, 0.0)
    assert TASK.score(NOBODY, "#0: Bob is blue").answer


def test_either_of_two_conditions_is_enough() -> None:
    text = f"{RULES} Bob is big and sad."
    problem = Problem("x", text, "#0: Bob is big #1: Bob is red", "Bob is red")
    for premises in ("#0: Bob is big #1:", "#0: Bob is sad #1:", "#0: Bob is sad #1: Bob is big #2:"):
        assert faults(f"{premises} Bob is red", problem) == []
    assert faults("#0: Bob is red", problem) == [("missing_link", 0)]


def test_unsound_gold_is_compared_statement_by_statement() -> None:
    mine = Problem("x", BOB.text, "#0: Bob is soft #1: Bob is slow", None)
    assert faults("#0: Bob is soft #1: Bob is slow", mine) == []
    assert faults(GOLD, mine) == [*(("extra_step", k) for k in range(3)), ("conclusion", 3), ("missing_link", 3)]
    elsewhere = Problem("x", "No world at all", "#0: a is b #1: c is d", "c is d")
    assert faults("#0: a is b #1: c is d", elsewhere) == [] and faults("#0: c is d", elsewhere) != []


def test_the_official_steps_are_right_but_for_the_known_defects(corpora: Path) -> None:
    found: Counter[tuple[str, ...]] = Counter()
    for split in ("train", "val", "test"):
        for row in json.loads((corpora / f"refiner/srn/srn_{split}.json").read_text(encoding="utf-8")):
            made = read_world(" ".join([*row["rules"], row["fact"]]))
            assert made
            problem = Problem("x", str(made), TASK.render(made.derive()), made.answer)
            found[tuple(f.kind for f in TASK.diagnose(problem, row["explanations"]))] += 1
            assert TASK.score(problem, problem.gold or "").answer
    assert found == {(): 10_867, ("syntax",): 85, ("missing_link",): 48}


@pytest.mark.parametrize("level", LEVELS)
def test_gold_is_right_and_equal_to_itself(level: str) -> None:
    for problem in (p for p in PROBLEMS if f"/{level}/" in p.uid):
        assert TASK.score(problem, problem.gold or "") == Scores(True, True, True, 1.0)
        steps = TASK.parse(problem.gold or "")
        chained = level in ("chain", "maze")  # where steps may come in another order than conclusions
        assert isinstance(steps, Inference) and (chained or TASK.execute(steps, problem) == problem.answer)


# ------------------------------------------------------------------------------- perturbations and feedback


def possible(problem: Problem) -> set[str]:
    """The kinds that gold has a place for, read off its text."""
    steps = re.findall(r"#\d: (\w+) is ([\w ]+?)(?= #|$)", problem.gold or "")[:-1]
    if problem.gold == INVALID:
        return {"conclusion"}
    kinds = {"conclusion", "extra_step"} | ({"invalid_step"} if steps else set())
    one = (problem.answer or "").split()[0] if isinstance(problem.answer, str) else ""
    if any(subject != one or kind in ("person", "animal", "plant") for subject, kind in steps):
        kinds.add("missing_knowledge")
    return kinds


def test_every_perturbation_is_wrong_and_of_its_kind() -> None:
    rng = random.Random(1)
    seen: Counter[str] = Counter()
    for problem in PROBLEMS:
        for kind in TASK.perturbations:
            found = TASK.diagnose(problem, wrong := TASK.perturb(problem, rng, kind))
            assert found and not TASK.score(problem, wrong).ir_equivalent
            if kind in possible(problem):
                assert {f.kind for f in found} == {kind}, (problem, wrong)
            seen[kind] += kind in {f.kind for f in found}
    assert all(seen[kind] > len(PROBLEMS) / 3 for kind in TASK.perturbations if kind != "several"), seen


def test_rephrased_gold_is_right_and_often_another() -> None:
    rng = random.Random(2)
    told = [(p, TASK.rephrase(p, rng)) for p in PROBLEMS]
    assert all(TASK.score(p, z).ir_equivalent for p, z in told)
    assert sum(p.gold != z for p, z in told) > len(told) / 10


@pytest.mark.parametrize("kind", TEMPLATES)
def test_feedback_is_read_as_it_was_written(kind: str) -> None:
    fault = Fault(kind, 3 if "{step}" in TEMPLATES[kind] else None)
    text = TASK.describe((fault, Fault("other", hint="Hm.")))
    assert TASK.read_feedback(text) == Feedback(False, text, (fault, Fault("other", hint="Hm.")))


def test_no_fault_is_no_hint() -> None:
    assert TASK.feedback(()) == TASK.read_feedback("No hint.") == Feedback(True, "No hint.")


# ------------------------------------------------------------------------------------------ scripted edits


@pytest.mark.parametrize(
    ("hypothesis", "kind", "step", "steps"),
    [
        (GOLD, "extra_step", 1, 3),
        (GOLD, "missing_link", 2, 5),
        (GOLD, "missing_knowledge", 9, 5),
        (GOLD, "invalid_step", 1, 4),
        (GOLD, "conclusion", 3, 4),
        (INVALID, "conclusion", 0, 1),
    ],
)
def test_edits_do_what_feedback_names(hypothesis: str, kind: str, step: int, steps: int) -> None:
    before = TASK.parse(hypothesis)
    results: set[tuple[Statement, ...]] = set()
    for seed in range(40):
        after = TASK.parse(TASK.edit(BOB.text, hypothesis, (Fault(kind, step),), random.Random(seed)))
        assert isinstance(before, Inference) and isinstance(after, Inference) and len(after.steps) == steps
        results.add(after.steps)
    assert (len(results) > 1) is (kind != "extra_step")


def test_edits_reach_gold() -> None:
    rng, hypothesis = random.Random(0), INVALID
    for _ in range(2_000):
        found = TASK.diagnose(BOB, hypothesis)
        if not found:
            return
        hypothesis = TASK.edit(BOB.text, hypothesis, found, rng)
    pytest.fail(f"never right: {hypothesis}")


def test_equivalence_needs_no_gold() -> None:
    blind = BOB.without_gold()
    other = "#0: Bob is hot #1: Bob is person #2: huge is big #3: Bob is old and red"
    assert TASK.same(blind, GOLD, other) and TASK.same(blind, other, GOLD)
    assert not TASK.same(blind, GOLD, INVALID) and not TASK.same(blind, "x", GOLD)
    assert TASK.same(blind, "#0: Bob is soft #1: Bob is slow", "#0: bob is soft #1: Bob is slow")


# ------------------------------------------------------------------------------------------- without gold


def check_all(problems: Sequence[Problem]) -> None:
    """Without gold, the same shows as with it."""
    rng = random.Random(11)
    for problem in problems:
        for text in (str(problem.gold), *(TASK.perturb(problem, rng, kind) for kind in TASK.perturbations)):
            assert TASK.check(problem.without_gold(), text) == TASK.diagnose(problem, text), (problem, text)


@pytest.mark.parametrize("level", LEVELS)
def test_the_text_tells_as_much_as_gold(level: str) -> None:
    check_all([world(5, i, level) for i in range(150)])


def test_official_texts_tell_as_much_as_gold(corpora: Path) -> None:
    check_all(load_splits(TASK, DataOptions("snlr", n_train=300), corpora).train)


def test_a_text_that_tells_no_world_shows_only_what_cannot_be_read() -> None:
    told = Problem("told", "Bob is huge, they say. Why?", None, None)
    assert TASK.check(told, GOLD) == () == TASK.check(told, "#0: Bob is slow")
    assert [fault.kind for fault in TASK.check(told, "Bob is red")] == ["syntax"]


def test_unsound_gold_is_seen_through() -> None:
    unsound = replace(BOB, gold="#0: Bob is slow")
    assert TASK.diagnose(unsound, "#0: Bob is slow") == () and TASK.check(unsound, "#0: Bob is slow")
    assert TASK.diagnose(unsound, GOLD) and TASK.check(unsound, GOLD) == ()
