"""The procedural stories: pure, well-formed, varied, and their gold answers their questions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from refiner_env.tasks import stories
from refiner_env.tasks.program import OPERATORS, Number, Program, StepRef, execute, parse, render
from refiner_env.tasks.stories import DISTRACTORS, LEVELS, SCHEMAS, WORDS, Level, Schema, story
from refiner_env.types import Problem

PROBLEMS = [story(7, i) for i in range(3_000)]
HARD = [story(7, i, "hard") for i in range(1_000)]
at_levels = pytest.mark.parametrize("problems", [PROBLEMS, HARD], ids=["medium", "hard"])
CASES = [
    (schema, telling, question) for schema in SCHEMAS for telling in schema.tellings for question in schema.questions
]
SLOT = re.compile(r"\{(\w+)\}")
OPERATIONS = {"+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__}
CLAUSES = [  # (kind, what any filling of the sentence looks like)
    (
        kind,
        re.compile(
            SLOT.sub(
                lambda m: r"(number\d+)" if m[1] == "extra" else r"[^.]+?",
                re.escape(t).replace(r"\{", "{").replace(r"\}", "}"),
            )
        ),
    )
    for kind, templates in DISTRACTORS.items()
    for t in templates
]


def gold(problem: Problem) -> Program:
    program = parse(problem.gold or "")
    assert isinstance(program, Program), problem
    return program


def distractors(problem: Problem) -> list[tuple[str, str]]:
    """(kind, placeholder) of every distractor."""
    sentences = problem.text.split(". ")
    found = [(kind, clause.fullmatch(f"{s}.")) for s in sentences for kind, clause in CLAUSES]
    return [(kind, match[1]) for kind, match in found if match]


def only(monkeypatch: pytest.MonkeyPatch, schema: Schema, distracting: float = 0.0) -> None:
    """Leave one schema, whose questions all have the same number of steps."""
    monkeypatch.setattr(stories, "SCHEMAS", (schema,))
    monkeypatch.setitem(LEVELS, "medium", Level({schema.questions[0][0].count(";") + 1: 1.0}, distracting, 0.25))


# ------------------------------------------------------------------------------------------- pure function


def test_pure_in_seed_and_index() -> None:
    assert [story(7, i) for i in range(100)] == PROBLEMS[:100]
    assert story(8, 0).text != story(7, 0).text
    assert len({problem.uid for problem in PROBLEMS}) == len(PROBLEMS)


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_pure_across_processes(hash_seed: str) -> None:
    code = "from refiner_env.tasks.stories import story; print([story(7, i) for i in range(100)])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == repr(PROBLEMS[:100])


# ------------------------------------------------------------------------------------------- the table


def test_enough_of_everything() -> None:
    assert 16 <= len(SCHEMAS) == len({schema.name for schema in SCHEMAS})
    assert len({*WORDS["she"], *WORDS["he"]}) >= 40
    assert len({*WORDS["goods"], *WORDS["food"]}) >= 40
    assert not {*WORDS["she"]} & {*WORDS["he"]}


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_schema_is_consistent(schema: Schema) -> None:
    roles_told = [[slot for slot in SLOT.findall(telling) if slot in schema.roles] for telling in schema.tellings]
    told = set(roles_told[0])
    assert len(set(schema.tellings)) >= 3
    assert all(set(roles) == told and len(roles) == len(told) for roles in roles_told)
    assert len({tuple(roles) for roles in roles_told}) > 1, "all tellings have the same order"
    assert all("{A}" in telling for telling in schema.tellings), "distractors speak of {A}"
    assert schema.clashes <= set(DISTRACTORS)

    asked: set[str] = set()
    for program, question in schema.questions:
        here = {slot for slot in SLOT.findall(question) if slot in schema.roles}
        assert not here & told, "a number would stand twice"
        asked |= here
        used = set(re.findall(r"[a-z]\w*", program))
        assert here <= used <= told | here
        references = re.findall(r"#(\d)", program)
        assert sorted(set(references)) == [str(k) for k in range(program.count(";"))], "a step is not used"
    assert told | asked == set(schema.roles), "a role is never mentioned"


@pytest.mark.parametrize(
    ("schema", "telling", "question"), CASES, ids=[f"{s.name}-{i}" for i, (s, _, _) in enumerate(CASES)]
)
def test_gold_computes_what_the_table_says(
    schema: Schema, telling: str, question: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An independent evaluation over role names; it also shows that values are found for every question."""
    only(monkeypatch, replace(schema, tellings=(telling,), questions=(question,)))
    roles = [slot for slot in SLOT.findall(f"{telling} {question[1]}") if slot in schema.roles]
    for index in range(3):
        problem = story(1, index)
        values = dict(zip(roles, problem.metadata["numbers"], strict=True))
        for k, step in enumerate(question[0].split("; ")):
            left, sign, right = step.split()
            values[f"#{k}"] = OPERATIONS[sign](values[left], values[right])
            assert values[f"#{k}"] > 0
            assert sign != "/" or (values[f"#{k}"].is_integer() and values[f"#{k}"] > 1)
        assert problem.answer == values[f"#{len(gold(problem).steps) - 1}"]


