"""Math word problems in the formats of SVAMP and of REFINER's files: rows -> problems with linear programs.

Texts have placeholders `numberN` in the order of the text; their values stand in `metadata["numbers"]`. Equations are
prefix expressions over placeholders (`- * number0 number1 100.0`) or infix ones over values (`( 76.0 - 25.0 )`). Gold
always follows from the equation: the labels of REFINER's validation file do not.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from data.corpus import Corpus, text_key
from data.tables import Cells, MalformedError, Reading, finite, number_of, numbers_of, text_of
from refiner_env.tasks import program as ir
from refiner_env.types import Fault, ParseFailure, Problem

ROUNDING = 0.01
"""Largest relative difference between an executed value and a stated answer that is a rounding of it."""
EXACT = 1e-6
"""Absolute difference that is no more than floating-point error."""
_OPERATORS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}
_SIGNS = {name: sign for sign, name in _OPERATORS.items()}
_PLACEHOLDER = re.compile(r"\bnumber([0-9]{1,9})\b")
_RAW_NUMBER = re.compile(r"(?<![\w.,])[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?![\w])")
_INFIX = re.compile(r"[0-9]+(?:\.[0-9]+)?|[-+*/()]|\S")


def svamp_csv(row: Cells, uid: str) -> Reading:
    """MAWPS + ASDiv-A and SVAMP as arkilpatel/SVAMP ships them for training: placeholders and a prefix equation."""
    numbers = numbers_of(row, "Numbers")
    text, stated = _question(row, "Question", len(numbers)), number_of(row, "Answer")
    gold, value = _gold(row, prefix_to_program, len(numbers), numbers)
    return _reading(row, Problem(uid, text, gold, stated, {"numbers": numbers}), value, [])


def svamp_json(row: Cells, uid: str) -> Reading:
    """SVAMP in its original wording: raw numbers in the text become placeholders, and operands by their values.

    Of equal numbers the equation's operands take the first that is not yet used.
    """
    text = _joined(text_of(row, "Body"), text_of(row, "Question", empty=True))
    numbers: list[float] = []

    def placeholder(match: re.Match[str]) -> str:
        numbers.append(float(match[0].replace(",", "")))
        return f"number{len(numbers) - 1}"

    text = _RAW_NUMBER.sub(placeholder, text)
    if not numbers:
        raise MalformedError.cell("Body", row["Body"], "there are no numbers in it")
    unused = list(range(len(numbers)))

    def operand(token: str) -> str:
        same = [i for i, number in enumerate(numbers) if number == float(token)]
        if not same:
            return token
        chosen = next((i for i in same if i in unused), same[0])
        if chosen in unused:
            unused.remove(chosen)
        return f"number{chosen}"

    def program(equation: str, n_numbers: int) -> ir.Program:
        tokens = infix_to_prefix(equation)
        return prefix_to_program(" ".join(t if t in _OPERATORS else operand(t) for t in tokens), n_numbers)

    gold, value = _gold(row, program, len(numbers), numbers)
    problem = Problem(uid, text, gold, number_of(row, "Answer"), {"numbers": tuple(numbers)})
    return _reading(row, problem, value, [])


def refiner_mwp(row: Cells, uid: str) -> Reading:
    """REFINER's critique_train and critique_val: a prefix equation beside a label that may contradict it.

    Gold is the equation's program; `rebuilt_program` marks the rows whose label is no equivalent of it, and
    `empty_body` those whose body is the word Empty.
    """
    numbers = numbers_of(row, "Numbers")
    repairs = []
    body, question = text_of(row, "Body"), text_of(row, "Question", empty=True)
    if body == "Empty" and question:
        body = ""
        repairs.append("empty_body")
    text, stated = _joined(body, question), number_of(row, "Answer")
    _check_placeholders("Body", text, len(numbers))
    gold, value = _gold(row, prefix_to_program, len(numbers), numbers)
    label = ir.parse(text_of(row, "Linear_Formula"))
    right = ir.parse(gold)
    assert isinstance(right, ir.Program)  # _gold has parsed it
    if isinstance(label, ParseFailure) or not ir.equivalent(label, right):
        repairs.append("rebuilt_program")
    labelled = None if isinstance(label, ParseFailure) else ir.execute(label, numbers)
    return _reading(row, Problem(uid, text, gold, stated, {"numbers": numbers}), value, repairs, labelled)


def refiner_mwp_test(row: Cells, uid: str) -> Reading:
    """REFINER's critique_test: `Numbers` lists what the equation uses, in its order, not what placeholders mean.

    The placeholders of the label are aligned with the values of `Equation` (`aligned_numbers`). A number that the
    label does not use stands nowhere in the file: its value is NaN (`unknown_numbers`), so that a program which uses
    it has no value. Placeholders that the text repeats by mistake or spells as digits are mended where the label
    tells how (`mended_placeholders`).
    """
    listed, stated = numbers_of(row, "Numbers"), number_of(row, "Answer")
    text = _joined(text_of(row, "Body"), text_of(row, "Question", empty=True))
    formula = text_of(row, "Linear_Formula")
    label = ir.parse(formula)
    if isinstance(label, ParseFailure):
        raise MalformedError.cell("Linear_Formula", formula, label.message)
    try:
        known = _aligned(label, infix_to_prefix(text_of(row, "Equation")))
    except ValueError as error:
        raise MalformedError.cell("Equation", row["Equation"], str(error)) from None
    mended = _mended(text, known)
    mentioned = {int(index) for index in _PLACEHOLDER.findall(mended)}
    if lost := sorted(set(known) - mentioned):
        raise MalformedError.cell("Body", row["Body"], f"number{lost[0]} of the label does not stand in it")
    numbers = tuple(known.get(i, math.nan) for i in range(1 + max(mentioned, default=-1)))
    repairs = [
        *(["aligned_numbers"] if numbers != listed else []),
        *(["unknown_numbers"] if any(map(math.isnan, numbers)) else []),
        *(["mended_placeholders"] if mended != text else []),
    ]
    value = ir.execute(label, numbers)
    if isinstance(value, Fault):
        raise MalformedError.cell("Linear_Formula", formula, f"it has no value ({value.kind})")
    problem = Problem(uid, mended, ir.render(label), stated, {"numbers": numbers})
    return _reading(row, problem, value, repairs, ir.execute(label, listed))


def looked_up(corpus: Corpus, original: Corpus) -> Corpus:
    """Unknown numbers from a corpus that has the same texts with all their numbers (`looked_up_numbers`)."""
    numbers = {text_key(p): p.metadata["numbers"] for p in original.problems}

    def filled(problem: Problem) -> Problem:
        mine = problem.metadata["numbers"]
        theirs = numbers.get(text_key(problem), ())
        agree = len(mine) == len(theirs) and all(math.isnan(a) or a == b for a, b in zip(mine, theirs, strict=True))
        if not agree or not any(map(math.isnan, mine)):
            return problem
        repairs = ("looked_up_numbers" if r == "unknown_numbers" else r for r in problem.metadata["repairs"])
        return replace(problem, metadata={**problem.metadata, "numbers": theirs, "repairs": tuple(repairs)})

    problems = tuple(map(filled, corpus.problems))
    repairs = Counter(kind for p in problems for kind in p.metadata.get("repairs", ()))
    return replace(corpus, problems=problems, report=replace(corpus.report, repairs=dict(repairs)))


# ---------------------------------------------------------------------------------------------- what they share


def _reading(
    row: Cells, problem: Problem, value: float, repairs: list[str], label: float | Fault | None = math.nan
) -> Reading:
    """The problem with its repairs, and how `value` of gold and of the label (NaN: it is gold) fit the answer."""
    stated = problem.answer
    assert isinstance(stated, float)
    numbers = problem.metadata["numbers"]
    disagreement = ""
    answer: float = stated
    if not _rounds(value, stated):
        disagreement = f"equation {row['Equation']!r} gives {value}, the stated answer is {stated}"
    elif not math.isclose(value, stated, rel_tol=1e-9, abs_tol=EXACT):
        answer, repairs = value, [*repairs, "rounded_answer"]
    metadata = {"numbers": numbers, "repairs": tuple(repairs)} if repairs else {"numbers": numbers}
    if isinstance(label, float) and math.isnan(label):
        label = value
    return Reading(
        Problem(problem.uid, problem.text, problem.gold, answer, metadata),
        disagreement,
        wrong_label=not isinstance(label, float) or not _rounds(label, stated),
        dialects=_dialects(row["Linear_Formula"]) if "Linear_Formula" in row else (),
    )


def _rounds(value: float, stated: float) -> bool:
    return math.isclose(value, stated, rel_tol=ROUNDING, abs_tol=EXACT)


def _dialects(formula: str) -> tuple[str, ...]:
    """How a label spells what REFINER's files spell in several ways."""
    spelled = [word for word in ("substract", "subtract") if re.search(rf"\b{word}\b", formula)]
    mark = next((mark for mark in ("EOS", "<END>") if mark in formula), "no end mark")
    return (*spelled, mark)


