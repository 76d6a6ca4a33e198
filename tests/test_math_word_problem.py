"""Math word problems: gold is right, perturbations are wrong, and the faults are those that a person would name."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.formats import read_corpus
from refiner_env.errors import RefinerError
from refiner_env.tasks import program as ir
from refiner_env.tasks.math_word_problem import (
    TEMPLATES,
    MathWordProblem,
    gold_program,
    numbers,
    same_value,
)
from refiner_env.tasks.phrases import NO_HINT
from refiner_env.tasks.program import Constant, Number, Program, Step, StepRef
from refiner_env.types import Fault, Feedback, ParseFailure, Problem, Scores

TASK = MathWordProblem()
PROBLEMS = [TASK.generate(3, i) for i in range(300)]
VALUES = (8.0, 3.0, 2.0, 5.0, 7.0)
RIGHT = Scores(True, True, True, 1.0)
WRONG = Scores(False, False, False, 0.0)

same_every_run = settings(deadline=None, max_examples=200, derandomize=True)


def problem(gold: str, values: tuple[float, ...] = VALUES) -> Problem:
    """A problem with this gold; its answer is what gold gives."""
    program = ir.parse(gold)
    assert isinstance(program, Program), program
    value = ir.execute(program, values)
    assert isinstance(value, float), value
    return Problem("p", "A story.", gold, value, {"numbers": values})


def named(faults: tuple[Fault, ...]) -> list[tuple[str, int | None, str | None]]:
    return [(f.kind, f.step, f.slot) for f in faults]


# -------------------------------------------------------------- what holds for every problem of every corpus


@pytest.fixture(scope="module", params=["train", "dev"])
def corpus(request: pytest.FixtureRequest, corpora: Path) -> tuple[Problem, ...]:
    """All rows of a real corpus whose gold gives the stated answer."""
    return read_corpus(corpora / "svamp" / f"{request.param}.csv", on_disagreement="drop").problems


def check_gold(p: Problem, rng: random.Random) -> None:
    assert p.gold is not None
    assert TASK.score(p, p.gold) == RIGHT, p
    assert TASK.diagnose(p, p.gold) == (), p
    rephrased = TASK.rephrase(p, rng)
    assert TASK.diagnose(p, rephrased) == (), (p, rephrased)
    scores = TASK.score(p, rephrased)
    assert scores.ir_equivalent and scores.answer, (p, rephrased)


def check_perturbation(p: Problem, kind: str | None, rng: random.Random) -> None:
    """A perturbation parses, uses only what the problem has, is not equivalent to gold and is found out."""
    wrong = TASK.perturb(p, rng, kind)
    program, gold = ir.parse(wrong), gold_program(p)
    assert isinstance(program, Program), (p, wrong)
    assert not ir.equivalent(program, gold) and not TASK.score(p, wrong).ir_equivalent, (p, wrong)
    constants = {o for s in gold.steps for o in s.operands if isinstance(o, Constant)} | {gold.result}
    for k, step in enumerate(program.steps):
        for operand in step.operands:
            assert ir.slot_fault(operand, k, len(numbers(p))) is None, (p, wrong)
            assert not isinstance(operand, Constant) or operand in constants, (p, wrong)
    faults = TASK.diagnose(p, wrong)
    assert faults and {f.kind for f in faults} <= set(TASK.fault_kinds), (p, wrong)
    assert named(TASK.read_feedback(TASK.describe(faults)).faults) == named(faults), (p, wrong)
    for fault in faults:
        assert fault.span is None or wrong[slice(*fault.span)], (p, wrong)


def test_gold_of_procedural_problems_is_right() -> None:
    rng = random.Random(0)
    for p in PROBLEMS:
        check_gold(p, rng)


def test_gold_of_the_corpora_is_right(corpus: tuple[Problem, ...]) -> None:
    rng = random.Random(0)
    for p in corpus:
        check_gold(p, rng)


def test_the_corpora_are_whole(corpora: Path) -> None:
    for name, rows in (("train", 3_138), ("dev", 1_000)):
        assert len(read_corpus(corpora / "svamp" / f"{name}.csv").problems) == rows


@pytest.mark.parametrize("kind", [*TASK.perturbations, None])
def test_perturbations_of_procedural_problems_are_wrong(kind: str | None) -> None:
    rng = random.Random(1)
    for p in PROBLEMS:
        check_perturbation(p, kind, rng)


@pytest.mark.parametrize("kind", TASK.perturbations)
def test_perturbations_of_the_corpora_are_wrong(corpus: tuple[Problem, ...], kind: str) -> None:
    rng = random.Random(2)
    for p in corpus:
        check_perturbation(p, kind, rng)


def test_perturbations_of_a_bare_number_are_wrong() -> None:
    rng = random.Random(3)
    for kind in (*TASK.perturbations, None):
        for _ in range(20):
            check_perturbation(problem("number0 | EOS"), kind, rng)
            check_perturbation(problem("number0 | EOS", (4.0,)), kind, rng)


# --------------------------------------------------------------------------------------------- perturbations

TWO_STEPS = problem("#0: multiply ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS")


def perturbed(kind: str, seeds: int = 40) -> list[Program]:
    programs = [ir.parse(TASK.perturb(TWO_STEPS, random.Random(seed), kind)) for seed in range(seeds)]
    return [p for p in programs if isinstance(p, Program)]


def changed_slots(program: Program) -> list[tuple[int, str]]:
    pairs = list(enumerate(zip(program.steps, gold_program(TWO_STEPS).steps, strict=True)))
    operators = [(k, "operator") for k, (mine, right) in pairs if mine.operator != right.operator]
    return operators + [(k, s) for k, (mine, right) in pairs for s in ir.SLOTS if mine.operand(s) != right.operand(s)]


def test_perturb_is_a_function_of_its_generator() -> None:
    def run(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [TASK.perturb(p, rng) for p in PROBLEMS]

    assert run(1) == run(1) != run(2)


def test_perturb_leaves_the_global_generator_alone() -> None:
    random.seed(5)
    before = random.getstate()
    TASK.perturb(TWO_STEPS, random.Random(0)), TASK.rephrase(TWO_STEPS, random.Random(0))
    assert random.getstate() == before


def test_operator_changes_one_operator_of_any_step() -> None:
    slots = [changed_slots(p) for p in perturbed("operator")]
    assert {tuple(s) for s in slots} == {((0, "operator"),), ((1, "operator"),)}


def test_operand_changes_one_operand_in_any_slot() -> None:
    slots = {tuple(changed_slots(p)) for p in perturbed("operand", 200)}
    assert slots == {((k, s),) for k in (0, 1) for s in ir.SLOTS}


def test_swap_swaps_the_operands_of_a_subtraction() -> None:
    assert {p.steps[1] for p in perturbed("swap")} == {Step("subtract", Number(2), StepRef(0))}


def test_missing_step_loses_either_step() -> None:
    programs = perturbed("missing_step")
    assert {len(p.steps) for p in programs} == {1}
    assert {p.steps[0].operator for p in programs} == {"multiply", "subtract"}


def test_extra_step_adds_one_at_any_place() -> None:
    programs = perturbed("extra_step", 200)
    assert {len(p.steps) for p in programs} == {3}
    kept = [tuple(s.operator for s in p.steps) for p in programs]
    for place in (0, 1, 2):  # an operator that gold has not stands at every place
        assert any(operators[place] in ("add", "divide") for operators in kept)


def test_several_makes_more_than_one_fault() -> None:
    counts = [len(TASK.diagnose(TWO_STEPS, ir.render(p))) for p in perturbed("several", 100)]
    assert sum(n > 1 for n in counts) > 50


def test_an_impossible_kind_gives_way_to_another() -> None:
    one_step = problem("#0: add ( number0, number1 ) | EOS", (4.0, 5.0))
    for kind in ("missing_step", "swap"):
        wrong = TASK.perturb(one_step, random.Random(0), kind)
        assert TASK.diagnose(one_step, wrong)


def test_rephrase_writes_gold_in_other_ways() -> None:
    written = {TASK.rephrase(TWO_STEPS, random.Random(seed)) for seed in range(20)}
    flipped = "#0: multiply ( number1, number0 ) | #1: subtract ( #0, number2 ) | EOS"
    assert written == {TWO_STEPS.gold, flipped}


# -------------------------------------------------------------------------------------------------- scoring


@pytest.mark.parametrize(
    ("hypothesis", "scores"),
    [
        ("#0: multiply ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS", RIGHT),
        ("#0:MULTIPLY(number0,number1)|#1:substract(#0,number2)  <END>", RIGHT),
        ("#0: multiply ( number1, number0 ) | #1: subtract ( #0, number2 ) | EOS", Scores(False, True, True, 1.0)),
        ("#0: subtract ( number2, number2 ) | #1: add ( 22.0, #0 )", Scores(False, False, True, 0.0)),
        ("22.0", Scores(False, False, True, 0.0)),
        ("#0: multiply ( number0, number1 ) | #1: subtract ( number2, #0 )", WRONG),
        ("#0: divide ( number0, 0.0 )", WRONG),
        ("#0: add ( number0, number5 )", WRONG),
        ("#0: add ( #0, #7 )", WRONG),
        ("number17", WRONG),
        ("hello", WRONG),
        ("", WRONG),
        ("x" * 10_000, WRONG),
    ],
)
def test_scores(hypothesis: str, scores: Scores) -> None:
    assert TASK.score(TWO_STEPS, hypothesis) == scores


def test_the_answer_score_allows_for_rounding() -> None:
    assert same_value(33.3333333, 33.33333) and same_value(0.0, 0.0) and same_value(3.0, 3)
    assert not same_value(33.3, 33.4) and not same_value(1.0, None) and not same_value(1.0, "1.0")


def test_execute_gives_the_answer() -> None:
    for p in PROBLEMS[:50]:
        assert TASK.execute(gold_program(p), p) == p.answer


def test_whole_numbers_may_be_ints() -> None:
    p = replace(TWO_STEPS, metadata={"numbers": (8, 3, 2)}, answer=22)
    assert TASK.score(p, p.gold or "") == RIGHT


@pytest.mark.parametrize(
    ("broken", "value"),
    [
        (replace(TWO_STEPS, uid="corpus/17", gold="hello"), "'hello'"),
        (replace(TWO_STEPS, uid="corpus/17", gold=None), "None"),
        (replace(TWO_STEPS, uid="corpus/17", metadata={}), "numbers"),
    ],
)
def test_a_problem_that_cannot_be_judged_is_named(broken: Problem, value: str) -> None:
    with pytest.raises(RefinerError, match=rf"corpus/17.*{value}"):
        TASK.score(broken, "#0: add ( number0, number1 )")


# ------------------------------------------------------------------------------------------- diagnoses by hand

DIFFERENCE = "#0: subtract ( number0, number1 ) | EOS"
PRODUCT_LESS = "#0: multiply ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS"
TWO_SUMS = "#0: add ( number0, number1 ) | #1: add ( number2, number3 ) | #2: divide ( #0, #1 ) | EOS"
TWICE_MORE = "#0: add ( number0, number1 ) | #1: add ( #0, number1 ) | #2: add ( #1, number1 ) | EOS"
DOZENS = "#0: multiply ( number0, 12.0 ) | #1: add ( number1, #0 ) | EOS"


@pytest.mark.parametrize(
    ("gold", "hypothesis"),
    [
        (PRODUCT_LESS, "#0: multiply ( number1, number0 ) | #1: subtract ( #0, number2 )"),
        (DOZENS, "#0: multiply ( 12.0, number0 ) | #1: add ( #0, number1 )"),
        (TWO_SUMS, "#0: add ( number1, number0 ) | #1: add ( number3, number2 ) | #2: divide ( #0, #1 )"),
        (TWO_SUMS, "#0: add ( number3, number2 ) | #1: add ( number0, number1 ) | #2: divide ( #1, #0 )"),
        (DIFFERENCE, "#0: substract ( number0, number1 ) |  EOS"),
        (DIFFERENCE, "#0: substract ( number0, number1 ) |  <END>"),
        (DIFFERENCE, "#0:SUBTRACT(number0,number1)"),
        ("number0 | EOS", "number0 END>"),
    ],
)
def test_another_writing_of_gold_has_no_faults(gold: str, hypothesis: str) -> None:
    assert TASK.diagnose(problem(gold), hypothesis) == ()


@pytest.mark.parametrize(
    ("gold", "hypothesis", "expected"),  # expected: (kind, step, slot, the text that the span covers)
    [
        (
            PRODUCT_LESS,
            "#0: multiply ( number0, number1 ) | #1: add ( #0, number2 )",
            [("operator", 1, "operator", "add")],
        ),
        (DIFFERENCE, "#0: add ( number0, number1 )", [("operator", 0, "operator", "add")]),
        (DIFFERENCE, "#0: subtract ( number0, number2 )", [("operand", 0, "second", "number2")]),
        (
            DIFFERENCE,
            "#0: substract ( number1, number0 ) |  EOS",
            [("operand", 0, "first", "number1"), ("operand", 0, "second", "number0")],
        ),
        (
            PRODUCT_LESS,
            "#0: multiply ( number0, number1 ) | #1: subtract ( number2, #0 )",
            [("operand", 1, "first", "number2"), ("operand", 1, "second", "#0")],
        ),
        (  # commuted and one operand wrong: only that one
            PRODUCT_LESS,
            "#0: multiply ( number1, number3 ) | #1: subtract ( #0, number2 )",
            [("operand", 0, "second", "number3")],
        ),
        (DOZENS, "#0: multiply ( number0, 100.0 ) | #1: add ( #0, number1 )", [("operand", 0, "second", "100.0")]),
        (
            PRODUCT_LESS,
            "#0: add ( number0, number3 ) | #1: subtract ( #0, number2 )",
            [("operator", 0, "operator", "add"), ("operand", 0, "second", "number3")],
        ),
        (
            TWO_SUMS,  # independent steps the other way round, one of them wrong
            "#0: add ( number2, number3 ) | #1: add ( number0, number4 ) | #2: divide ( #1, #0 )",
            [("operand", 1, "second", "number4")],
        ),
        ("number0 | EOS", "number1 | EOS", [("bare", None, None, None)]),
        (DIFFERENCE, "#0: subtract ( number0, number9 )", [("unknown_number", 0, "second", "number9")]),
        (
            PRODUCT_LESS,
            "#0: multiply ( number0, number1 ) | #1: subtract ( #1, number2 )",
            [("reference", 1, "first", "#1")],
        ),
        (
            PRODUCT_LESS,
            "#0: multiply ( #1, number1 ) | #1: subtract ( #0, number2 )",
            [("reference", 0, "first", "#1")],
        ),
        (
            "#0: divide ( number0, number1 ) | EOS",
            "#0: divide ( number0, 0.0 )",
            [("operand", 0, "second", "0.0"), ("division_by_zero", 0, None, "#0: divide ( number0, 0.0 )")],
        ),
        (
            "#0: multiply ( number0, 12.0 ) | EOS",
            "#0: multiply ( 1e200, 1e200 )",
            [
                ("operand", 0, "first", "1e200"),
                ("operand", 0, "second", "1e200"),
                ("overflow", 0, None, "#0: multiply ( 1e200, 1e200 )"),
            ],
        ),
        (DIFFERENCE, "hello", [("syntax", None, None, "hello")]),
        (DIFFERENCE, "", [("syntax", None, None, "")]),
        (DIFFERENCE, "#0: subtract ( number0, number1 ) | EOS hello", [("syntax", None, None, "hello")]),
        (DIFFERENCE, DIFFERENCE + " " * 1_999 + "!", [("too_long", None, None, " " * (len(DIFFERENCE) - 1) + "!")]),
    ],
)
def test_faults_name_what_is_wrong_and_where(
    gold: str, hypothesis: str, expected: list[tuple[str, int | None, str | None, str | None]]
) -> None:
    faults = TASK.diagnose(problem(gold), hypothesis)
    found = [(f.kind, f.step, f.slot, f.span and hypothesis[slice(*f.span)]) for f in faults]
    assert found == expected


@pytest.mark.parametrize(
    ("gold", "hypothesis", "place"),
    [
        (PRODUCT_LESS, "#0: multiply ( number0, number1 )", 1),
        (PRODUCT_LESS, "#0: subtract ( number0, number2 )", 0),
        (TWO_SUMS, "#0: add ( number0, number1 ) | #1: divide ( #0, number2 )", 1),
        (TWO_SUMS, "#0: add ( number2, number3 ) | #1: divide ( number0, #0 )", 0),
        (TWO_SUMS, "#0: add ( number0, number1 ) | #1: add ( number2, number3 )", 2),
        (TWICE_MORE, "#0: add ( number0, number1 ) | #1: add ( #0, number1 )", 2),
    ],
)
def test_a_missing_step_is_one_fault(gold: str, hypothesis: str, place: int) -> None:
    assert named(TASK.diagnose(problem(gold), hypothesis)) == [("missing_step", place, None)]


@pytest.mark.parametrize(
    ("gold", "hypothesis", "extra"),
    [
        (DIFFERENCE, "#0: subtract ( number0, number1 ) | #1: add ( #0, number2 )", "#1: add ( #0, number2 )"),
        (
            DIFFERENCE,
            "#0: add ( number1, number2 ) | #1: subtract ( number0, number1 )",
            "#0: add ( number1, number2 )",
        ),
        (DIFFERENCE, "#0: add ( number0, number2 ) | #1: subtract ( #0, number1 )", "#0: add ( number0, number2 )"),
        (
            PRODUCT_LESS,
            "#0: multiply ( number0, number1 ) | #1: divide ( number0, number2 ) | #2: subtract ( #0, number2 )",
            "#1: divide ( number0, number2 )",
        ),
        (
            PRODUCT_LESS,
            "#0: multiply ( number0, number1 ) | #1: add ( #0, number3 ) | #2: subtract ( #1, number2 )",
            "#1: add ( #0, number3 )",
        ),
    ],
)
def test_an_extra_step_is_one_fault(gold: str, hypothesis: str, extra: str) -> None:
    (fault,) = TASK.diagnose(problem(gold), hypothesis)
    assert fault.kind == "extra_step" and fault.step == int(extra[1])
    assert fault.span and hypothesis[slice(*fault.span)] == extra


def test_a_missing_step_leaves_steps_that_do_not_use_it_alone() -> None:
    gold = problem("#0: add ( number0, number1 ) | #1: multiply ( number2, number3 ) | #2: subtract ( #1, #0 ) | EOS")
    faults = TASK.diagnose(gold, "#0: multiply ( number2, number3 ) | #1: subtract ( #0, number1 )")
    assert ("missing_step", 0, None) in named(faults)
    assert not [f for f in faults if (f.step == 0 and f.kind != "missing_step") or f.slot == "first"]


def test_a_missing_step_does_not_hide_another_fault() -> None:
    faults = named(TASK.diagnose(problem(TWO_SUMS), "#0: add ( number0, number4 ) | #1: divide ( #0, number2 )"))
    assert ("missing_step", 1, None) in faults and ("operand", 0, "second") in faults


def test_a_bare_number_misses_every_step() -> None:
    faults = TASK.diagnose(problem(PRODUCT_LESS), "number0 | EOS")
    assert named(faults) == [("missing_step", 0, None), ("missing_step", 1, None)]


def test_every_step_is_extra_where_gold_is_a_bare_number() -> None:
    faults = TASK.diagnose(problem("number0 | EOS"), PRODUCT_LESS)
    assert named(faults) == [("extra_step", 0, None), ("extra_step", 1, None)]


def test_syntax_faults_hint_at_what_was_expected() -> None:
    (fault,) = TASK.diagnose(problem(DIFFERENCE), "#0: minus ( number0, number1 )")
    assert fault.hint == "expected an operator, found 'minus'"


def test_long_chains_are_diagnosed_at_once() -> None:
    sums = [f"#{k}: add ( #{k - 1}, number1 )" for k in range(1, ir.MAX_STEPS)]
    gold = " | ".join(["#0: add ( number0, number1 )", *sums])
    assert named(TASK.diagnose(problem(gold), gold.replace("#20: add", "#20: subtract"))) == [
        ("operator", 20, "operator")
    ]


# ------------------------------------------------------------------------------- diagnoses of random programs


@st.composite
def programs(draw: st.DrawFn, forward: bool = False) -> Program:
    """Up to four steps over five numbers; with `forward`, also numbers and steps that are not there."""
    operands = [*map(Number, range(5)), Constant(12.0), *([Number(9)] if forward else [])]
    steps: list[Step] = []
    for k in range(draw(st.integers(0, 4))):
        choices = st.sampled_from([*operands, *map(StepRef, range(5 if forward else k))])
        steps.append(Step(draw(st.sampled_from(ir.OPERATORS)), draw(choices), draw(choices)))
    return Program.of(steps) if steps else Program((), draw(st.sampled_from(operands)))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Program, Program]:
    """(gold, hypothesis): unrelated, rewritten, or gold with a few slots overwritten from another program."""
    gold = draw(programs())
    other = draw(programs(forward=True))
    if draw(st.booleans()):
        return gold, other
    orders = list(ir.orderings(gold))
    steps = [
        s.flipped() if s.operator in ir.COMMUTATIVE and draw(st.booleans()) else s
        for s in draw(st.sampled_from(orders)).steps
    ]
    for theirs in other.steps[: draw(st.integers(0, 2))]:
        if steps:
            i = draw(st.integers(0, len(steps) - 1))
            steps[i] = draw(st.sampled_from([replace(steps[i], operator=theirs.operator), theirs]))
    return gold, Program.of(steps) if steps else gold


@settings(same_every_run, max_examples=400)
@given(pairs())
def test_faults_are_empty_exactly_for_equivalent_programs(pair: tuple[Program, Program]) -> None:
    gold, hypothesis = pair
    p = Problem("p", "A story.", ir.render(gold), 1.0, {"numbers": VALUES})
    text = ir.render(hypothesis)
    faults = TASK.diagnose(p, text)
    assert (faults == ()) == ir.equivalent(hypothesis, gold) == TASK.score(p, text).ir_equivalent
    assert TASK.feedback(faults).accepted == (faults == ())
    assert named(TASK.read_feedback(TASK.describe(faults)).faults) == named(faults)


@same_every_run
@given(st.one_of(st.text(), st.text("#0123:(),|. numberaddEOS", max_size=60)), st.sampled_from(PROBLEMS))
def test_no_text_makes_diagnose_raise(text: str, p: Problem) -> None:
    faults = TASK.diagnose(p, text)
    assert bool(faults) != TASK.score(p, text).ir_equivalent
    if isinstance(TASK.parse(text), ParseFailure):
        assert [f.kind for f in faults] in (["syntax"], ["too_long"])
    for fault in faults:
        assert fault.span is None or 0 <= fault.span[0] <= fault.span[1] <= len(text)


# -------------------------------------------------------------------------------------------------- feedback

PLACED = [("operator", "operator"), *((k, s) for k in ("operand", "reference", "unknown_number") for s in ir.SLOTS)]
ONE_OF_EACH = [
    *(Fault(kind, step, slot) for kind, slot in PLACED for step in (0, 1, 31)),
    *(Fault(k, step) for k in ("missing_step", "extra_step", "division_by_zero", "overflow") for step in (0, 1, 31)),
    *(Fault(kind) for kind in ("syntax", "too_long", "bare")),
    Fault("other", hint="Think about the boxes."),
]


def test_one_of_each_is_one_of_each() -> None:
    assert {f.kind for f in ONE_OF_EACH} == set(TASK.fault_kinds) == {*TEMPLATES, "other"}


@pytest.mark.parametrize("fault", ONE_OF_EACH, ids=str)
def test_feedback_reads_back_as_the_fault_it_describes(fault: Fault) -> None:
    text = TASK.describe([fault])
    assert TASK.read_feedback(text) == Feedback(False, text, (fault,))


@same_every_run
@given(st.lists(st.sampled_from(ONE_OF_EACH), min_size=1, max_size=6))
def test_feedback_of_several_faults_reads_back_in_order(faults: list[Fault]) -> None:
    text = TASK.describe(faults)
    assert TASK.read_feedback(text) == Feedback(False, text, tuple(faults))


@pytest.mark.parametrize(
    "text",
    [
        "#0: add ( number9, number0 )",
        "#0: add ( number0, #3 )",
        "#0: divide ( number0, 0.0 )",
        "#0: multiply ( 1e200, 1e200 )",
        "number9",
    ],
)
def test_what_stops_execution_can_be_said(text: str) -> None:
    program = TASK.parse(text)
    assert isinstance(program, Program)
    fault = TASK.execute(program, TWO_STEPS)
    assert isinstance(fault, Fault)
    said = TASK.describe([fault])
    assert "None" not in said
    assert named(TASK.read_feedback(said).faults) == named((fault,))


def test_the_accepting_phrase_reads_back() -> None:
    assert TASK.describe(()) == NO_HINT
    assert TASK.feedback(()) == TASK.read_feedback(NO_HINT) == Feedback(True, NO_HINT)


@pytest.mark.parametrize("text", ["No hint", "no hint.", "  No hint. ", "NO HINT"])
def test_the_accepting_phrase_may_be_sloppy(text: str) -> None:
    assert TASK.read_feedback(text).accepted


def test_hints_and_faults_together_do_not_accept() -> None:
    feedback = TASK.read_feedback("No hint. The operator in #0 is incorrect.")
    assert not feedback.accepted and ("operator", 0, "operator") in named(feedback.faults)


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("Think again.", ["Think again."]),
        ("", [""]),
        ("The third number in #0 is incorrect.", ["The third number in #0 is incorrect."]),
        ("The operator in #x is incorrect.", ["The operator in #x is incorrect."]),
        ("add an operator. Why?", ["add an operator.", "Why?"]),
        ("The operator in #12345 is incorrect.", ["The operator in #12345 is incorrect."]),
    ],
)
def test_unknown_sentences_keep_their_text(text: str, hints: list[str]) -> None:
    assert TASK.read_feedback(text) == Feedback(False, text, tuple(Fault("other", hint=hint) for hint in hints))


def test_unknown_sentences_stand_between_known_ones() -> None:
    feedback = TASK.read_feedback("The operator in #1 is incorrect. Hm. A step is missing at #0.")
    assert feedback.faults == (
        Fault("operator", 1, "operator"),
        Fault("other", hint="Hm."),
        Fault("missing_step", 0),
    )


@same_every_run
@given(st.one_of(st.text(), st.lists(st.sampled_from([*TEMPLATES.values(), NO_HINT, " ", "#0"])).map("".join)))
def test_no_text_makes_read_feedback_raise(text: str) -> None:
    feedback = TASK.read_feedback(text)
    assert feedback.text == text
    assert feedback.accepted == (not feedback.faults)
    assert {f.kind for f in feedback.faults} <= set(TASK.fault_kinds)


def test_diagnosis_of_steps_that_use_each_other_twice_takes_no_time() -> None:
    """30 extra steps, each using the two before it: 2^30 paths, which a model may well write."""
    chain = [f"#{k}: add ( #{k - 1}, #{k - 2} )" for k in range(2, 30)]
    hypothesis = " | ".join(["#0: add ( number0, number0 )", "#1: add ( #0, number0 )", *chain, "EOS"])
    problem = Problem("u", "x", "#0: subtract ( number1, number2 ) | EOS", 1.0, {"numbers": (1.0, 3.0, 2.0)})
    assert len([f for f in TASK.diagnose(problem, hypothesis) if f.kind == "extra_step"]) == 29


def test_no_wrong_slot_of_an_official_program_goes_unnamed(corpora: Path) -> None:
    """REFINER's own oracle says nothing of 1,395 of these."""
    rows = json.loads((corpora / "refiner/mwp/critique_train.json").read_text(encoding="utf-8"))
    rng, n = random.Random(0), 0
    for row in rows:
        gold = ir.parse(row["Linear_Formula"])
        assert isinstance(gold, Program)
        values = tuple(map(float, row["Numbers"].split()))
        problem = Problem(row["ID"], "", row["Linear_Formula"], None, {"numbers": values})
        for i, step in enumerate(gold.steps):
            for slot in ("operator", *ir.SLOTS):
                if slot == "operator":
                    other = replace(step, operator=rng.choice([o for o in ir.OPERATORS if o != step.operator]))
                else:
                    choices = [Number(k) for k in range(len(values) + 1) if Number(k) != step.operand(slot)]
                    other = step.with_operand(slot, rng.choice(choices))
                wrong = Program.of([*gold.steps[:i], other, *gold.steps[i + 1 :]])
                if ir.equivalent(wrong, gold):
                    continue
                feedback = TASK.feedback(TASK.diagnose(problem, ir.render(wrong)))
                assert feedback.faults and feedback.text and not feedback.accepted
                n += 1
    assert n == 12_423
