"""`refiner data audit`: every defect is counted and placed, and shared texts are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.audit import audit_files
from refiner_env.cli import main

HEADER = "Question,Numbers,Equation,Answer"
GOOD = "Tom has number0 pens and finds number1 .,3 4.5,+ number0 number1,7.5"


def write(folder: Path, name: str, *lines: str) -> str:
    path = folder / name
    path.write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    return str(path)


def label(text: str, body: str) -> dict[str, str]:
    row = {"ID": "1", "Body": body, "Question": "?", "Numbers": "3 4", "Equation": "- number0 number1", "Answer": "-1"}
    return {**row, "Linear_Formula": text, "incorrect_formula": ""}


def test_every_finding_is_counted_and_placed(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.csv",
        GOOD,
        GOOD.replace("pens", "PENS"),
        "no number4 ?,3,number0,3",
        "number0 by number1 ?,10 3,/ number0 number1,3.33",
        "number0 off ?,10 3,number0,4",
    )
    audit = audit_files([path])
    (file,) = audit.files
    assert (file.path, file.format, file.task, file.rows, file.kept) == (path, "svamp-csv", "MathWordProblem", 5, 4)
    assert (file.duplicates, file.wrong_labels, file.disagreements, file.unreadable) == (1, 1, 1, 1)
    assert file.repairs == {"rounded_answer": 1}
    assert file.examples == {
        "duplicates": ("line 3 as line 2",),
        "wrong_labels": ("line 6",),
        "rounded_answer": ("line 5",),
    }
    assert ["line 4, column Question" in file.messages[0], "line 6, equation" in file.messages[1]] == [True, True]
    assert not audit.clean


def test_a_file_without_findings_is_clean(tmp_path: Path) -> None:
    assert audit_files([write(tmp_path, "a.csv", GOOD)]).clean


@pytest.mark.parametrize(
    ("text", "spellings", "clean"),
    [
        ("#0: subtract ( number0, number1 ) | EOS", {"subtract": 1, "EOS": 1}, True),
        ("#0: substract ( number0, number1 ) | EOS", {"substract": 1, "EOS": 1}, False),
        ("#0: subtract ( number0, number1 ) | <END>", {"subtract": 1, "<END>": 1}, False),
        ("#0: subtract ( number0, number1 )", {"subtract": 1, "no end mark": 1}, False),
    ],
)
def test_spellings_are_counted(text: str, spellings: dict[str, int], clean: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([label(text, "number0 and number1")]))
    audit = audit_files([path])
    assert (audit.files[0].dialects, audit.clean) == (spellings, clean)


def test_shared_texts_are_found_between_every_two_files(tmp_path: Path) -> None:
    rows = [GOOD.replace("pens", word) for word in ("pens", "caps", "lids", "cups")]
    a, b, c = (
        write(tmp_path, name, *part) for name, part in (("a.csv", rows[:3]), ("b.csv", rows[2:]), ("c.csv", rows[:2]))
    )
    audit = audit_files([a, b, c])
    assert [(o.first, o.second, o.texts, o.share) for o in audit.overlaps] == [(a, b, 1, 0.5), (a, c, 2, 1.0)]
    assert audit.overlaps[0].examples == ("line 4 and line 2: Tom has number0 lids and finds number1 .",)
    assert not audit.clean and all(file.clean for file in audit.files)
    assert all("are the same set" in o.warning for o in audit.overlaps)
    more = [GOOD.replace("pens", f"thing{i}") for i in range(3)]
    (some,) = audit_files([write(tmp_path, "f.csv", *rows[:3]), write(tmp_path, "g.csv", rows[0], *more)]).overlaps
    assert some.warning.endswith("f.csv and " + some.second.split("/")[-2] + "/g.csv share 1 text.")


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path, "a.csv", GOOD, "x,y,z,1"), write(tmp_path, "b.csv", GOOD)
    out = tmp_path / "audit.json"
    assert main(["data", "audit", a, b, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for part in ("svamp-csv", "same set of problems", "line 3, column Numbers", "1 text", "line 2 and line 2"):
        assert part in printed, part
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["clean"] is False
    assert [file["unreadable"] for file in record["files"]] == [1, 0]
    assert record["overlaps"][0]["texts"] == 1 and "same set" in record["overlaps"][0]["warning"]


def test_strict_exits_with_1_where_something_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path, "a.csv", GOOD)
    assert main(["data", "audit", a, "--strict"]) == 0
    assert "Nothing was found." in capsys.readouterr().out
    assert main(["data", "audit", a, write(tmp_path, "b.csv", GOOD), "--strict"]) == 1
    assert "Nothing was found." not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["audti"], "Unknown command of refiner data 'audti'. Did you mean 'audit'?"),
        (["audit", "{}/a.cvs"], "Did you mean 'a.csv'?"),
        (["audit", "{}"], "cannot be read"),
        (["audit", "{}/a.csv", "--out", "{}/no/where.json"], "The audit cannot be written to"),
    ],
)
def test_errors_are_one_line(argv: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.csv", GOOD)
    assert main(["data", *(part.format(tmp_path) for part in argv)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_official_validation_file_is_the_test_set(corpora: Path) -> None:
    train, val, test = (corpora / f"refiner/mwp/critique_{part}.json" for part in ("train", "val", "test"))
    dev = corpora / "svamp/dev.csv"
    audit = audit_files([train, val, test, dev])
    assert {(Path(o.first).name, Path(o.second).name): o.texts for o in audit.overlaps} == {
        ("critique_val.json", "critique_test.json"): 950,
        ("critique_val.json", "dev.csv"): 1000,
        ("critique_test.json", "dev.csv"): 950,
    }
    assert audit.overlaps[0].warning == (
        "mwp/critique_val.json and mwp/critique_test.json are the same set of problems: 950 texts stand in both, "
        "95% of the smaller. Whatever is chosen on one must not be reported on the other."
    )
    assert [file.duplicates for file in audit.files] == [670, 0, 0, 0]
    assert [file.wrong_labels for file in audit.files] == [6, 168, 573, 0]
    assert [file.clean for file in audit.files] == [False, False, False, True]


def test_the_official_reasoning_files_share_nothing(corpora: Path) -> None:
    audit = audit_files([corpora / f"refiner/srn/srn_{part}.json" for part in ("train", "val", "test")])
    assert audit.overlaps == ()
    assert [file.repairs for file in audit.files] == [
        {"glued_steps": glued, "derived_steps": lacking} for glued, lacking in ((8, 8), (32, 20), (45, 20))
    ]
    assert [file.duplicates for file in audit.files] == [0, 0, 0]