def _joined(body: str, question: str) -> str:
    """Body and question with one blank between them; the body alone where it already ends with the question."""

    def key(text: str) -> str:
        """Without case and punctuation; numbers alike, whether placeholders or digits."""
        return re.sub(r"[\W_]+", "", re.sub(r"\bnumber[0-9]+\b|[0-9]+(?:\.[0-9]+)?", "number", text.lower()))

    return body if key(body).endswith(key(question)) else f"{body} {question}".strip()


def _question(row: Cells, key: str, n_numbers: int) -> str:
    text = text_of(row, key)
    _check_placeholders(key, text, n_numbers)
    return text


def _check_placeholders(key: str, text: str, n_numbers: int) -> None:
    for index in _PLACEHOLDER.findall(text):
        if int(index) >= n_numbers:
            raise MalformedError.cell(key, text, f"number{index} is out of range, there are {n_numbers} numbers")


def _gold(
    row: Cells, read: Callable[[str, int], ir.Program], n_numbers: int, numbers: Sequence[float]
) -> tuple[str, float]:
    """The program of an equation as text, and its value."""
    equation = text_of(row, "Equation", empty=True)
    try:
        program = read(equation, n_numbers)
    except ValueError as error:
        raise MalformedError.cell("Equation", equation, str(error)) from None
    gold = ir.render(program)
    if isinstance(failure := ir.parse(gold), ParseFailure):
        raise MalformedError.cell("Equation", equation, f"no program of the task ({failure.message})")
    if isinstance(value := ir.execute(program, numbers), Fault):
        raise MalformedError.cell("Equation", equation, f"it has no value ({value.kind})")
    return gold, value


