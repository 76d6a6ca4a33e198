"""Reading SVAMP's CSV files: programs, answers, repairs, and every way in which a row can be malformed."""

from __future__ import annotations

import csv
import math
import operator
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data import Corpus, prefix_to_program, read_corpus
from refiner_env.errors import DataError, UnknownNameError
from refiner_env.tasks import program as ir

HEADER = "Question,Numbers,Equation,Answer"
GOOD = "Tom has number0 pens and finds number1 .,3 4.5,+ number0 number1,7.5"


def write(tmp_path: Path, *lines: str, header: str = HEADER) -> Path:
    path = tmp_path / "train.csv"
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------ equations


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        ("number0", "number0 | EOS"),
        ("100.0", "100.0 | EOS"),
        ("- number1 number0", "#0: subtract ( number1, number0 ) | EOS"),
        ("- * number0 number1 100.0", "#0: multiply ( number0, number1 ) | #1: subtract ( #0, 100.0 ) | EOS"),
        ("/ 12.0 + number0 number1", "#0: add ( number0, number1 ) | #1: divide ( 12.0, #0 ) | EOS"),
        (
            "/ - number1 number0 * number0 0.5",
            "#0: subtract ( number1, number0 ) | #1: multiply ( number0, 0.5 ) | #2: divide ( #0, #1 ) | EOS",
        ),
        (
            "+ number0 + * number0 number1 - 1.0 number1",
            "#0: multiply ( number0, number1 ) | #1: subtract ( 1.0, number1 ) | #2: add ( #0, #1 )"
            " | #3: add ( number0, #2 ) | EOS",
        ),
    ],
)
def test_prefix_becomes_steps_in_post_order(equation: str, text: str) -> None:
    assert ir.render(prefix_to_program(equation, 2)) == text


@pytest.mark.parametrize(
    ("equation", "why"),
    [
        ("", "too short"),
        ("+ number0", "too short"),
        ("- * number0 number1", "too short"),
        ("number0 number1", "too long.*'number1'"),
        ("+ number0 number1 number0", "too long.*'number0'"),
        ("% number0 number1", "'%' is no operator"),
        ("+ number0 two", "'two' is no operator"),
        ("+ number0 nan", "'nan' is no operator"),
        ("+ number0 number2", "number2 is out of range.*2 numbers"),
    ],
)
def test_broken_prefix_is_refused(equation: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        prefix_to_program(equation, 2)


# --------------------------------------------------------------------------------------------- one good row


def test_a_row_becomes_a_problem(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, '" Tom  has number0 pens\tand finds number1 . ",3 4.5,+ number0 number1,7.5'))
    (problem,) = corpus.problems
    assert problem.uid == "svamp/train/0"
    assert problem.text == "Tom has number0 pens and finds number1 ."
    assert problem.gold == "#0: add ( number0, number1 ) | EOS"
    assert problem.answer == 7.5
    assert problem.metadata == {"numbers": (3.0, 4.5)}
    assert (corpus.report.rows, corpus.report.kept, corpus.report.skipped) == (1, 1, 0)


def test_other_column_orders_byte_order_mark_and_blank_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("\ufeffAnswer,Equation,More,Numbers,Question\r\n\r\n3,number0,,3,number0 pens ?\r\n".encode())
    corpus = read_corpus(path)
    assert corpus.problems[0].answer == 3.0
    assert corpus.report.rows == 1


def test_a_rounded_answer_becomes_the_executed_value(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "number0 by number1 ?,10 3,/ number0 number1,3.33", GOOD))
    rounded, exact = corpus.problems
    assert rounded.answer == 10 / 3
    assert rounded.metadata["repairs"] == ("rounded_answer",)
    assert "repairs" not in exact.metadata
    assert corpus.report.repairs == {"rounded_answer": 1}
    assert corpus.report.messages == ()