def test_example(monkeypatch: pytest.MonkeyPatch) -> None:
    telling = "{B} has {theirs} {things}. {A} has {mine} {things}."
    schema = Schema(
        "x", {"mine": (5,), "theirs": (3,)}, (telling,), (("mine - theirs", "How many more?"),), None, frozenset()
    )
    only(monkeypatch, schema)
    problem = story(0, 0)
    assert re.fullmatch(r"\w+ has number0 ([a-z ]+)\. \w+ has number1 \1\. How many more\?", problem.text)
    assert problem.gold == "#0: subtract ( number1, number0 ) | EOS"
    assert (problem.answer, problem.metadata) == (2.0, {"numbers": (3.0, 5.0)})


def test_premise_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives away more than there is, even if the question is about somebody else."""
    schema = next(s for s in SCHEMAS if s.name == "give")
    question = ("other + given", "How many {things} does {B} have now?")
    only(monkeypatch, replace(schema, tellings=schema.tellings[:1], questions=(question,)))
    for index in range(200):
        start, _, given = story(2, index).metadata["numbers"]
        assert start > given


# ------------------------------------------------------------------------------------------- every problem


@at_levels
def test_gold_is_a_canonical_program_for_the_answer(problems: list[Problem]) -> None:
    for problem in problems:
        program = gold(problem)
        assert render(program) == problem.gold
        assert execute(program, problem.metadata["numbers"]) == problem.answer
        assert isinstance(problem.answer, float)
        assert 0 < problem.answer < float("inf")
        operands = [operand for step in program.steps for operand in step.operands]
        assert all(isinstance(operand, Number | StepRef) for operand in operands)
        assert {o.step for o in operands if isinstance(o, StepRef)} == set(range(len(program.steps) - 1))


@at_levels
def test_placeholders_count_up_and_match_the_numbers(problems: list[Problem]) -> None:
    for problem in problems:
        found = [int(i) for i in re.findall(r"number(\d+)", problem.text)]
        assert found == list(range(len(problem.metadata["numbers"]))), problem


@at_levels
def test_numbers_and_results_are_distinct_and_positive(problems: list[Problem]) -> None:
    for problem in problems:
        numbers, steps = problem.metadata["numbers"], gold(problem).steps
        results = [execute(Program.of(steps[: k + 1]), numbers) for k in range(len(steps))]
        assert len({*numbers, *results}) == len(numbers) + len(results), problem
        assert min(numbers) > 1


@at_levels
def test_texts_are_clean(problems: list[Problem]) -> None:
    for problem in problems:
        assert not re.search(r"[{}_|\\\n]|  |^ | $| [.,?]|[.,?][^ ]|\. [a-z]", problem.text), problem
        assert problem.text.endswith("?")
        assert problem.text.count("?") == 1
        assert not re.search(r"(x|ch|sh)s\b|[^aeiou]ys\b|atos\b", problem.text), "wrong plural"


@at_levels
def test_pronouns_are_clear(problems: list[Problem]) -> None:
    """No two names of a text share a pronoun, so a pronoun has one name to go with."""
    seen: Counter[str] = Counter()
    for problem in problems:
        words = re.findall(r"\w+", problem.text)
        for pronoun, forms in (("he", {"he", "He", "his"}), ("she", {"she", "She", "her"})):
            names = {*words} & {*WORDS[pronoun]}
            assert len(names) <= 1, problem
            if forms & {*words}:
                assert len(names) == 1, problem
                seen[pronoun] += 1
    assert min(seen["he"], seen["she"]) > 0.1 * len(problems)


# ------------------------------------------------------------------------------------------- the mixture


@pytest.mark.parametrize(
    ("problems", "step_shares"), [(PROBLEMS, {1: 0.45, 2: 0.40, 3: 0.15}), (HARD, {1: 0.15, 2: 0.45, 3: 0.40})]
)
def test_shares(problems: list[Problem], step_shares: dict[int, float]) -> None:
    n = len(problems)
    schemas = Counter(problem.gold_metadata["schema"] for problem in problems)
    assert set(schemas) == {schema.name for schema in SCHEMAS}
    assert max(schemas.values()) < 0.12 * n
    steps = Counter(len(gold(problem).steps) for problem in problems)
    for count, share in step_shares.items():
        assert steps[count] / n == pytest.approx(share, abs=0.03)
    operators = Counter(step.operator for problem in problems for step in gold(problem).steps)
    assert set(operators) == set(OPERATORS)
    assert min(operators.values()) / operators.total() > 0.12
    assert len({problem.text for problem in problems}) >= 0.95 * n


@at_levels
def test_operand_order_is_not_constant(problems: list[Problem]) -> None:
    for operator in ("subtract", "divide"):
        steps = [step for problem in problems for step in gold(problem).steps if step.operator == operator]
        pairs = [
            (s.first.index, s.second.index)
            for s in steps
            if isinstance(s.first, Number) and isinstance(s.second, Number)
        ]
        assert 0.2 < sum(a < b for a, b in pairs) / len(pairs) < 0.8


@at_levels
def test_commutative_steps_follow_the_text(problems: list[Problem]) -> None:
    steps = [step for problem in problems for step in gold(problem).steps if step.operator in ("add", "multiply")]
    pairs = [
        (s.first.index, s.second.index) for s in steps if isinstance(s.first, Number) and isinstance(s.second, Number)
    ]
    assert len(pairs) > 0.25 * len(problems)
    assert all(a < b for a, b in pairs)


def test_levels_are_ordered() -> None:
    """Easy, medium, hard: fewer problems of one step and more with a distractor, the same seeds throughout."""
    assert list(LEVELS) == ["easy", "medium", "hard"]
    corpora = [[story(7, i, level) for i in range(1_000)] for level in LEVELS]
    one_step, long, distracted, twice = zip(
        *(
            (
                sum(len(gold(p).steps) == 1 for p in problems),
                sum(len(gold(p).steps) == 3 for p in problems),
                sum(len(distractors(p)) > 0 for p in problems),
                sum(len(distractors(p)) > 1 for p in problems),
            )
            for problems in corpora
        ),
        strict=True,
    )
    for shares in (one_step[::-1], long, distracted, twice):
        assert shares[0] + 50 < shares[1] and shares[1] + 50 < shares[2]
    assert (long[0], twice[0]) == (0, 0)


def test_the_default_level_is_medium() -> None:
    assert [story(7, i, "medium") for i in range(100)] == PROBLEMS[:100]
    assert {problem.uid.split("/")[1] for problem in PROBLEMS} == {"medium"}


@pytest.mark.parametrize(("problems", "share", "second"), [(PROBLEMS, 0.35, 0.25), (HARD, 0.80, 0.50)])
def test_distractors(problems: list[Problem], share: float, second: float) -> None:
    found = [distractors(problem) for problem in problems]
    assert sum(map(bool, found)) / len(found) == pytest.approx(share, abs=0.03)
    assert sum(len(f) == 2 for f in found) / len(found) == pytest.approx(share * second, abs=0.03)
    assert {kind for f in found for kind, _ in f} == set(DISTRACTORS)
    clashes = {schema.name: schema.clashes for schema in SCHEMAS}
    for problem, kinds in zip(problems, found, strict=True):
        for kind, placeholder in kinds:
            assert kind not in clashes[problem.gold_metadata["schema"]]
            assert not re.search(rf"\b{placeholder}\b", problem.gold or ""), "a distractor matters"
    first = [f[0][1] == "number0" for f in found if f]
    assert 0.2 < sum(first) / len(first) < 0.8


def test_other_objects_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What {A} has at home is never what the story counts, even where objects are few."""
    monkeypatch.setitem(WORDS, "food", ["fig", "plum"])
    monkeypatch.setitem(WORDS, "goods", ["mug"])
    monkeypatch.setattr(stories, "SCHEMAS", tuple(s for s in SCHEMAS if s.name in ("eaten", "combine")))
    monkeypatch.setitem(LEVELS, "medium", Level({1: 1.0}, 1.0, 0.25))
    seen = 0
    for problem in (story(5, i) for i in range(300)):
        if match := re.search(r"number\d+ ([a-z ]+) (at home|in another room)\.", problem.text):
            seen += 1
            assert len(re.findall(rf"\b{match[1]}\b", problem.text)) == 1, problem
    assert seen > 30


def test_more_distractors_shift_but_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for schema in SCHEMAS:
        for question in schema.questions:
            only(monkeypatch, replace(schema, questions=(question,)), distracting=1.0)
            problem = story(3, 0)
            told = {slot for slot in SLOT.findall(schema.tellings[0] + question[1]) if slot in schema.roles}
            n_extra = len(distractors(problem))
            assert n_extra in (1, 2)
            assert len(problem.metadata["numbers"]) == len(told) + n_extra