def _aligned(label: ir.Program, equation: Sequence[str]) -> dict[int, float]:
    """Placeholder -> value, from a label and the prefix tokens of an equation over values.

    Raises:
        ValueError: the two are not of one shape, or a placeholder would have two values.
    """
    values: dict[int, float] = {}
    pending: list[ir.Operand] = [label.result]
    for token in equation:
        if not pending:
            raise ValueError("the label has fewer operands")
        operand = pending.pop()
        if isinstance(operand, ir.StepRef):
            if operand.step >= len(label.steps) or _SIGNS[label.steps[operand.step].operator] != token:
                raise ValueError(f"the label has no {token!r} where the equation has one")
            step = label.steps[operand.step]
            pending += [step.second, step.first]
        elif token in _OPERATORS:
            raise ValueError(f"the label has {operand} where the equation has {token!r}")
        elif isinstance(operand, ir.Constant):
            if operand.value != float(token):
                raise ValueError(f"the label has {operand} where the equation has {token}")
        elif values.setdefault(operand.index, float(token)) != float(token):
            raise ValueError(f"{operand} would be {values[operand.index]} and {token}")
    if pending:
        raise ValueError("the label has more operands")
    return values


def _mended(text: str, known: dict[int, float]) -> str:
    """The text with every placeholder up to the highest in it; `known` takes the values of digits that become one.

    Digits stand for the placeholders that are absent, and of placeholders that stand twice the second is the next.
    """
    found = [int(index) for index in _PLACEHOLDER.findall(text)]
    top = max([*found, *known], default=-1)
    absent = [index for index in range(top + 1) if index not in found]
    digits = [float(digits.replace(",", "")) for digits in _RAW_NUMBER.findall(text)]
    if len(digits) == len(absent) and all(known.get(i, v) == v for i, v in zip(absent, digits, strict=True)):
        known |= zip(absent, digits, strict=True)
        places = iter(absent)
        return _RAW_NUMBER.sub(lambda _: f"number{next(places)}", text)
    if len(found) == top + 1:
        places = iter(range(top + 1))
        return _PLACEHOLDER.sub(lambda _: f"number{next(places)}", text)
    return text


