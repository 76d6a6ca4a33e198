"""Linear programs: every dialect reads, no text raises, execution is typed, equality is up to rewriting."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refiner_env.tasks.program import (
    COMMUTATIVE,
    MAX_CHARS,
    MAX_STEPS,
    OPERATORS,
    SLOTS,
    Constant,
    Number,
    Operand,
    Program,
    Step,
    StepRef,
    drop_step,
    equivalent,
    execute,
    insert_step,
    orderings,
    parse,
    render,
)
from refiner_env.types import Fault, ParseFailure

ONE_STEP = "#0: add ( number0, number1 ) | EOS"
TWO_STEPS = "#0: add ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS"
THREE_STEPS = "#0: add ( number0, number1 ) | #1: multiply ( number2, number3 ) | #2: subtract ( #0, #1 ) | EOS"

same_every_run = settings(deadline=None, max_examples=200, derandomize=True)


def read(text: str) -> Program:
    program = parse(text)
    assert isinstance(program, Program), program
    return program


def chain(operator: str, length: int) -> str:
    """`#k: operator ( #k-1, #k-1 )`: each step uses the one before it twice."""
    steps = [f"#0: {operator} ( number0, number0 )"]
    steps += [f"#{k}: {operator} ( #{k - 1}, #{k - 1} )" for k in range(1, length)]
    return " | ".join([*steps, "EOS"])


# ---------------------------------------------------------------------------------------------- strategies

usual_constants = st.sampled_from([100.0, 0.01, 12.0, 0.5, -3.0]).map(Constant)
any_constants = st.floats(allow_nan=False, allow_infinity=False).map(Constant)


@st.composite
def programs(
    draw: st.DrawFn,
    n_numbers: int = 5,
    most: int = 5,
    constants: st.SearchStrategy[Constant] = usual_constants,
    forward: bool = False,
) -> Program:
    """Programs with or without steps; with `forward`, operands may refer to any step, their own and later ones too."""
    steps: list[Step] = []
    bare = st.integers(0, n_numbers - 1).map(Number) | constants
    for k in range(draw(st.integers(0, most))):
        last = 9_999 if forward else k - 1
        operand: st.SearchStrategy[Operand] = bare | st.integers(0, last).map(StepRef) if last >= 0 else bare
        steps.append(Step(draw(st.sampled_from(OPERATORS)), draw(operand), draw(operand)))
    return Program.of(steps) if steps else Program((), draw(bare))


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The text of a program after some cutting, doubling and typing in the wrong places."""
    text = render(draw(programs(most=3, forward=True)))
    for _ in range(draw(st.integers(1, 4))):
        i, j = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        typed = draw(st.text("#0123456789:(),|.-+eENDOS<> number\t\n\u0663\uff11\u00b2", max_size=6))
        text = draw(st.sampled_from([text[:i] + text[j:], text[:j] + text[i:], text[:i] + typed + text[i:]]))
    return text


# ------------------------------------------------------------------------------------------------- dialects


@pytest.mark.parametrize(
    "text",
    [
        "#0: add ( number0, number1 ) | #1: substract ( #0, number2 ) |  EOS",
        "#0: add ( number0, number1 ) | #1: substract ( #0, number2 ) |  <END>",
        "#0: add ( number0, number1 ) | #1: subtract (  #0, number2 ) | EOS",
        "#0: add ( number0, number1 ) | #1: substract ( #0, number2 ) | END>",
        "#0: add ( number0, number1 ) | #1: subtract ( #0, number2 ) |",
        "#0: add ( number0, number1 ) | #1: subtract ( #0, number2 )",
        "#0: add ( number0, number1 ) | #1: subtract ( #0, number2 ) EOS",
        "#0:add(number0,number1)|#1:subtract(#0,number2)|EOS",
        "#0:add(number0,number1)|#1:substract(#0,number2)<END>",
        "  #0 :  add (number0 ,number1)  |  #1 : subtract( #0 , number2 )|EOS  ",
        "#0: add\t( number0,\u00a0number1 )\n|\r\n#1: subtract ( #0, number2 ) | EOS\n",
        TWO_STEPS.upper(),
        "#0: Add ( Number0, NUMBER1 ) | #1: Substract ( #0, number2 ) | <end>",
        "#00: add ( number00, number01 ) | #01: subtract ( #0, number2 ) | EOS",
    ],
)
def test_every_dialect_reads_as_the_same_program(text: str) -> None:
    assert render(read(text)) == TWO_STEPS


