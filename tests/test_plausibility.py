"""What shows of a program without gold: each rule by example, and how often the rules err."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sources import DataOptions, load_splits
from refiner_env.tasks.math_word_problem import MathWordProblem
from refiner_env.types import Problem

TASK = MathWordProblem()
PROBLEMS = {level: [TASK.generate(41, i, level) for i in range(500)] for level in TASK.levels}


def named(hypothesis: str, numbers: tuple[float, ...] = (8.0, 3.0, 2.0), text: str = "How many are left?") -> list[str]:
    """The faults of a program as `kind step slot`, each with the text that its span shows."""
    faults = TASK.check(Problem("p", text, None, None, {"numbers": numbers}), hypothesis)
    assert TASK.read_feedback(TASK.describe(faults)).faults == tuple(type(f)(f.kind, f.step, f.slot) for f in faults)
    return [
        " ".join(
            str(x) for x in (f.kind, f.step, f.slot, hypothesis[slice(*f.span)] if f.span else None) if x is not None
        )
        for f in faults
    ]


@pytest.mark.parametrize(
    ("hypothesis", "faults"),
    [
        ("#0: subtract ( number0, number1 ) | EOS", []),
        ("#0: multiply ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS", []),
        ("#0: add ( number0, number0 ) | #1: add ( #0, number1 ) | EOS", []),
        ("#0: subtract ( #0, number1 ) | EOS", ["reference 0 first #0"]),
        ("#0: subtract ( number0, number7 ) | EOS", ["unknown_number 0 second number7"]),
        ("#0: divide ( number0, 0.0 ) | EOS", ["division_by_zero 0 #0: divide ( number0, 0.0 )"]),
        ("#0: multiply ( 1e300, 1e300 ) | EOS", ["overflow 0 #0: multiply ( 1e300, 1e300 )"]),
        ("number0 | EOS", ["bare"]),
        ("number7 | EOS", ["bare"]),
        (
            "#0: add ( number0, number1 ) | #1: subtract ( number0, number2 ) | EOS",
            ["extra_step 0 #0: add ( number0, number1 )"],
        ),
        ("#0: subtract ( number0, number0 ) | EOS", ["operand 0 second number0"]),
        ("#0: multiply ( number1, number1 ) | #1: add ( #0, number2 ) | EOS", ["operand 0 second number1"]),
        ("#0: subtract ( number1, number0 ) | EOS", ["operand 0 first number1", "operand 0 second number0"]),
        ("#0: divide ( number1, number0 ) | EOS", ["operand 0 first number1", "operand 0 second number0"]),
        (
            "#0: subtract ( number1, number0 ) | #1: subtract ( #0, number2 ) | EOS",
            ["operand 0 first number1", "operand 0 second number0"],
        ),
        (
            "#0: multiply ( number0, number0 ) | #1: multiply ( #0, #0 ) | EOS",
            ["operand 0 second number0"],
        ),
        (
            "#0: multiply ( number0, number1 ) | #1: multiply ( #0, 9.0 ) | EOS",
            ["operator 1 operator multiply"],
        ),
        ("#0: divide ( number0, number1 ) | #1: add ( #0, number2 ) | EOS", ["operator 0 operator divide"]),
        ("#0: divide ( number0, number1 ) | #1: multiply ( #0, number1 ) | EOS", []),
        ("#0: add ( number0, number0 ) | EOS", ["operand 0 second number0"]),
        ("#0: divide ( 12.0, 2.0 ) | EOS", ["operand 0 second 2.0"]),
    ],
)
def test_what_speaks_against_a_program(hypothesis: str, faults: list[str]) -> None:
    assert named(hypothesis) == faults


def test_a_step_without_use_is_named_besides_what_stops() -> None:
    text = "#0: add ( number0, number1 ) | #1: add ( #0, #0 ) | #2: divide ( number0, 0.0 ) | EOS"
    assert [fault.split()[:2] for fault in named(text)] == [
        ["extra_step", "0"],
        ["extra_step", "1"],
        ["division_by_zero", "2"],
    ]


def test_a_fraction_is_odd_only_where_things_are_counted() -> None:
    half = "#0: divide ( number1, number2 ) | EOS"
    assert named(half) == ["operator 0 operator divide"]
    assert not named(half, text="How much does each one cost?")
    assert not named(half, numbers=(8.0, 2.5, 2.0))


def test_a_problem_with_one_number_needs_no_other() -> None:
    for hypothesis in ("#0: multiply ( number0, 12.0 ) | EOS", "number0 | EOS", "#0: add ( number0, number0 ) | EOS"):
        assert not named(hypothesis, numbers=(8.0,)), hypothesis
    assert named("number1 | EOS", numbers=(8.0,)) == ["bare"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "subtract", "multiply", "divide"]),
            *[st.sampled_from(["number0", "number1", "number9", "#0", "#1", "#3", "0.0", "-2.5", "1e200"])] * 2,
        ),
        max_size=5,
    ),
    numbers=st.lists(st.floats(-1e6, 1e6), max_size=3),
)
@settings(deadline=None, max_examples=300, derandomize=True)
def test_every_fault_has_its_place_and_reads_back(steps: list[tuple[str, str, str]], numbers: list[float]) -> None:
    text = " | ".join(f"#{i}: {o} ( {a}, {b} )" for i, (o, a, b) in enumerate(steps)) or "number0"
    named(text, tuple(numbers))


# ------------------------------------------------------------------------------------------ how often they err


def shares(problems: Sequence[Problem]) -> dict[str, float]:
    """Per cent of gold flagged, of wrong programs found, and of these with a step that the oracle names too."""
    rng, count = random.Random(7), Counter[str]()
    for problem in problems:
        blind, wrong = problem.without_gold(), TASK.perturb(problem, rng)
        count["flagged"] += bool(TASK.check(blind, problem.gold or ""))
        if faults := TASK.check(blind, wrong):
            count["found"] += 1
            steps = {fault.step for fault in TASK.diagnose(problem, wrong)}
            count["placed"] += any(fault.step in steps for fault in faults)
    n = len(problems)
    return {
        "flagged": 100 * count["flagged"] / n,
        "found": 100 * count["found"] / n,
        "placed": 100 * count["placed"] / count["found"],
    }


@pytest.mark.parametrize("level", TASK.levels)
def test_no_procedural_gold_is_flagged_and_half_of_what_is_wrong_is_found(level: str) -> None:
    measured = shares(PROBLEMS[level])
    assert measured["flagged"] == 0 and measured["found"] > 52 and measured["placed"] > 75, measured


def test_training_gold_of_the_corpora_is_seldom_flagged(corpora: Path) -> None:
    measured = shares(load_splits(TASK, DataOptions("svamp", on_disagreement="drop"), corpora).train)
    assert measured["flagged"] < 3.5 and measured["found"] > 58 and measured["placed"] > 85, measured