# --------------------------------------------------------------------------------------------------- equations


def infix_to_prefix(equation: str) -> list[str]:
    """The prefix tokens of an infix expression over values, with parentheses around every operation but the last.

    Raises:
        ValueError: the expression is no such thing; the message says why.
    """
    tokens = _INFIX.findall(equation)[::-1]
    if len(tokens) > 4 * ir.MAX_STEPS:
        raise ValueError(f"too long: more than {ir.MAX_STEPS} operations")

    def operand() -> list[str]:
        token = tokens.pop() if tokens else "the end"
        if token == "(":
            inner = operation()
            if not tokens or tokens.pop() != ")":
                raise ValueError("')' is missing")
            return inner
        if not token[0].isdigit():
            raise ValueError(f"expected a number or '(', found {token!r}")
        return [token]

    def operation() -> list[str]:
        first = operand()
        if tokens and tokens[-1] in _OPERATORS:
            return [tokens.pop(), *first, *operand()]
        return first

    prefix = operation()
    if tokens:
        raise ValueError(f"nothing may follow the complete expression, found {tokens[-1]!r}")
    return prefix


def prefix_to_program(equation: str, n_numbers: int) -> ir.Program:
    """A prefix expression as steps in post-order: those of the left operand before those of the right.

    Raises:
        ValueError: the expression is no such program; the message says why.
    """
    steps: list[ir.Step] = []
    pending: list[tuple[str, list[ir.Operand]]] = []  # operators that still lack operands
    result: ir.Operand | None = None
    for token in equation.split():
        if result is not None:
            raise ValueError(f"too long: nothing may follow the complete expression, found {token!r}")
        if token in _OPERATORS:
            pending.append((_OPERATORS[token], []))
            continue
        operand = _leaf(token, n_numbers)
        while pending:
            operator, operands = pending[-1]
            operands.append(operand)
            if len(operands) < 2:
                break
            pending.pop()
            steps.append(ir.Step(operator, operands[0], operands[1]))
            operand = ir.StepRef(len(steps) - 1)
        else:
            result = operand
    if result is None:
        raise ValueError("too short: an operand is missing at the end")
    return ir.Program(tuple(steps), result)


def _leaf(token: str, n_numbers: int) -> ir.Operand:
    if match := re.fullmatch(r"number([0-9]{1,9})", token):
        if int(match[1]) >= n_numbers:
            raise ValueError(f"{token} is out of range, the problem has {n_numbers} numbers")
        return ir.Number(int(match[1]))
    try:
        return ir.Constant(finite(token))
    except ValueError:
        raise ValueError(f"{token!r} is no operator (+ - * /), numberN or constant") from None