@pytest.mark.parametrize(
    ("written", "constant"),
    [("100.0", 100.0), ("0.01", 0.01), ("12", 12.0), ("-0.5", -0.5), ("1e3", 1000.0), ("2.5E-2", 0.025)],
)
def test_constants_read_as_their_value(written: str, constant: float) -> None:
    assert read(f"#0: multiply ( number0, {written} ) | EOS").steps[0].second == Constant(constant)


@pytest.mark.parametrize(
    ("text", "operand"),
    [
        ("number0 EOS", Number(0)),
        ("number0 | EOS", Number(0)),
        ("number3 <END>", Number(3)),
        ("number3", Number(3)),
        ("100.0 | EOS", Constant(100.0)),
    ],
)
def test_a_bare_operand_is_a_program_without_steps(text: str, operand: Operand) -> None:
    assert read(text) == Program((), operand)


def test_canonical_text_is_its_own_rendering() -> None:
    for text in (ONE_STEP, TWO_STEPS, THREE_STEPS, "number0 | EOS"):
        assert render(read(text)) == text


def test_spans_do_not_compare() -> None:
    assert read("#0:add(number0,number1)") == read("   " + ONE_STEP)


@pytest.mark.parametrize("text", [TWO_STEPS, "\n#0:SUBSTRACT(100.0,number12)|  #1 : divide (  #0 , -0.5)  END>"])
def test_spans_point_at_steps_operators_and_operands(text: str) -> None:
    for k, step in enumerate(read(text).steps):
        assert text[slice(*step.span)].startswith(f"#{k}") and text[slice(*step.span)].endswith(")")
        operator, first, second = (text[slice(*span)] for span in step.slot_spans)
        assert operator.lower().replace("substract", "subtract") == step.operator
        for written, operand in ((first, step.first), (second, step.second)):
            assert written == str(operand)


# ---------------------------------------------------------------------------------------------- wrong texts


@pytest.mark.parametrize(
    ("text", "offending", "message"),
    [
        ("", "", "expected #0:, found 'the end'"),
        ("   ", "", "expected #0:, found 'the end'"),
        ("hello", "hello", "expected #0:, found 'hello'"),
        ("EOS", "EOS", "expected #0:, found 'EOS'"),
        ("u <END>", "u", "expected #0:, found 'u'"),
        ("#0", "", "expected ':', found 'the end'"),
        ("#1: add ( number0, number1 ) | EOS", "#1", "expected #0:, found '#1'"),
        ("#0: add ( number0, number1 ) | #2: add ( #0, #0 )", "#2", "expected #1:, found '#2'"),
        ("#0: plus ( number0, number1 ) | EOS", "plus", "expected an operator, found 'plus'"),
        ("#0: addnumber0, number1 )", "addnumber0, ", "expected an operator, found"),
        ("#0: add number0, number1", "number0", "expected '(', found 'number0'"),
        ("#0: add ( number0 number1 )", "number1", "expected ',', found 'number1'"),
        ("#0: add ( number0, number1, number2 )", ",", "expected ')', found ','"),
        ("#0: add ( number0, number1", "", "expected ')', found 'the end'"),
        (
            "#0: add ( add ( number0, number1 ), number2 )",
            "add",
            "expected a number, a step or a constant, found 'add'",
        ),
        ("#0: add ( ( number0 ), number1 )", "(", "expected a number, a step or a constant, found '('"),
        ("#0: substract ( +, number1 ) | EOS", "+, number1 )", "expected a number, a step or a constant, found '+"),
        ("#0: add ( number0, number1 ) | EOS hello", "hello", "expected the end, found 'hello'"),
        ("#0: add ( number0, number1 ) #1: add ( #0, #0 )", "#1", "expected the end, found '#1'"),
        ("number0 number1 | EOS", "number1", "expected the end, found 'number1'"),
        ("number99999", "number99999", "expected #0:, found 'number99999'"),
        ("#0: add ( number0, #99999 )", "#99999 )", "expected a number, a step or a constant, found '#99999 )'"),
        ("#0: add ( number\u0663, number1 )", "number\u0663, num", "expected a number, a step or a constant"),
        ("#0: add ( number0, number\uff11 )", "number\uff11 )", "expected a number, a step or a constant"),
        ("#0: add ( number0, number1\u00b2 )", "number1\u00b2 )", "expected a number, a step or a constant"),
        ("#\u0660: add ( number0, number1 )", "#\u0660: add ( nu", "expected #0:, found"),
    ],
)
def test_wrong_text_is_a_failure_that_says_where_and_what(text: str, offending: str, message: str) -> None:
    failure = parse(text)
    assert isinstance(failure, ParseFailure)
    assert failure.kind == "syntax"
    assert failure.message.startswith(message)
    assert text[slice(*failure.span)] == offending


