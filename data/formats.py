"""Every format that can be read, by name, and the one function that reads them all.

    corpus = read_corpus("critique_val.json")                # the format is told by the columns
    corpus = read_corpus("hf:ChilleD/SVAMP:test")            # a dataset of the hub, or a folder that `datasets` reads
    corpus.format, corpus.problems[0].gold, corpus.report.repairs

A corpus of your own, as `refiner-env`: JSON lines, a JSON array or a dataset, in which each row is a problem.
`uid`, `task`, `metadata` and `gold_metadata` may be left out; `gold` and `answer` may be null. Runs of white space in
texts become single blanks. A math word problem needs the values behind its placeholders, so its line is

    {"text": "Tom has number0 pens and buys number1 more. How many has he?",
     "gold": "#0: add ( number0, number1 ) | EOS", "answer": 7.0,
     "metadata": {"numbers": [3.0, 4.0]}, "task": "MathWordProblem"}
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from data import moral_formats, mwp_formats, srn_formats
from data.corpus import Audit, Corpus
from data.tables import (
    HUB,
    Cells,
    MalformedError,
    Reading,
    Table,
    number_of,
    numbers_of,
    open_table,
    short,
    text_of,
    texts_of,
)
from refiner_env.errors import DataError, RefinerError, UnknownNameError
from refiner_env.records import frozen
from refiner_env.registry import Registry
from refiner_env.tasks import TASKS, MathWordProblem, MoralStories, SyntheticReasoning, resolve_task
from refiner_env.types import ParseFailure, Problem

OnMalformed = Literal["skip", "raise"]
OnDisagreement = Literal["keep", "drop"]
_DONE = {"keep": "kept", "drop": "dropped"}
MATH, REASONING, MORAL = MathWordProblem.name, SyntheticReasoning.name, MoralStories.name


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write problems in rows."""

    name: str
    task: str
    """The task that its problems belong to; "" where each row says."""
    columns: tuple[str, ...]
    """Columns or keys that every row has. The format with the most of them is taken where several fit."""
    read: Callable[[Cells, str], Reading]
    """(row with all columns, uid) -> what it became. Raises MalformedError."""
    prefix: str
    """Uids are `<prefix>/<file stem>/<row>`, unless the rows have their own."""
    where: str = ""
    """What to put where, for the message about a missing file."""


def _own(row: Cells, uid: str) -> Reading:
    """A row in our own format."""
    answer = row["answer"]
    if isinstance(answer, bool) or not isinstance(answer, str | int | float | None):
        raise MalformedError.cell("answer", answer, "it is neither a text nor a number")
    gold = text_of(row, "gold") if row["gold"] is not None else None
    metadata = [_mapping(row, key) for key in ("metadata", "gold_metadata")]
    uid = text_of(row, "uid") if row.get("uid") else uid
    if isinstance(answer, int | float) or (isinstance(answer, str) and "numbers" in metadata[0]):
        answer = number_of(row, "answer")
    task = text_of(row, "task") if row.get("task") else ""
    if task:
        try:
            task = resolve_task(task).name
        except RefinerError as error:
            raise MalformedError.cell("task", task, str(error)) from None
    return Reading(Problem(uid, text_of(row, "text"), gold, answer, *metadata), task=task)


def _mapping(row: Cells, key: str) -> dict[str, Any]:
    """Metadata: an object, or its JSON text (as CSV files and saved tables have it)."""
    value = row.get(key) or {}
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise MalformedError.cell(key, value, "it is no JSON") from None
    if not isinstance(value, Mapping):
        raise MalformedError.cell(key, value, "it is no object")
    read: dict[str, Any] = {name: frozen(item) for name, item in value.items()}
    for name in _LISTS & set(value):
        read[name] = numbers_of(value, name) if name == "numbers" else texts_of(value, name)
    return read


_LISTS = {"numbers", "repairs", "paraphrases", "contradictions", "misaligned"}
"""Metadata that tasks rely on: a list of numbers, and lists of texts."""


