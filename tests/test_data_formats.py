"""Reading every format: containers, encodings, repairs, and what is said of files and rows that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from data import FORMATS, Corpus, read_corpus, text_key
from data.mwp_formats import infix_to_prefix, looked_up
from refiner_env.errors import DataError, UnknownNameError
from refiner_env.tasks import SyntheticReasoning
from refiner_env.tasks import program as ir
from refiner_env.types import Problem, Scores

Row = dict[str, Any]

CSV: Row = {"Question": "Tom has number0 pens and buys number1 .", "Numbers": "3 4", "Equation": "+ number0 number1"}
CSV |= {"Answer": "7"}
SVAMP: Row = {"ID": "chal-1", "Body": "Tom has 3 pens and 1,000.5 caps.", "Question": "How many more caps?"}
SVAMP |= {"Equation": "( 1000.5 - 3.0 )", "Answer": 997.5, "Type": "Subtraction"}
LABELLED: Row = {
    "ID": "1",
    "Body": "Tom has number0 pens ,",
    "Question": "how many with number1 more and number2 lost ?",
    "Numbers": "3.0 4.0 2.0",
    "Equation": "- + number0 number1 number2",
    "Answer": "5.0",
    "Linear_Formula": "#0: add ( number0, number1 ) | #1: substract ( #0, number2 ) |  EOS",
    "incorrect_formula": "",
}
OFFICIAL_TEST: Row = {
    "ID": "chal-3",
    "Body": "Paco had number0 pens, number1 caps and number2 lids. How many caps more than lids?",
    "Question": "How many caps more than lids?",
    "Numbers": [26.0, 9.0],
    "Equation": "( 26.0 - 9.0 )",
    "Answer": 17.0,
    "Linear_Formula": "#0: subtract ( number1, number2 ) | EOS",
}
SRN: Row = {
    "rules": ["If Dan is young, then Dan is sad.", "If person is purple or small, then person is beautiful."],
    "fact": "Dan is tiny and cool.",
    "explanations": "#0: tiny is small #1: Dan is person #2: Dan is small  #3: Dan is beautiful ",
    "consequents": "Dan is beautiful",
}
HELM: Row = {"rules": SRN["rules"], "fact": SRN["fact"], "question": "What follows?"}
HELM |= {"consequents": ["Dan is beautiful."]}
STORY: Row = {
    "situation": "Ann is late.",
    "intention": "Ann wants to sleep.",
    "immoral_action": "Ann  stays in bed.",
    "norm": "It's good to be kind.",
    "moral_action": "Ann gets up.",
}
CRITIC: Row = {
    **STORY,
    "id": "A1",
    "norm_action": "being kind.",
    "anti_norm": "It's wrong to be kind.",
    "other_norms": ["It is right to be kind.", "It's good to be tolerant."],
    "other_anti_norms": ["It is rude to be kind."],
    "fake_norms": ["you must go to bed"],
}
FULL: Row = {**STORY, "ID": "B2", "moral_consequence": "", "immoral_consequence": ""}
ACTOR: Row = {
    "id": "A1",
    "actor_input": "<|SIT|> Ann is late. <|INT|> Ann wants to sleep. <|I_ACT|> Ann stays in bed. <|NRM|>",
    "actor_output": "It's good to be kind. <|M_ACT|> Ann gets up.",
}
OWN: Row = {"text": "Has number0 ?", "gold": "number0 | EOS", "answer": 3, "metadata": {"numbers": [3.0]}}

ROWS: dict[str, Row] = {
    "svamp-csv": CSV,
    "svamp-json": SVAMP,
    "refiner-mwp": LABELLED,
    "refiner-mwp-test": OFFICIAL_TEST,
    "refiner-srn": SRN,
    "helm-srn": HELM,
    "moral-actor": ACTOR,
    "moral-critic": CRITIC,
    "moral-full": FULL,
    "refiner-env": OWN,
}


def write(folder: Path, *rows: Any, name: str = "rows.json") -> Path:
    """The rows as a JSON array with one row on each line, from line 2."""
    path = folder / name
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
    return path


def one(folder: Path, row: Row, **changes: Any) -> Problem:
    """The problem of one row."""
    (problem,) = read_corpus(write(folder, {**row, **changes}), on_malformed="raise").problems
    return problem


def why(folder: Path, row: Mapping[str, Any]) -> str:
    """The message about a row that cannot be used."""
    path = write(folder, row)
    report = read_corpus(path).report
    assert (report.rows, report.kept, report.skipped) == (1, 0, 1)
    (message,) = report.messages
    with pytest.raises(DataError) as caught:
        read_corpus(path, on_malformed="raise")
    assert "\n" not in message and message.removesuffix("; skipped.") == str(caught.value).removesuffix(".")
    assert message.startswith(f"{path}, row 0 (line 2), ")
    return message


def repairs(problem: Problem) -> tuple[str, ...]:
    found: tuple[str, ...] = problem.metadata.get("repairs", ())
    return found


# ------------------------------------------------------------------------------------------------- containers


@pytest.mark.parametrize("name", FORMATS.names())
def test_the_format_is_told_by_the_columns(name: str, tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, ROWS[name]), on_malformed="raise")
    assert corpus.format == name
    assert corpus.task == FORMATS.resolve(name).task
    assert corpus.places == ("row 0 (line 2)",)
    assert read_corpus(tmp_path / "rows.json", name) == corpus


def as_csv(row: Row) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, row)
    writer.writeheader()
    writer.writerows([row, row])
    return text.getvalue()


@pytest.mark.parametrize("encode", ["utf-8", "utf-8-sig", "utf-16", "crlf"])
@pytest.mark.parametrize(
    "contain",
    [as_csv, lambda row: json.dumps([row, row], indent=2), lambda row: f"{json.dumps(row)}\n\n{json.dumps(row)}\n"],
    ids=["csv", "array", "lines"],
)
def test_containers_are_told_by_content(contain: Callable[[Row], str], encode: str, tmp_path: Path) -> None:
    text = contain({**CSV, "Question": "Zo\u00eb \u201chas\u201d number0 \U0001f58a and number1 ."})
    path = tmp_path / "file.without.meaning"
    path.write_bytes(
        text.replace("\r\n", "\n").replace("\n", "\r\n").encode() if encode == "crlf" else text.encode(encode)
    )
    corpus = read_corpus(path, on_malformed="raise")
    assert [p.text for p in corpus.problems] == ["Zo\u00eb \u201chas\u201d number0 \U0001f58a and number1 ."] * 2
    assert [p.uid for p in corpus.problems] == ["svamp/file.without/0", "svamp/file.without/1"]


def test_places_are_physical_lines(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(json.dumps([CSV, CSV], indent=1))
    assert read_corpus(path).places == ("row 0 (line 2)", "row 1 (line 8)")
    path.write_text(f"\n{json.dumps(CSV)}\n\n{json.dumps(CSV)}")
    assert read_corpus(path).places == ("row 0 (line 2)", "row 1 (line 4)")
    path.write_text(as_csv({**CSV, "Question": "number0\nand"}))
    assert read_corpus(path).places == ("line 3", "line 5")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[1, 2]", "holds no rows that could be read: row 0 (line 1), the row is no object but '1'"),
        (b"[]", "holds no rows that could be read: it is empty"),
        (b"[{},", "row 1 (line 1), is no JSON"),
        (b'[{"a": 1}\n{"a": 2}]', "after row 0 (line 1), ',' or ']' is missing"),
        (b'[{"a": 1}] more', "something follows the array"),
        (b'{\n"a": 1\n}', "one JSON object"),
        (b"\xff\xfea", "UTF-16"),
        (b"[" * 100_000, "is no JSON"),
        (b"a,b\n1,2\n", "the header is 'a,b'. Known: svamp-csv"),
        (b"Question,Numbers,Answer\n", "The nearest, svamp-csv, needs Equation too."),
        (b"", "holds no rows that could be read: it is empty"),
    ],
)
def test_files_that_hold_no_rows_are_refused_in_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_corpus(path)
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_bad_line_of_json_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "x"
    bad = [
        b'{"Question"',
        b"[1]",
        b'{"Question": "caf\xe9"}',
        b'{"Question": "\\ud83d"}',
        b'{"\\ud83d": 1}',
        b'{"Answer": ' + b"9" * 5000,
    ]
    path.write_bytes(b"\n".join([json.dumps(CSV).encode(), *bad, json.dumps(CSV).encode()]))
    report = read_corpus(path).report
    assert (report.rows, report.kept) == (8, 2)
    expected = ("(line 2), the row is no JSON", "(line 3), the row is no object", "(line 4), key Question", "UTF-8")
    expected += (
        "(line 5), key Question",
        "(line 6), the row has a key that is not UTF-8",
        "(line 7), the row is no JSON",
    )
    assert all(part in "\n".join(report.messages) for part in expected)


def test_a_file_of_another_format_says_what_it_looks_like(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"key Linear_Formula is missing.*It looks like svamp-json\. Expected there"):
        read_corpus(write(tmp_path, SVAMP | {"Numbers": ""}), "refiner-mwp")


def test_unknown_formats_get_the_closest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"format 'svamp_csv'. Did you mean 'svamp-csv'\?"):
        read_corpus(write(tmp_path, CSV), "svamp_csv")


def test_a_missing_file_gets_the_closest(tmp_path: Path) -> None:
    write(tmp_path, CSV, name="train.json")
    with pytest.raises(DataError, match=r"no such file. Did you mean 'train.json'\?"):
        read_corpus(tmp_path / "trian.json")


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in FORMATS.names() for key in FORMATS.resolve(name).columns]
)
def test_missing_keys_are_named(name: str, key: str, tmp_path: Path) -> None:
    row = {k: v for k, v in ROWS[name].items() if k != key}
    path = write(tmp_path, *[ROWS[name]] * 3, row)
    report = read_corpus(path, name).report
    assert report.skipped >= 1  # the stories have their own ids, so that copies of them are refused
    assert f"row 3 (line 5), key {key} is missing: the row has '{next(iter(row))}" in report.messages[-1]


def test_uids_are_unique(tmp_path: Path) -> None:
    report = read_corpus(write(tmp_path, CRITIC, CRITIC)).report
    assert report.kept == 1
    assert "row 1 (line 3), the row has the uid 'moral/A1' of an earlier row" in report.messages[0]


def test_datasets_are_read_by_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    for split, n in (("train", 3), ("test", 2)):
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(SVAMP)}\n" for _ in range(n)))
    corpus = read_corpus(f"hf:{folder}:test", on_malformed="raise")
    assert corpus.format == "svamp-json"
    assert corpus.places == ("row 0", "row 1")
    assert corpus.problems[0].gold == "#0: subtract ( number1, number0 ) | EOS"
    assert corpus.problems[0].uid == f"svamp/{folder}/test/0"
    with pytest.raises(DataError, match=r"several splits; give one as hf:.*:SPLIT, of train, test"):
        read_corpus(f"hf:{folder}")
    with pytest.raises(DataError, match="no split 'tset'"):
        read_corpus(f"hf:{folder}:tset")


def test_datasets_of_several_configurations_are_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    for config, n in (("easy", 3), ("hard", 2)):
        (folder / f"{config}.jsonl").write_text("".join(f"{json.dumps(SVAMP)}\n" for _ in range(n)))
    listed = [f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("easy", "hard")]
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(listed)}---\n")
    corpus = read_corpus(f"hf:{folder}:hard:train", on_malformed="raise")
    assert [problem.uid for problem in corpus.problems] == [f"svamp/{folder}/hard/train/{i}" for i in range(2)]
    assert len(read_corpus(f"hf:{folder}:easy:").problems) == 3
    with pytest.raises(DataError, match=r"cannot be loaded .*\['easy', 'hard'\].* give one as hf:.*:CONFIG:SPLIT"):
        read_corpus(f"hf:{folder}")
    with pytest.raises(DataError, match=r"no split 'test'; give one as hf:.*:hard:SPLIT, of train"):
        read_corpus(f"hf:{folder}:hard:test")


# --------------------------------------------------------------------------------------------------- our own


def test_our_own_format_carries_everything(tmp_path: Path) -> None:
    row = {"uid": "mine/1", "task": "MoralStories", "text": "x", "gold": "z", "answer": "y"}
    row |= {"metadata": {"a": [1, [2]]}, "gold_metadata": {"paraphrases": ["w"]}}
    corpus = read_corpus(write(tmp_path, row))
    assert corpus.task == "MoralStories"
    assert corpus.problems == (Problem("mine/1", "x", "z", "y", {"a": (1, (2,))}, {"paraphrases": ("w",)}),)


def test_the_documented_example_is_read(tmp_path: Path) -> None:
    from data import formats

    example = re.search(r"\{\"text\".*?\}\n", str(formats.__doc__), re.DOTALL)
    assert example
    problem = one(tmp_path, json.loads(example[0]))
    assert ir.execute(ir.parse(str(problem.gold)), problem.metadata["numbers"]) == problem.answer  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": " "}, "key text is ' ': it is empty"),
        ({"answer": [1]}, "key answer is '[1]': it is neither"),
        ({"answer": True}, "key answer"),
        ({"gold": 5}, "key gold is '5': it is no text"),
        ({"metadata": "{"}, "key metadata is '{': it is no JSON"),
        ({"metadata": [1]}, "key metadata is '[1]': it is no object"),
    ],
)
def test_our_own_format_names_bad_values(change: Row, said: str, tmp_path: Path) -> None:
    assert said in why(tmp_path, {**OWN, **change})


def test_gold_and_answer_may_be_null(tmp_path: Path) -> None:
    problem = one(tmp_path, OWN, gold=None, answer=None)
    assert (problem.gold, problem.answer) == (None, None)


def test_rows_of_two_tasks_are_not_mixed(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, OWN, OWN | {"task": "MoralStories"}, OWN | {"task": "MathWordProblem"}))
    assert (corpus.task, corpus.report.kept) == ("MoralStories", 2)
    assert "key task is 'MathWordProblem': an earlier row says MoralStories" in corpus.report.messages[-1]


# ----------------------------------------------------------------------------------------------- SVAMP as JSON


def test_raw_numbers_become_placeholders(tmp_path: Path) -> None:
    problem = one(tmp_path, SVAMP)
    assert problem.text == "Tom has number0 pens and number1 caps. How many more caps?"
    assert problem.metadata == {"numbers": (3.0, 1000.5)}
    assert (problem.gold, problem.answer) == ("#0: subtract ( number1, number0 ) | EOS", 997.5)


def test_equal_values_take_placeholders_in_order(tmp_path: Path) -> None:
    body = "It is 2 by 2 and made in 1990s for 7th graders."
    problem = one(tmp_path, SVAMP, Body=body, Equation="( ( 2.0 * 2.0 ) * 12.0 )", Answer="48.0")
    assert problem.text.startswith("It is number0 by number1 and made in 1990s for 7th graders.")
    assert problem.gold == "#0: multiply ( number0, number1 ) | #1: multiply ( #0, 12.0 ) | EOS"


@pytest.mark.parametrize(
    ("equation", "tokens"),
    [
        ("8.0", "8.0"),
        ("( 1.0 - 2.0 )", "- 1.0 2.0"),
        ("1 / 2", "/ 1 2"),
        ("( ( 1 + 2 ) * ( 3 - 4 ) )", "* + 1 2 - 3 4"),
        ("(1-(2/3))", "- 1 / 2 3"),
    ],
)
def test_infix_becomes_prefix(equation: str, tokens: str) -> None:
    assert infix_to_prefix(equation) == tokens.split()


@pytest.mark.parametrize(
    "equation", ["", "( 1 + 2", "1 + 2 + 3", "1 2", "( )", "1 ^ 2", "- 1", "x + 1", "(" * 200, "( 1 + 2 ) )", "9" * 400]
)
def test_broken_infix_is_a_malformed_row(equation: str, tmp_path: Path) -> None:
    assert "key Equation is " in why(tmp_path, {**SVAMP, "Equation": equation})


@pytest.mark.parametrize(
    ("change", "key"),
    [({"Body": "None.", "Question": "?"}, "Body"), ({"Answer": "many"}, "Answer"), ({"Body": 3}, "Body")],
)
def test_malformed_svamp_rows(change: Row, key: str, tmp_path: Path) -> None:
    assert f"key {key} is " in why(tmp_path, {**SVAMP, **change})


# ------------------------------------------------------------------------------------------ REFINER's math files


def test_labels_of_any_spelling_become_canonical(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, LABELLED))
    (problem,) = corpus.problems
    assert problem.text == "Tom has number0 pens , how many with number1 more and number2 lost ?"
    assert problem.gold == "#0: add ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS"
    assert problem.answer == 5.0 and problem.metadata == {"numbers": (3.0, 4.0, 2.0)}
    assert corpus.dialects == {"substract": 1, "EOS": 1}
    assert corpus.wrong_labels == ()


@pytest.mark.parametrize(
    ("label", "wrong"),
    [
        ("#0: substract ( number0, number1 ) | #1: add ( #0, number2 ) |  <END>", True),
        ("#0: substract ( +, number1 ) | #1: add ( #0, number2 ) |  <END>", True),
        ("#0: add ( number2, number0 ) | EOS", False),  # 5 by accident
    ],
)
def test_wrong_labels_are_rebuilt_from_the_equation(label: str, wrong: bool, tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, {**LABELLED, "Linear_Formula": label}))
    (problem,) = corpus.problems
    assert problem.gold == "#0: add ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS"
    assert repairs(problem) == ("rebuilt_program",)
    assert corpus.report.repairs == {"rebuilt_program": 1}
    assert corpus.wrong_labels == (("row 0 (line 2)",) if wrong else ())


def test_the_body_empty_is_left_out(tmp_path: Path) -> None:
    problem = one(tmp_path, LABELLED, Body="Empty")
    assert problem.text == LABELLED["Question"]
    assert repairs(problem) == ("empty_body",)
    assert one(tmp_path, LABELLED, Question="").text == LABELLED["Body"]


def test_numbers_of_the_official_test_are_aligned(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, OFFICIAL_TEST), on_malformed="raise")
    (problem,) = corpus.problems
    assert problem.text == OFFICIAL_TEST["Body"]
    assert math.isnan(problem.metadata["numbers"][0]) and problem.metadata["numbers"][1:] == (26.0, 9.0)
    assert repairs(problem) == ("aligned_numbers", "unknown_numbers")
    assert corpus.wrong_labels == corpus.places  # with the numbers as they stand, the label has no value
    assert corpus.dialects == {"subtract": 1, "EOS": 1}
    sound = one(
        tmp_path, OFFICIAL_TEST, Body="number0 more than number1", Linear_Formula="#0: subtract(number0,number1)"
    )
    assert repairs(sound) == ()
    assert sound.text == "number0 more than number1 How many caps more than lids?"


def test_unknown_numbers_are_looked_up_by_text(tmp_path: Path) -> None:
    test = read_corpus(write(tmp_path, OFFICIAL_TEST))
    raw = {**SVAMP, "Body": "Paco had 8 pens, 26 caps and 9 lids.", "Question": OFFICIAL_TEST["Question"]}
    raw |= {"Equation": "( 26 - 9 )", "Answer": 17}
    filled = looked_up(test, read_corpus(write(tmp_path, raw)))
    assert filled.problems[0].metadata == {
        "numbers": (8.0, 26.0, 9.0),
        "repairs": ("aligned_numbers", "looked_up_numbers"),
    }
    assert filled.report.repairs == {"aligned_numbers": 1, "looked_up_numbers": 1}
    other = read_corpus(write(tmp_path, {**raw, "Body": "Paco had 8 pens, 27 caps and 9 lids."}))
    assert looked_up(test, other).problems[0].uid == test.problems[0].uid
    assert "unknown_numbers" in repairs(looked_up(test, other).problems[0])


@pytest.mark.parametrize(
    ("body", "label", "text", "numbers"),
    [
        (
            "Groups of 18. number1 pens. How many caps more than lids?",
            "#0: divide ( number1, number0 ) | EOS",
            "Groups of number0. number1 pens. How many caps more than lids?",
            (18.0, 180.0),
        ),
        (
            "number0 pens, number1 caps, number1 lids. How many caps more than lids?",
            "#0: divide ( number2, number1 ) | EOS",
            "number0 pens, number1 caps, number2 lids. How many caps more than lids?",
            (None, 18.0, 180.0),
        ),
    ],
)
def test_placeholders_are_mended(
    body: str, label: str, text: str, numbers: tuple[float | None, ...], tmp_path: Path
) -> None:
    problem = one(
        tmp_path,
        OFFICIAL_TEST,
        Body=body,
        Linear_Formula=label,
        Equation="( 180.0 / 18.0 )",
        Numbers=[180, 18],
        Answer=10,
    )
    assert problem.text == text
    assert tuple(None if math.isnan(n) else n for n in problem.metadata["numbers"]) == numbers
    assert "mended_placeholders" in repairs(problem)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Linear_Formula": "add 1 and 2"}, "key Linear_Formula"),
        ({"Equation": "( 26.0 + 9.0 )"}, "the label has no '+'"),
        ({"Equation": "26.0"}, "the label has no '26.0'"),
        ({"Equation": "( ( 26.0 - 9.0 ) - 1.0 )"}, "the label has number1 where the equation has '-'"),
        ({"Linear_Formula": "#0: subtract ( number1, number1 ) | EOS"}, "number1 would be 26.0 and 9.0"),
        ({"Linear_Formula": "#0: subtract ( 26.0, 8.0 ) | EOS"}, "the label has 8.0 where"),
        ({"Linear_Formula": "#0: subtract ( #0, number1 ) | EOS"}, "key Equation"),
        (
            {"Body": "14 pens, number1 and number2. How many?", "Linear_Formula": "#0: subtract(number0, number1)"},
            "number0",
        ),
        ({"Linear_Formula": "#0: subtract ( number7, number1 ) | EOS"}, "number7 of the label does not stand in it"),
        ({"Numbers": []}, "key Numbers is '[]': there are no numbers"),
        ({"Numbers": [1, None]}, "'null' is no finite number"),
        ({"Numbers": {"a": 1}}, "it is no list of numbers"),
    ],
)
def test_malformed_official_test_rows(change: Row, said: str, tmp_path: Path) -> None:
    assert said in why(tmp_path, {**OFFICIAL_TEST, **change})


# --------------------------------------------------------------------------------------------------- reasoning


def test_reasoning_rows(tmp_path: Path) -> None:
    problem = one(tmp_path, SRN)
    assert problem.text == (
        "If Dan is young, then Dan is sad. If person is purple or small, then person is beautiful. "
        "Dan is tiny and cool."
    )
    assert problem.gold == "#0: tiny is small #1: Dan is person #2: Dan is small #3: Dan is beautiful"
    assert (problem.answer, problem.metadata, problem.gold_metadata) == ("Dan is beautiful", {}, {})


def test_nothing_follows(tmp_path: Path) -> None:
    problem = one(
        tmp_path, SRN, fact="Dan is cool.", explanations="#0: The argument is invalid!! ", consequents="Nothing"
    )
    assert (problem.gold, problem.answer, problem.metadata) == ("#0: The argument is invalid!!", "Nothing", {})


@pytest.mark.parametrize(
    ("steps", "repair"),
    [
        ("#0: Dan is person #1: tiny is small #2: Dan is beautiful", ()),
        ("#0: tiny is smalltiny is small #1: Dan is person #2: Dan is beautiful", ("glued_steps",)),
        ("no steps at all", ("glued_steps",)),
        ("#0: tiny is small #1: Dan is small #2: Dan is beautiful", ("derived_steps",)),
        ("#0: Dan is sad", ("derived_steps",)),
    ],
)
def test_steps_are_kept_where_they_are_sound(steps: str, repair: tuple[str, ...], tmp_path: Path) -> None:
    problem = one(tmp_path, SRN, explanations=steps)
    derived = "#0: tiny is small #1: Dan is person #2: Dan is small #3: Dan is beautiful"
    assert problem.gold == (derived if repair else steps) and repairs(problem) == repair


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"explanations": 3}, "key explanations"),
        ({"rules": "If Dan"}, "key rules"),
        ({"rules": ["If Dan", 3]}, "it is no list of texts"),
        ({"rules": [SRN["rules"][0], "If Dan."]}, "key rules is 'If Dan.': it is no `If X is A, then X is B.`"),
        ({"fact": "Who knows?"}, "or the fact no `X is A and B.`"),
        ({"consequents": 1}, "key consequents"),
        ({"consequents": ["a", "b"]}, "one text is expected"),
    ],
)
def test_malformed_reasoning_rows(change: Row, said: str, tmp_path: Path) -> None:
    assert said in why(tmp_path, {**SRN, **change})


def test_an_answer_that_does_not_follow_is_a_disagreement(tmp_path: Path) -> None:
    path = write(tmp_path, {**SRN, "consequents": "Dan is sad"})
    report = read_corpus(path).report
    assert (report.kept, report.disagreements) == (1, 1)
    assert "'Dan is beautiful' follows, the stated answer is 'Dan is sad'; kept." in report.messages[0]
    assert read_corpus(path, on_disagreement="drop").problems == ()


def test_steps_of_helm_rows_are_derived(tmp_path: Path) -> None:
    problem = one(tmp_path, HELM)
    assert (problem.gold, problem.answer) == (one(tmp_path, SRN).gold, "Dan is beautiful")
    assert repairs(problem) == ("no_steps",)
    for nothing in ([], ["Nothing."], ["Nothing can be determined."]):
        assert one(tmp_path, HELM, fact="Dan is cool.", consequents=nothing).answer == "Nothing"


# ----------------------------------------------------------------------------------------------- moral stories

TEXT = "<|SIT|> Ann is late. <|INT|> Ann wants to sleep. <|I_ACT|> Ann stays in bed. <|NRM|>"
GOLD = "It's good to be kind. <|M_ACT|> Ann gets up."


@pytest.mark.parametrize(("row", "uid"), [(ACTOR, "moral/A1"), (CRITIC, "moral/A1"), (FULL, "moral/B2")])
def test_stories_read_the_same_from_every_file(row: Row, uid: str, tmp_path: Path) -> None:
    problem = one(tmp_path, row)
    assert (problem.uid, problem.text, problem.gold, problem.answer) == (uid, TEXT, GOLD, "Ann gets up.")


def test_norms_are_sorted_by_what_they_say(tmp_path: Path) -> None:
    problem = one(tmp_path, CRITIC)
    assert problem.gold_metadata == {
        "paraphrases": ("It is right to be kind.",),
        "contradictions": ("It's wrong to be kind.", "It is rude to be kind."),
        "misaligned": ("you must go to bed",),
    }
    assert problem.metadata == {"repairs": ("swapped_words",)}


def test_a_text_under_two_labels_is_dropped_from_both(tmp_path: Path) -> None:
    problem = one(
        tmp_path,
        CRITIC,
        anti_norm="It's good to be kind",  # gold but for the dot
        other_norms=["It is right to be kind.", "It is proper to be kind."],
        other_anti_norms=["it is right to be kind", "It is rude to be kind."],
        fake_norms=["It is rude to be kind.", "you must go", "You must go."],
    )
    assert problem.gold_metadata == {
        "paraphrases": ("It is proper to be kind.",),
        "contradictions": (),
        "misaligned": ("you must go",),
    }
    assert repairs(problem) == ("contradictory",)


def test_gold_is_none_of_its_paraphrases(tmp_path: Path) -> None:
    problem = one(tmp_path, CRITIC, other_norms=["it's good to be kind!", "It is right to be kind."])
    assert problem.gold_metadata["paraphrases"] == ("It is right to be kind.",)
    assert repairs(problem) == ()


def test_underscores_are_blanks(tmp_path: Path) -> None:
    problem = one(
        tmp_path, CRITIC, norm="It's all right to go.", other_norms=["It is all_right to go."], anti_norm=None
    )
    assert problem.gold_metadata["paraphrases"] == ("It is all right to go.",)
    assert repairs(problem) == ("underscores", "swapped_words")


@pytest.mark.parametrize(
    ("row", "change", "said"),
    [
        (ACTOR, {"actor_input": "<|SIT|> a <|INT|> b <|NRM|>"}, "key actor_input"),
        (ACTOR, {"actor_output": "a norm"}, "key actor_output"),
        (CRITIC, {"norm": ""}, "key norm is '': it is empty"),
        (CRITIC, {"other_norms": None}, "key other_norms is 'null'"),
        (FULL, {"intention": 3}, "key intention"),
    ],
)
def test_malformed_stories(row: Row, change: Row, said: str, tmp_path: Path) -> None:
    assert said in why(tmp_path, {**row, **change})


# ---------------------------------------------------------------------------------------------- the real files


def executes(corpus: Corpus) -> int:
    """Problems whose gold gives their answer."""
    values = (ir.execute(ir.parse(str(p.gold)), p.metadata["numbers"]) for p in corpus.problems)  # type: ignore[arg-type]
    return sum(v == pytest.approx(p.answer, rel=1e-9, abs=1e-6) for v, p in zip(values, corpus.problems, strict=True))


@pytest.mark.parametrize(
    ("file", "format", "rows", "right", "wrong_labels", "flags"),
    [
        ("svamp/train.csv", "svamp-csv", 3138, 3132, 6, {"rounded_answer": 12}),
        ("svamp/dev.csv", "svamp-csv", 1000, 1000, 0, {}),
        ("svamp/SVAMP.json", "svamp-json", 1000, 999, 1, {}),
        ("refiner/mwp/critique_train.json", "refiner-mwp", 3099, 3093, 6, {"rounded_answer": 10, "empty_body": 7}),
        ("refiner/mwp/critique_val.json", "refiner-mwp", 1000, 1000, 168, {"rebuilt_program": 169}),
        (
            "refiner/mwp/critique_test.json",
            "refiner-mwp-test",
            999,
            998,
            573,
            {"aligned_numbers": 693, "unknown_numbers": 444, "mended_placeholders": 24},
        ),
    ],
)
def test_math_files(
    file: str, format: str, rows: int, right: int, wrong_labels: int, flags: dict[str, int], corpora: Path
) -> None:
    corpus = read_corpus(corpora / file, on_malformed="raise")
    assert (corpus.format, corpus.report.kept, executes(corpus)) == (format, rows, right)
    assert (len(corpus.wrong_labels), corpus.report.repairs) == (wrong_labels, flags)
    assert corpus.report.disagreements == rows - right


def test_spellings_of_the_official_labels(corpora: Path) -> None:
    found = {
        part: read_corpus(corpora / f"refiner/mwp/critique_{part}.json").dialects for part in ("train", "val", "test")
    }
    assert found == {
        "train": {"substract": 1286, "EOS": 3099},
        "val": {"substract": 571, "<END>": 1000},
        "test": {"subtract": 568, "EOS": 999},
    }


def test_the_official_test_file_is_svamp(corpora: Path) -> None:
    """Its texts, once mended, are those of the original, row by row, and no number contradicts it."""
    test = read_corpus(corpora / "refiner/mwp/critique_test.json")
    original = {text_key(p): p for p in read_corpus(corpora / "svamp/SVAMP.json").problems}
    assert all(text_key(p) in original for p in test.problems)
    filled = looked_up(test, read_corpus(corpora / "svamp/SVAMP.json"))
    assert filled.report.repairs["looked_up_numbers"] == 444 and "unknown_numbers" not in filled.report.repairs
    assert executes(filled) == 998
    for problem in filled.problems:
        assert problem.metadata["numbers"] == original[text_key(problem)].metadata["numbers"]


@pytest.mark.parametrize(
    ("part", "rows", "glued", "lacking", "nothing"),
    [("train", 1000, 8, 8, 170), ("val", 5000, 32, 20, 904), ("test", 5000, 45, 20, 836)],
)
def test_reasoning_files(part: str, rows: int, glued: int, lacking: int, nothing: int, corpora: Path) -> None:
    path = corpora / f"refiner/srn/srn_{part}.json"
    corpus, task = read_corpus(path, on_malformed="raise"), SyntheticReasoning()
    assert (corpus.report.kept, corpus.report.disagreements) == (rows, 0)
    assert corpus.report.repairs == {"glued_steps": glued, "derived_steps": lacking}
    assert sum(p.answer == "Nothing" for p in corpus.problems) == nothing
    texts = [" ".join([*row["rules"], row["fact"]]) for row in json.loads(path.read_text(encoding="utf-8"))]
    assert [p.text for p in corpus.problems] == texts
    assert all(task.score(p, p.gold or "") == Scores(True, True, True, 1.0) for p in corpus.problems)


def test_moral_files(corpora: Path) -> None:
    folder = corpora / "refiner/moral_stories"
    actor, critic = (
        read_corpus(folder / f"{name}.json", on_malformed="raise") for name in ("actor_dev", "critic_dev_prep")
    )
    assert [(p.uid, p.text, p.gold) for p in actor.problems] == [(p.uid, p.text, p.gold) for p in critic.problems]
    # 18 stories have a text under two labels letter by letter, and one has gold without its dot.
    assert critic.report.repairs == {"contradictory": 19, "underscores": 46, "swapped_words": 519}
    rows = json.loads((folder / "critic_dev_prep.json").read_text(encoding="utf-8"))
    verbatim = sum(bool({r["norm"], *r["other_norms"]} & {r["anti_norm"], *r["other_anti_norms"]}) for r in rows)
    assert verbatim == 18
    for problem in critic.problems:
        hidden = problem.gold_metadata
        texts = [str(problem.gold).partition(" <|M_ACT|>")[0], *(t for name in hidden for t in hidden[name])]
        keys = [re.sub(r"\W+", " ", t.casefold()).strip() for t in texts]
        assert not [key for key, n in Counter(keys).items() if n > 1], problem.uid
        assert not any("_" in text for text in texts)
    counts = {name: sum(len(p.gold_metadata[name]) for p in critic.problems) for name in hidden}
    assert counts == {"paraphrases": 3106, "contradictions": 4167, "misaligned": 5936}
    assert not any("erstwhile" in t for p in critic.problems for t in p.gold_metadata["paraphrases"])


# ------------------------------------------------------------------------------------ gold that can be used


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gold": "x"}, "key gold is 'x': expected #0:"),
        ({"metadata": {}}, "cannot be used: Problem"),
        ({"metadata": {"numbers": 7}}, "key numbers is '7': it is no list of numbers"),
        ({"metadata": {"numbers": ["three", 4]}}, "'three' is no finite number"),
        ({"metadata": {"repairs": 5}}, "key repairs is '5': it is no list of texts"),
        ({"gold_metadata": {"paraphrases": "It is wrong."}}, "key paraphrases"),
        ({"answer": 10**400}, "key answer"),
        ({"task": "mathwordproblm"}, "Did you mean 'MathWordProblem'"),
    ],
)
def test_what_its_task_cannot_use_is_named(change: Row, said: str, tmp_path: Path) -> None:
    row = {**OWN, "task": "mwp", **change}
    assert said in why(tmp_path, row), row


def test_a_short_name_of_a_task_and_an_answer_as_text(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, {**OWN, "task": "mwp", "answer": str(OWN["answer"])}))
    assert corpus.task == "MathWordProblem" and corpus.problems[0].answer == float(OWN["answer"])


def test_gold_that_gives_another_answer_is_a_disagreement(tmp_path: Path) -> None:
    report = read_corpus(write(tmp_path, {**OWN, "task": "mwp", "answer": 99})).report
    assert report.disagreements == 1 and "gold does not give the stated answer 99.0; kept" in report.messages[0]


def test_a_world_that_steps_cannot_spell_is_malformed(tmp_path: Path) -> None:
    row = {**HELM, "rules": ["If Dan is a1, then Dan is b2."], "fact": "Dan is a1.", "consequents": ["Dan is b2."]}
    assert "key rules" in why(tmp_path, row)