@pytest.mark.parametrize(
    "text",
    [
        "\x00\x01\x02\xff\xfe",
        "\ud800\udfff",
        "\x1b[31m#0: add ( number0, number1 )",
        "(" * 1_900,
        "#0: add " + "( " * 900,
        "((((#0: add ( number0, number1 ))))",
        "9" * 1_900,
        "-" * 1_900,
        "#0: add ( " + "1" * 400 + ", number0 )",
        "#0: add ( number0, number1 ) |" * 60,
        "|" * 1_900,
        "number" * 300,
        " " * 1_999 + "x",
    ],
)
def test_garbage_is_a_syntax_failure_within_its_text(text: str) -> None:
    failure = parse(text)
    assert isinstance(failure, ParseFailure) and failure.kind == "syntax" and failure.message
    start, end = failure.span
    assert 0 <= start <= end <= len(text)


@pytest.mark.parametrize("text", ["x" * 10_000, ONE_STEP.ljust(10_000), "\x00" * 200_000, " " * (MAX_CHARS + 1)])
def test_long_text_is_too_long(text: str) -> None:
    failure = parse(text)
    assert isinstance(failure, ParseFailure)
    assert failure.kind == "too_long" and failure.span == (MAX_CHARS, len(text))
    assert str(len(text)) in failure.message and str(MAX_CHARS) in failure.message


def test_text_of_the_longest_length_reads() -> None:
    assert read(ONE_STEP.ljust(MAX_CHARS)) == read(ONE_STEP)


def test_programs_have_at_most_max_steps() -> None:
    assert len(read(chain("add", MAX_STEPS)).steps) == MAX_STEPS
    failure = parse(longer := chain("add", MAX_STEPS + 1))
    assert isinstance(failure, ParseFailure)
    assert failure.message == f"more than {MAX_STEPS} steps"
    assert longer[slice(*failure.span)] == f"#{MAX_STEPS}"


@pytest.mark.parametrize("written", ["1e999", "-1e999", "9e308"])
def test_a_constant_beyond_floats_is_a_syntax_failure(written: str) -> None:
    failure = parse(text := f"#0: divide ( number0, {written} ) | EOS")
    assert isinstance(failure, ParseFailure), failure
    assert text[slice(*failure.span)] == written


def check_whatever(text: str) -> None:
    """What holds for any text: a program that survives rendering, or a failure inside the text."""
    result = parse(text)
    if isinstance(result, Program):
        assert parse(render(result)) == result
    else:
        start, end = result.span
        assert 0 <= start <= end <= len(text)
        assert result.kind in ("syntax", "too_long") and result.message


@same_every_run
@given(st.text())
def test_no_text_raises(text: str) -> None:
    check_whatever(text)


@same_every_run
@given(st.text("#0123456789:(),|. numberaddsubtractEOS<>", max_size=80))
def test_no_text_of_program_characters_raises(text: str) -> None:
    check_whatever(text)


@same_every_run
@given(mutated())
@example("#0: add ( number0, 1e999 )")
@example("#0: add ( number0, 1e15 )")
@example("#0: add ( number0, 1.2345678901234e-4 )")
def test_no_mutated_program_raises(text: str) -> None:
    check_whatever(text)


# --------------------------------------------------------------------------------------------- round trips


@same_every_run
@given(programs(n_numbers=10_000, forward=True))
def test_parse_inverts_render(program: Program) -> None:
    assert parse(render(program)) == program


@same_every_run
@given(programs(constants=any_constants))
@example(Program((), Constant(1e15)))
@example(Program((), Constant(0.00012345678901234567)))
@example(Program((), Constant(1.2345678901234567)))
def test_parse_inverts_render_for_any_finite_constant(program: Program) -> None:
    assert parse(render(program)) == program


@same_every_run
@given(programs(forward=True), st.randoms(use_true_random=False))
def test_spacing_case_and_end_mark_do_not_matter(program: Program, rng: random.Random) -> None:
    text = render(program).removesuffix("EOS")
    text = "".join(c.upper() if rng.random() < 0.5 else c for c in text).replace(
        " ", rng.choice(["", " ", "   ", "\t"])
    )
    assert parse(text + rng.choice(["", "EOS", " EOS", "<END>", " END> "])) == program