_MWP = ("ID", "Body", "Question", "Numbers", "Equation", "Answer", "Linear_Formula")
_SVAMP_FILES = (
    "Expected there: train.csv (MAWPS + ASDiv-A) and dev.csv (SVAMP) of github.com/arkilpatel/SVAMP, "
    "folder data/mawps-asdiv-a_svamp; put them into $REFINER_DATA/svamp/."
)
_REFINER_FILES = "Expected there: {} of github.com/debjitpaul/refiner, folder data; put them into $REFINER_DATA/{}/."
_MWP_FILES = _REFINER_FILES.format("critique_train.json and critique_test.json", "refiner/mwp")
_SRN_FILES = _REFINER_FILES.format("srn_train.json, srn_val.json and srn_test.json", "refiner/srn")
_MORAL_FILES = _REFINER_FILES.format("critic_dev_prep.json", "refiner/moral_stories")

FORMATS: Registry[Format] = Registry("format")
for _format in (
    Format(
        "svamp-csv",
        MATH,
        ("Question", "Numbers", "Equation", "Answer"),
        mwp_formats.svamp_csv,
        "svamp",
        _SVAMP_FILES,
    ),
    Format(
        "svamp-json", MATH, ("ID", "Body", "Question", "Equation", "Answer", "Type"), mwp_formats.svamp_json, "svamp"
    ),
    Format("refiner-mwp", MATH, (*_MWP, "incorrect_formula"), mwp_formats.refiner_mwp, "refiner-mwp", _MWP_FILES),
    Format("refiner-mwp-test", MATH, _MWP, mwp_formats.refiner_mwp_test, "refiner-mwp", _MWP_FILES),
    Format(
        "refiner-srn",
        REASONING,
        ("rules", "fact", "consequents", "explanations"),
        srn_formats.refiner_srn,
        "snlr",
        _SRN_FILES,
    ),
    Format("helm-srn", REASONING, ("rules", "fact", "question", "consequents"), srn_formats.helm_srn, "snlr"),
    Format("moral-actor", MORAL, ("actor_input", "actor_output"), moral_formats.moral_actor, "moral"),
    Format(
        "moral-critic",
        MORAL,
        (*moral_formats.STORY, "anti_norm", "other_norms", "other_anti_norms", "fake_norms"),
        moral_formats.moral_critic,
        "moral",
        _MORAL_FILES,
    ),
    Format("moral-full", MORAL, ("ID", *moral_formats.STORY), moral_formats.moral_full, "moral"),
    Format("refiner-env", "", ("text", "gold", "answer"), _own, "own"),
):
    FORMATS.register(_format.name, _format)


def read_corpus(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    on_malformed: OnMalformed = "skip",
    on_disagreement: OnDisagreement = "keep",
) -> Corpus:
    """Read one file, or the dataset split that `hf:ID[[:CONFIG]:SPLIT]` names.

    What had to be mended is flagged in `metadata["repairs"]`; an answer that is only a rounding of what an equation
    gives becomes that value. Lines in messages are physical lines.

    Args:
        format: one of FORMATS; None to tell it by the columns.
        on_malformed: rows that cannot be read are skipped and counted, or raised.
        on_disagreement: rows whose gold gives another answer are kept with the stated one, or dropped.

    Raises:
        DataError: the file is missing, unreadable or of another format; or a malformed row, if asked for.
        UnknownNameError: no such format or policy.
    """
    for name, value, known in (
        ("on_malformed", on_malformed, get_args(OnMalformed)),
        ("on_disagreement", on_disagreement, get_args(OnDisagreement)),
    ):
        if value not in known:
            raise UnknownNameError(f"value of {name}", value, known)
    asked = _resolve(format) if format is not None else None
    table = open_table(path, asked.where if asked else "")
    chosen = recognise(table, asked)
    stem = table.name.removeprefix(HUB).replace(":", "/") if table.name.startswith(HUB) else Path(table.name).stem
    problems: list[Problem] = []
    places: list[str] = []
    messages: list[str] = []
    dialects: Counter[str] = Counter()
    uids: set[str] = set()
    tasks = {chosen.task} - {""}
    wrong_labels: list[str] = []
    disagreements = 0
    for index, row in enumerate(table.rows):
        try:
            if isinstance(row.cells, MalformedError):
                raise row.cells
            if missing := [column for column in chosen.columns if column not in row.cells]:
                raise MalformedError(missing[0], f"is missing: the row has {short(', '.join(row.cells))}")
            reading = chosen.read(row.cells, f"{chosen.prefix}/{stem}/{index}")
            if reading.problem.uid in uids:
                raise MalformedError("", f"has the uid {reading.problem.uid!r} of an earlier row")
            if len(tasks | {reading.task} - {""}) > 1:
                raise MalformedError.cell("task", reading.task, f"an earlier row says {', '.join(tasks)}")
            reading = _with_usable_gold(reading, chosen.task or reading.task)
        except MalformedError as error:
            told = f"{table.name}, {row.place}, {error.told(table.noun)}"
            if on_malformed == "raise":
                raise DataError(f"{told}.") from None
            messages.append(f"{told}; skipped.")
            continue
        uids.add(reading.problem.uid)
        tasks |= {reading.task} - {""}
        dialects.update(reading.dialects)
        if reading.wrong_label:
            wrong_labels.append(row.place)
        if reading.disagreement:
            disagreements += 1
            messages.append(f"{table.name}, {row.place}, {reading.disagreement}; {_DONE[on_disagreement]}.")
        if not reading.disagreement or on_disagreement == "keep":
            problems.append(reading.problem)
            places.append(row.place)
    rows = len(table.rows)
    repairs = Counter(kind for p in problems for kind in p.metadata.get("repairs", ()))
    report = Audit(rows, len(problems), rows - len(problems), disagreements, dict(repairs), tuple(messages))
    task = next(iter(tasks), "")
    return Corpus(tuple(problems), report, chosen.name, task, tuple(places), tuple(wrong_labels), dict(dialects))