def test_a_disagreement_is_kept_or_dropped_as_asked(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, "number0 by number1 ?,10 3,/ number0 number1,4.0")
    kept, dropped = read_corpus(path), read_corpus(path, on_disagreement="drop")
    assert kept.problems[1].answer == 4.0
    assert [p.uid for p in dropped.problems] == ["svamp/train/0"]
    assert (dropped.report.rows, dropped.report.kept, dropped.report.skipped) == (2, 1, 1)
    for report in (kept.report, dropped.report):
        assert report.disagreements == 1
        (message,) = report.messages
        assert all(part in message for part in (str(path), "line 3", "'/ number0 number1'", "3.33333", "4.0"))


# -------------------------------------------------------------------------------------------- malformed rows

MALFORMED = {
    "missing column": ("pens ?,3 4", "Equation", "'pens ?,3 4'"),
    "extra column": (GOOD + ",more", "5", "'more'"),
    "number not a float": ("pens ?,3 four,number0,3", "Numbers", "'3 four'"),
    "number not finite": ("pens ?,3 inf,number0,3", "Numbers", "'3 inf'"),
    "no numbers": ("pens ?, ,5.0,5", "Numbers", "' '"),
    "answer not a float": ("pens ?,3,number0,three", "Answer", "'three'"),
    "equation too short": ("pens ?,3 4,+ number0,7", "Equation", "'+ number0'"),
    "equation too long": ("pens ?,3 4,number0 number1,7", "Equation", "'number0 number1'"),
    "unknown operator": ("pens ?,3 4,% number0 number1,7", "Equation", "'% number0 number1'"),
    "number out of range": ("pens ?,3 4,+ number0 number2,7", "Equation", "'+ number0 number2'"),
    "division by zero": ("pens ?,3 0,/ number0 number1,7", "Equation", "'/ number0 number1'"),
    "too many steps": ("pens ?,3 4," + "+ number0 " * 40 + "number1,7", "Equation", "'+ number0 + number0"),
    "placeholder without number": ("number3 pens ?,3 4,number0,3", "Question", "'number3 pens ?'"),
    "endless number": ("number0 pens ?,3 4,number" + "9" * 5000 + ",3", "Equation", "'number999"),
    "empty question": ("  ,3 4,+ number0 number1,7", "Question", "'  '"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_row_is_skipped_with_a_message_or_raised(case: str, tmp_path: Path) -> None:
    row, column, value = MALFORMED[case]
    path = write(tmp_path, GOOD, row, GOOD)
    corpus = read_corpus(path)
    assert [p.uid for p in corpus.problems] == ["svamp/train/0", "svamp/train/2"]
    assert (corpus.report.rows, corpus.report.kept, corpus.report.skipped) == (3, 2, 1)
    (message,) = corpus.report.messages
    with pytest.raises(DataError) as caught:
        read_corpus(path, on_malformed="raise")
    for text in (message, str(caught.value)):
        assert all(part in text for part in (str(path), "line 3", f"column {column}", value)), text
        assert "\n" not in text


def test_bytes_that_are_not_utf8_spoil_only_their_row(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(f"{HEADER}\n{GOOD}\n".encode() + b"caf\xe9 ?,3,number0,3\n" + f"{GOOD}\n".encode())
    corpus = read_corpus(path)
    assert corpus.report.skipped == 1
    (message,) = corpus.report.messages
    assert all(part in message for part in (str(path), "line 3", "column Question", r"caf\udce9", "UTF-8"))
    with pytest.raises(DataError, match="line 3, column Question"):
        read_corpus(path, on_malformed="raise")


def test_broken_quoting_is_a_malformed_row(tmp_path: Path) -> None:
    path = write(tmp_path, '"pens" and ?,3,number0,3', GOOD, '"never closed,3,number0,3')
    corpus = read_corpus(path)
    assert corpus.report.kept == 1
    assert ["line 2," in corpus.report.messages[0], "line 4," in corpus.report.messages[1]] == [True, True]


def test_lines_are_physical_lines(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, '"Tom has\nnumber0 pens\n.",3,number0,3', "pens ?,x,number0,3"))
    assert corpus.problems[0].text == "Tom has number0 pens ."
    assert "line 5," in corpus.report.messages[0]


@pytest.mark.parametrize("header", ["Question,Numbers,Answer", "", "\x00Q\x00u"])
def test_another_header_is_refused_whatever_is_asked(header: str, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, header=header)
    with pytest.raises(DataError) as caught:
        read_corpus(path, "svamp-csv", on_malformed="skip")
    assert all(part in str(caught.value) for part in (str(path), "line 1", "column ", repr(header)))


def test_a_missing_file_says_where_it_was_looked_for_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_corpus(tmp_path / "train.csv", "svamp-csv")
    expected = (str(tmp_path / "train.csv"), "arkilpatel/SVAMP", "data/mawps-asdiv-a_svamp", "train.csv", "dev.csv")
    assert all(part in str(caught.value) for part in expected)


def test_an_unreadable_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read.*directory"):
        read_corpus(tmp_path)


def test_unknown_policies_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    with pytest.raises(UnknownNameError, match=r"on_malformed 'rais'.*'raise'"):
        read_corpus(path, on_malformed="rais")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=r"on_disagreement 'dorp'.*'drop'"):
        read_corpus(path, on_disagreement="dorp")  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------- the real files


@pytest.fixture(scope="module")
def train(corpora: Path) -> Corpus:
    return read_corpus(corpora / "svamp" / "train.csv", on_malformed="raise")


def expected_values(path: Path) -> Iterator[tuple[int, float, float]]:
    """(physical line, value of the equation, stated answer), by a second evaluator."""
    apply: dict[str, Callable[[float, float], float]] = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": operator.truediv,
    }

    def value(tokens: list[str], numbers: list[float]) -> float:
        token = tokens.pop(0)
        if token in apply:
            first = value(tokens, numbers)
            return apply[token](first, value(tokens, numbers))
        return numbers[int(token[6:])] if token.startswith("number") else float(token)

    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for row in reader:
            numbers = [float(n) for n in row["Numbers"].split()]
            yield reader.line_num, value(row["Equation"].split(), numbers), float(row["Answer"])