# ----------------------------------------------------------------------------------------------- execution


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (ONE_STEP, 11.0),
        ("#0: subtract ( number0, number1 ) | EOS", 5.0),
        ("#0: subtract ( number1, number0 ) | EOS", -5.0),
        ("#0: multiply ( number0, number1 ) | EOS", 24.0),
        ("#0: divide ( number0, number1 ) | EOS", 8.0 / 3.0),
        ("#0: divide ( 0.0, number1 ) | EOS", 0.0),
        (TWO_STEPS, 9.0),
        ("#0: multiply ( number0, number1 ) | #1: multiply ( #0, 0.01 ) | #2: add ( #0, #1 ) | EOS", 24.24),
        ("#0: add ( number0, number1 ) | #1: add ( number0, number2 ) | EOS", 10.0),
        ("number2 | EOS", 2.0),
        ("100.0 | EOS", 100.0),
    ],
)
def test_execution_gives_the_last_step(text: str, value: float) -> None:
    assert execute(read(text), (8.0, 3.0, 2.0)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "fault", "offending"),
    [
        ("#0: divide ( number0, 0.0 )", Fault("division_by_zero", 0), "#0: divide ( number0, 0.0 )"),
        (
            "#0: subtract ( number0, number0 ) | #1: divide ( 1.0, #0 )",
            Fault("division_by_zero", 1),
            "#1: divide ( 1.0, #0 )",
        ),
        ("#0: divide ( 0.0, -0.0 )", Fault("division_by_zero", 0), "#0: divide ( 0.0, -0.0 )"),
        ("#0: add ( #0, number0 )", Fault("reference", 0, "first"), "#0"),
        ("#0: add ( number0, #1 ) | #1: add ( number0, number1 )", Fault("reference", 0, "second"), "#1"),
        ("#0: add ( number0, number1 ) | #1: add ( #0, #9999 )", Fault("reference", 1, "second"), "#9999"),
        ("#0: add ( number3, number0 )", Fault("unknown_number", 0, "first"), "number3"),
        ("#0: add ( number0, number9999 )", Fault("unknown_number", 0, "second"), "number9999"),
        ("#0: multiply ( 1e200, 1e200 )", Fault("overflow", 0), "#0: multiply ( 1e200, 1e200 )"),
        ("#0: divide ( 1e200, 1e-200 )", Fault("overflow", 0), "#0: divide ( 1e200, 1e-200 )"),
    ],
)
def test_what_stops_execution_is_a_typed_fault(text: str, fault: Fault, offending: str) -> None:
    stopped = execute(read(text), (8.0, 3.0, 2.0))
    assert isinstance(stopped, Fault) and stopped.span is not None
    assert replace(stopped, span=None) == fault
    assert text[slice(*stopped.span)] == offending


def test_the_first_fault_is_the_one_reported() -> None:
    program = read("#0: add ( number0, number7 ) | #1: divide ( number0, 0.0 ) | EOS")
    assert execute(program, (1.0,)) == Fault("unknown_number", 0, "second", span=(19, 26))


def test_a_bare_unknown_number_is_a_fault() -> None:
    assert isinstance(execute(read("number5 | EOS"), (1.0, 2.0)), Fault)


def test_repeated_squaring_overflows_instead_of_raising() -> None:
    stopped = execute(read(chain("multiply", MAX_STEPS)), (9.0,))
    assert isinstance(stopped, Fault) and (stopped.kind, stopped.step) == ("overflow", 8)  # 9 ** 2 ** 9 > 1e308


def test_whole_numbers_may_be_ints() -> None:
    value = execute(read(TWO_STEPS), (8, 3, 2))
    assert value == 9.0 and isinstance(value, float)
    assert isinstance(execute(read(chain("multiply", MAX_STEPS)), (9,)), Fault)


@same_every_run
@given(
    programs(forward=True, constants=any_constants),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=0, max_size=5),
)
def test_execution_never_raises(program: Program, numbers: list[float]) -> None:
    result = execute(program, numbers)
    if isinstance(result, Fault):
        assert result.kind in ("reference", "unknown_number", "bare", "division_by_zero", "overflow")
    else:
        assert isinstance(result, float) and abs(result) < float("inf")