def _with_usable_gold(reading: Reading, task_name: str) -> Reading:
    """The reading, if its task can use its gold; with a disagreement where gold's answer is not the stated one."""
    problem = reading.problem
    if task_name not in TASKS.names() or problem.gold is None:
        return reading
    task = TASKS.resolve(task_name)()
    if isinstance(failure := task.parse(problem.gold), ParseFailure):
        raise MalformedError.cell("gold", problem.gold, failure.message)
    try:
        scores = task.score(problem, problem.gold)
    except RefinerError as error:
        raise MalformedError("", f"cannot be used: {error}") from None
    if not scores.ir_equivalent:
        raise MalformedError.cell("gold", problem.gold, "its own task does not find it right")
    if scores.answer or reading.disagreement:
        return reading
    return replace(reading, disagreement=f"gold does not give the stated answer {problem.answer!r}")


def recognise(table: Table, asked: Format | None = None) -> Format:
    """The format of a table: the one asked for, or else the one with the most columns of those that fit.

    Raises:
        DataError: it has not the columns of the format asked for, or of any.
    """
    have = set(table.columns)
    if not have and not asked:
        first = next((row.cells for row in table.rows if isinstance(row.cells, MalformedError)), None)
        why = f"{table.rows[0].place}, {first.told(table.noun)}" if first else "it is empty"
        raise DataError(f"{table.name} holds no rows that could be read: {why}.")
    formats = [FORMATS.resolve(name) for name in FORMATS.names()]
    fitting = max((f for f in formats if have >= set(f.columns)), key=lambda f: len(f.columns), default=None)
    if asked is None and fitting:
        return fitting
    if asked and have >= set(asked.columns):
        return asked
    place = ", line 1" if table.noun == "column" and not table.name.startswith(HUB) else ""
    found = f"the header is {','.join(table.columns)!r}" if place else f"it has {', '.join(table.columns)!r}"
    if asked:
        missing = next(column for column in asked.columns if column not in have)
        looks = f" It looks like {fitting.name}." if fitting else ""
        told = f"{table.name}{place}, {table.noun} {missing} is missing: {found}.{looks} {asked.where}"
        raise DataError(told.rstrip())
    near = max(formats, key=lambda f: len(have & set(f.columns)) / len(f.columns))
    lacking = ", ".join(column for column in near.columns if column not in have)
    nearest = f" The nearest, {near.name}, needs {lacking} too." if have & set(near.columns) else ""
    raise DataError(
        f"{table.name}{place} is in none of the known formats: {found}.{nearest} Known: {', '.join(FORMATS.names())}."
    )


def _resolve(name: str) -> Format:
    if name not in FORMATS.names():
        raise UnknownNameError(FORMATS.kind, name, FORMATS.names())
    return FORMATS.resolve(name)
