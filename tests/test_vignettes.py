"""The procedural moral stories: pure, clean in every combination of wordings, and told apart by the oracle."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from refiner_env.tasks.moral_stories import NEAR, UNRELATED, MoralStories, chrf
from refiner_env.tasks.norms import OPENINGS, RIGHT, WRONG, Norm, parse
from refiner_env.tasks.vignettes import DISTRACTORS, LEVELS, SCHEMAS, WORDS, Schema, vignette
from refiner_env.types import Problem

PROBLEMS = {level: [vignette(7, i, level) for i in range(1_000)] for level in LEVELS}
ALL = [problem for problems in PROBLEMS.values() for problem in problems]
TASK = MoralStories()
PARTS = re.compile(r"<\|SIT\|> (.+) <\|INT\|> (.+) <\|I_ACT\|> (.+) <\|NRM\|>")
each_schema = pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)


def gold(problem: Problem) -> Norm:
    norm = parse(problem.gold or "")
    assert isinstance(norm, Norm)
    return norm


# ------------------------------------------------------------------------------------------- pure function


def test_pure_in_seed_index_and_level() -> None:
    assert [vignette(7, i) for i in range(100)] == PROBLEMS["medium"][:100]
    assert [vignette(8, i).text for i in range(100)] != [p.text for p in PROBLEMS["medium"][:100]]
    assert len({problem.uid for problem in ALL}) == len(ALL)
    assert PROBLEMS["hard"][3].uid == "vignettes/hard/7/3"


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_pure_across_processes(hash_seed: str) -> None:
    code = "from refiner_env.tasks.vignettes import vignette; print([vignette(7, i) for i in range(100)])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == repr(PROBLEMS["medium"][:100])


# ------------------------------------------------------------------------------------------- the table


def test_enough_of_everything() -> None:
    assert 25 <= len(SCHEMAS) == len({schema.name for schema in SCHEMAS})
    assert len(OPENINGS[RIGHT]) == len(OPENINGS[WRONG]) >= max(level.n_openings for level in LEVELS.values())
    phrases = [p for s in SCHEMAS for p in (*s.do, *s.avoid, *s.beside)]
    assert len(set(phrases)) == len(phrases)


@each_schema
def test_schema_is_consistent(schema: Schema) -> None:
    parts = (schema.situations, schema.intentions, schema.immoral, schema.moral, schema.do, schema.avoid, schema.beside)
    assert all(len({*part}) == len(part) >= 2 for part in parts)
    for sentence in itertools.chain(*parts[:4]):
        assert re.match(r"[A-Z]|\{[AB]\}", sentence) and sentence.endswith("."), sentence
        assert {*re.findall(r"\{(\w+)\}", sentence)} <= {*WORDS, "A", "B", "he", "his", "him"} - {"she"}, sentence
    assert all("{A}" in sentence for part in parts[1:4] for sentence in part if "{he}" not in sentence)
    assert not re.search(r"[{}.A-Z]", " ".join((*schema.do, *schema.avoid, *schema.beside)))


@each_schema
def test_what_is_beside_the_point_is_far_from_the_norm(schema: Schema) -> None:
    for phrase, other in itertools.product((*schema.do, *schema.avoid), (*schema.beside, *UNRELATED)):
        assert chrf(phrase, (other,)) < NEAR, (phrase, other)


@each_schema
def test_the_two_sides_of_a_norm_are_not_taken_for_one_another(schema: Schema) -> None:
    for phrase, other in itertools.product(schema.do, schema.avoid):
        assert chrf(phrase, (other,)) < NEAR, (phrase, other)


# ------------------------------------------------------------------------------------------- every problem


@pytest.mark.parametrize("level", LEVELS)
def test_texts_are_clean(level: str) -> None:
    for problem in PROBLEMS[level]:
        parts = PARTS.fullmatch(problem.text)
        assert parts, problem
        for text in (*parts.groups(), gold(problem).text, gold(problem).action):
            assert not re.search(r"[{}_\\\n]|  |^ | $| [.,]|[.,][^ ]|\. [a-z]|\b(\w+) \1\b", text), (text, problem)
            assert text[0].isupper() and text.endswith("."), text
        assert problem.metadata == {} and problem.gold_metadata["synthetic"] is True
        assert str(problem.answer) == gold(problem).action


@pytest.mark.parametrize("level", LEVELS)
def test_pronouns_are_clear(level: str) -> None:
    """Whoever acts is the only one of their pronoun."""
    for problem in PROBLEMS[level]:
        words = re.findall(r"\w+", f"{problem.text} {problem.answer}")
        for pronoun, forms in (("he", {"he", "his", "him", "himself"}), ("she", {"she", "her", "herself"})):
            names = {*words} & {*WORDS[pronoun]}
            assert len(names) <= 1 and (not forms & {*words} or names), problem


def test_lists_hold_every_wording_but_gold() -> None:
    schemas = {schema.name: schema for schema in SCHEMAS}
    for problem in ALL:
        schema, mine = schemas[problem.gold_metadata["schema"]], gold(problem)
        sides = [(RIGHT, p) for p in schema.do] + [(WRONG, p) for p in schema.avoid]
        read = {key: [parse(t) for t in problem.gold_metadata[key]] for key in ("paraphrases", "contradictions")}
        told = {key: [(n.judgment, n.phrase) for n in norms if isinstance(n, Norm)] for key, norms in read.items()}
        assert sorted([*told["paraphrases"], (mine.judgment, mine.phrase)]) == sorted(sides), problem
        assert told["contradictions"] == [(judgment.other, p) for judgment, p in sides], problem


def test_the_oracle_agrees_with_the_lists() -> None:
    for problem in ALL[::5]:
        for key, kinds in (("paraphrases", []), ("contradictions", ["contradiction"]), ("misaligned", ["misaligned"])):
            for text in problem.gold_metadata[key]:
                assert [fault.kind for fault in TASK.diagnose(problem, text)] == kinds, (problem, text)


# ------------------------------------------------------------------------------------------- the mixture


def test_levels_are_ordered() -> None:
    """Easy, medium, hard: more ways to tell a story and to judge, more norms that say what not to do, more beside."""
    distractors = re.compile("|".join(re.sub(r"\\{\w+\\}", r"\\w+", re.escape(text)) for text in DISTRACTORS))
    wrong, openings, texts, beside = [], [], [], []
    for problems in PROBLEMS.values():
        norms = [gold(problem) for problem in problems]
        wrong.append(sum(norm.judgment is WRONG for norm in norms) / len(norms))
        openings.append(len({norm.text.removesuffix(f" {norm.phrase}.") for norm in norms}))
        shared = dict.fromkeys((*WORDS["he"], *WORDS["she"]), "A")
        texts.append(len({re.sub(r"\w+", lambda w, s=shared: s.get(w[0], w[0]), p.text) for p in problems}))
        beside.append(sum(bool(distractors.search(p.text)) for p in problems) / len(problems))
    assert wrong == pytest.approx([0.0, 0.2, 0.5], abs=0.05)
    assert openings == [2, 12, 24]
    assert texts[0] < texts[1] < texts[2]
    assert beside == pytest.approx([0.0, 0.3, 0.9], abs=0.05)


def test_shares() -> None:
    schemas = Counter(problem.gold_metadata["schema"] for problem in PROBLEMS["medium"])
    assert {*schemas} == {schema.name for schema in SCHEMAS}
    assert max(schemas.values()) < 3 * len(PROBLEMS["medium"]) / len(SCHEMAS)
    assert len({problem.text for problem in PROBLEMS["medium"]}) > 0.98 * len(PROBLEMS["medium"])