# ------------------------------------------------------------------------------------------------ equality


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (ONE_STEP, "#0: add ( number1, number0 )"),
        (TWO_STEPS, "#0: add ( number1, number0 ) | #1: subtract ( #0, number2 )"),
        ("#0: multiply ( number0, 100.0 )", "#0: multiply ( 100.0, number0 )"),
        (
            "#0: add ( number0, number1 ) | #1: multiply ( number2, #0 )",
            "#0: add ( number1, number0 ) | #1: multiply ( #0, number2 )",
        ),
        (
            THREE_STEPS,
            "#0: multiply ( number3, number2 ) | #1: add ( number1, number0 ) | #2: subtract ( #1, #0 )",
        ),
        (
            "#0:add(number0,number1)|#1:add(#0,number2)|#2:add(#1,number3)|#3:add(#2,number4)",
            "#0:add(number1,number0)|#1:add(number2,#0)|#2:add(number3,#1)|#3:add(number4,#2)",
        ),
        ("number0 EOS", "number0 | <END>"),
        ("100", "100.0 | EOS"),
        ("#0: subtract ( number0, number0 )", "#0: subtract ( number0, number0 )"),
        ("#0: add ( #1, number0 ) | #1: add ( #0, number1 )", "#0: add ( number0, #1 ) | #1: add ( number1, #0 )"),
    ],
)
def test_rewritings_are_equivalent(a: str, b: str) -> None:
    assert equivalent(read(a), read(b)) and equivalent(read(b), read(a))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (ONE_STEP, "#0: multiply ( number0, number1 )"),
        (ONE_STEP, "#0: add ( number0, number2 )"),
        (ONE_STEP, "#0: add ( number0, number0 )"),
        ("#0: subtract ( number0, number1 )", "#0: subtract ( number1, number0 )"),
        ("#0: divide ( number0, number1 )", "#0: divide ( number1, number0 )"),
        (TWO_STEPS, "#0: add ( number0, number1 ) | #1: subtract ( number2, #0 )"),
        (TWO_STEPS, "#0: add ( number0, number1 )"),
        (TWO_STEPS, TWO_STEPS.replace(" | EOS", " | #2: add ( #1, number0 )")),
        # An unused step is a step: the answer is the same, the program is not.
        (ONE_STEP, "#0: subtract ( number0, number1 ) | #1: add ( number0, number1 )"),
        (ONE_STEP, "#0: add ( number0, number1 ) | #1: add ( number0, number1 )"),
        # The same steps, but another one is the last.
        (
            "#0: add ( number0, number1 ) | #1: multiply ( number0, number1 )",
            "#0: multiply ( number0, number1 ) | #1: add ( number0, number1 )",
        ),
        # Associativity and distributivity are other ways to the answer, not other writings of this one.
        (
            "#0: add ( number0, number1 ) | #1: add ( #0, number2 )",
            "#0: add ( number1, number2 ) | #1: add ( number0, #0 )",
        ),
        ("number0", "number1"),
        ("number1", "1.0"),
        ("number0", "#0: add ( number0, 0.0 )"),
        # A reference to a later step is never the step that it would be elsewhere.
        (
            "#0: add ( #1, number0 ) | #1: add ( number0, number1 )",
            "#0: add ( number0, number1 ) | #1: add ( #0, number0 )",
        ),
        ("#0: add ( #0, number0 )", "#0: add ( number0, number0 )"),
        ("#0: add ( #1, number0 )", "#0: add ( number1, number0 )"),
    ],
)
def test_other_programs_are_not_equivalent(a: str, b: str) -> None:
    assert not equivalent(read(a), read(b)) and not equivalent(read(b), read(a))


def test_sharing_costs_nothing() -> None:
    thirty = chain("add", 30)
    start = time.perf_counter()
    assert equivalent(read(thirty), read(thirty))
    assert not equivalent(read(thirty), read(thirty.replace("#0: add", "#0: multiply")))
    assert time.perf_counter() - start < 1.0


@same_every_run
@given(programs(most=7), st.randoms(use_true_random=False))
def test_flipping_commutative_steps_keeps_program_and_value(program: Program, rng: random.Random) -> None:
    flipped = [s.flipped() if s.operator in COMMUTATIVE and rng.random() < 0.5 else s for s in program.steps]
    other = Program(tuple(flipped), program.result)
    assert equivalent(program, other)
    numbers = (8.0, 3.0, 2.0, 5.0, 7.0)
    a, b = execute(program, numbers), execute(other, numbers)
    assert a == b or (isinstance(a, Fault) and isinstance(b, Fault) and a.kind == b.kind)


@same_every_run
@given(programs(forward=True), programs(forward=True))
def test_equivalence_is_symmetric_and_reflexive(a: Program, b: Program) -> None:
    assert equivalent(a, a) and equivalent(b, b)
    assert equivalent(a, b) == equivalent(b, a)