def test_the_training_file(train: Corpus, corpora: Path) -> None:
    report = train.report
    assert (report.rows, report.kept, report.skipped, report.disagreements) == (3138, 3138, 0, 6)
    assert report.repairs == {"rounded_answer": 12}
    wrong = []
    for problem, (line, value, stated) in zip(
        train.problems, expected_values(corpora / "svamp" / "train.csv"), strict=True
    ):
        executed = ir.execute(ir.parse(problem.gold), problem.metadata["numbers"])  # type: ignore[arg-type]
        assert executed == pytest.approx(value, rel=1e-12)
        if math.isclose(value, stated, rel_tol=0.01):
            assert problem.answer == pytest.approx(executed, rel=1e-6, abs=1e-6)
            assert ("repairs" in problem.metadata) == (abs(value - stated) > 1e-6)
        else:
            wrong.append(line)
            assert problem.answer == stated
    assert len(train.problems) - len(wrong) == 3132
    assert [int(m.split("line ")[1].split(",")[0]) for m in report.messages] == wrong


def test_the_training_file_without_disagreements(corpora: Path) -> None:
    corpus = read_corpus(corpora / "svamp" / "train.csv", on_disagreement="drop")
    assert (corpus.report.rows, corpus.report.kept, corpus.report.skipped) == (3138, 3132, 6)


def test_the_test_file(corpora: Path) -> None:
    corpus = read_corpus(corpora / "svamp" / "dev.csv", on_malformed="raise")
    report = corpus.report
    assert (report.rows, report.kept, report.disagreements, dict(report.repairs)) == (1000, 1000, 0, {})
    for problem in corpus.problems:
        executed = ir.execute(ir.parse(problem.gold), problem.metadata["numbers"])  # type: ignore[arg-type]
        assert executed == pytest.approx(problem.answer, abs=1e-6)
    assert corpus.problems[17].uid == "svamp/dev/17"