# ------------------------------------------------------------------------------------------ editing of steps


def test_independent_steps_have_two_orders() -> None:
    first, second = orderings(read(THREE_STEPS))
    assert render(first) == THREE_STEPS
    assert render(second) == (
        "#0: multiply ( number2, number3 ) | #1: add ( number0, number1 ) | #2: subtract ( #1, #0 ) | EOS"
    )


def test_a_chain_has_one_order() -> None:
    assert list(orderings(read(chain("add", 12)))) == [read(chain("add", 12))]


@pytest.mark.parametrize("text", ["number0 | EOS", ONE_STEP, TWO_STEPS])
def test_short_programs_have_one_order(text: str) -> None:
    assert list(orderings(read(text))) == [read(text)]


def test_orders_are_limited_and_never_move_the_last_step() -> None:
    steps = [Step("add", Number(k), Number(k)) for k in range(MAX_STEPS)]
    found = list(orderings(Program.of(steps), most=24))
    assert len(set(found)) == len(found) == 24
    assert all(program.steps[-1] == steps[-1] for program in found)
    assert len(list(orderings(Program.of(steps[:5])))) == 24  # 4! orders of all but the last


@same_every_run
@given(programs(most=7))
def test_every_order_is_equivalent_and_executes_to_the_same(program: Program) -> None:
    numbers = (8.0, 3.0, 2.0, 5.0, 7.0)
    value = execute(program, numbers)
    for other in orderings(program):
        assert equivalent(program, other)
        assert all(r.step < k for k, s in enumerate(other.steps) for r in s.operands if isinstance(r, StepRef))
        assert isinstance(value, Fault) or execute(other, numbers) == value


def test_insert_moves_later_steps_and_their_references() -> None:
    new = Step("divide", Number(5), Number(6))
    steps = insert_step(read(THREE_STEPS).steps, 1, new)
    assert render(Program.of(steps)) == (
        "#0: add ( number0, number1 ) | #1: divide ( number5, number6 )"
        " | #2: multiply ( number2, number3 ) | #3: subtract ( #0, #2 ) | EOS"
    )


def test_drop_gives_its_place_to_the_heir() -> None:
    program = read("#0: add ( number0, number1 ) | #1: multiply ( #0, number2 ) | #2: subtract ( #1, #0 )")
    assert render(Program.of(drop_step(program.steps, 0, Number(1)))) == (
        "#0: multiply ( number1, number2 ) | #1: subtract ( #0, number1 ) | EOS"
    )
    assert render(Program.of(drop_step(program.steps, 1, StepRef(0)))) == (
        "#0: add ( number0, number1 ) | #1: subtract ( #0, #0 ) | EOS"
    )
    assert drop_step(program.steps, 2, StepRef(1)) == list(program.steps[:2])


@same_every_run
@given(programs(), st.integers(0, 5), st.sampled_from(OPERATORS))
def test_drop_undoes_insert(program: Program, place: int, operator: str) -> None:
    place = min(place, len(program.steps))
    inserted = insert_step(program.steps, place, Step(operator, Number(0), Number(1)))
    assert drop_step(inserted, place, Number(0)) == list(program.steps)


@same_every_run
@given(programs(), st.integers(0, 4))
def test_an_unused_step_does_not_change_the_value(program: Program, place: int) -> None:
    if program.steps:
        steps = insert_step(program.steps, min(place, len(program.steps) - 1), Step("add", Number(0), Number(1)))
        values = [execute(p, (8.0, 3.0, 2.0, 5.0, 7.0)) for p in (program, Program.of(steps))]
        assert values[0] == values[1] or all(isinstance(v, Fault) for v in values)


def test_steps_name_their_slots() -> None:
    step = Step("subtract", Number(0), StepRef(1))
    assert [step.operand(slot) for slot in SLOTS] == [Number(0), StepRef(1)] == list(step.operands)
    assert step.with_operand("first", Constant(2.0)) == Step("subtract", Constant(2.0), StepRef(1))
    assert step.with_operand("second", Constant(2.0)) == Step("subtract", Number(0), Constant(2.0))
    assert step.flipped() == Step("subtract", StepRef(1), Number(0))


def test_operands_render_as_they_are_written() -> None:
    operands: Sequence[Operand] = (Number(7), StepRef(2), Constant(100.0), Constant(0.01))
    assert [str(o) for o in operands] == ["number7", "#2", "100.0", "0.01"]
