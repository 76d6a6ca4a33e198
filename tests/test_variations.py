"""Variations tell the same facts: gold still holds, numbers come in order, names and things change throughout."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from data.formats import read_corpus
from data.variations import renamed, reordered, retold, varied
from data.words import word_groups
from refiner_env.tasks import MathWordProblem, SyntheticReasoning
from refiner_env.tasks.program import Program, execute, parse, render
from refiner_env.types import Problem

Variation = Callable[[Problem, random.Random], Problem]
VARIATIONS: list[Variation] = [renamed, reordered, retold]
GROUP_SIZES = {
    "she": 70,
    "he": 70,
    "things": 420,
    "people": 60,
    "places": 100,
    "units": 50,
    "verbs": 450,
    "adjectives": 220,
    "nouns": 250,
    "function": 200,
}


def number_tokens(text: str) -> list[int]:
    return [int(index) for index in re.findall(r"\bnumber([0-9]+)\b", text)]


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", text))


def mwp(text: str, gold: str | None = None, *numbers: float) -> Problem:
    program = parse(gold) if gold else None
    answer = execute(program, numbers) if isinstance(program, Program) else None
    assert answer is None or isinstance(answer, float)
    return Problem("test/0", text, gold, answer, {"numbers": numbers})


def check(problem: Problem, variation: Variation) -> bool:
    """Hold one variation to what all of them promise; whether it changed the problem."""
    changed = variation(problem, random.Random(problem.uid))
    assert changed == variation(problem, random.Random(problem.uid))
    assert changed.without_gold() == variation(problem.without_gold(), random.Random(problem.uid))
    if changed.text == problem.text:
        assert changed is problem
        return False
    assert changed.uid == f"{problem.uid}~"
    assert changed.answer == problem.answer
    assert number_tokens(changed.text) == number_tokens(problem.text)
    assert sorted(changed.metadata["numbers"]) == sorted(problem.metadata["numbers"])
    assert {**changed.metadata, "numbers": ()} == {**problem.metadata, "numbers": ()}
    before, after = parse(problem.gold or ""), parse(changed.gold or "")
    assert isinstance(before, Program) and isinstance(after, Program)
    assert changed.gold == render(after)
    old, new = execute(before, problem.metadata["numbers"]), execute(after, changed.metadata["numbers"])
    assert isinstance(old, float) and isinstance(new, float) and math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-9)
    return True


@pytest.fixture(scope="module")
def stories(task: MathWordProblem) -> list[Problem]:
    return [task.generate(3, i) for i in range(300)]


@pytest.fixture(scope="module")
def real(corpora: Path) -> list[Problem]:
    files = [corpora / "svamp" / name for name in ("train.csv", "dev.csv")]
    return [problem for file in files for problem in read_corpus(file).problems]


@pytest.mark.parametrize(("variation", "least"), [(renamed, 0.7), (reordered, 0.05), (retold, 0.7)])
def test_variations_of_stories_keep_their_promises(stories: list[Problem], variation: Variation, least: float) -> None:
    assert sum(check(story, variation) for story in stories) > least * len(stories)


@pytest.mark.parametrize(("variation", "least"), [(renamed, 0.6), (reordered, 0.01), (retold, 0.6)])
def test_variations_of_real_problems_keep_their_promises(
    real: list[Problem], variation: Variation, least: float
) -> None:
    assert sum(check(problem, variation) for problem in real) > least * len(real)


def test_no_known_name_is_left_over(stories: list[Problem]) -> None:
    names = {*word_groups()["she"], *word_groups()["he"]}
    for story in stories:
        before, after = (words_of(text) & names for text in (story.text, renamed(story, random.Random(1)).text))
        assert len(before) == len(after) and not before & after


def test_other_rng_other_variation(stories: list[Problem]) -> None:
    assert len({retold(stories[0], random.Random(seed)).text for seed in range(20)}) > 10


def test_renaming_is_consistent_and_keeps_the_rest_of_the_text() -> None:
    text = "Mia's apples: Mia has number0 apples and an apple. Apples cost Tom number1 cents. Does Mia eat the apple?"
    changed = renamed(mwp(text), random.Random(0)).text
    pattern = r"(\w+)'s (\w+): \1 has number0 \2 and an? (\w+)\. (\w+) cost (\w+) number1 cents\. Does \1 eat the \3\?"
    match = re.fullmatch(pattern, changed)
    assert match, changed
    she, things, thing, capital, he = match.groups()
    assert she in word_groups()["she"] and he in word_groups()["he"] and things in word_groups()["things"]
    assert capital == things.capitalize() and things.startswith(thing[:-1]) and "Mia" not in changed


@pytest.mark.parametrize("seed", range(20))
def test_the_article_goes_with_the_thing(seed: int) -> None:
    changed = renamed(mwp("number0 apples : an apple or a nice apple , A apple ."), random.Random(seed)).text
    match = re.fullmatch(r"number0 \w+ : (a|an) (\w+) or a nice \2 , (A|An) \2 \.", changed)
    assert match, changed
    assert match[1] == match[3].lower() == ("an" if match[2][0] in "aeiou" else "a")


@pytest.mark.parametrize(
    "text",
    [
        "She buys number0 boxes of gum . How many boxes ?",  # a measure
        "the bill was number0 dollars . who paid the bill ?",  # lower case: no name where it is a word
        "Can bob read number0 ?",  # mixed case: lower-case words are no names
        "number0 t-shirts, Anna-maria",  # parts of compounds
        "Each box is red.",  # a singular without its plural
    ],
)
def test_what_may_not_be_renamed_stays(text: str) -> None:
    problem = mwp(text)
    assert all(renamed(problem, random.Random(seed)) is problem for seed in range(5))


def test_lower_case_texts_have_names_too() -> None:
    changed = renamed(mwp("julia met jack . jack 's number0 coins ?"), random.Random(0)).text
    match = re.fullmatch(r"([a-z]+) met ([a-z]+) \. \2 's number0 [a-z]+ \?", changed)
    assert match and not {"julia", "jack"} & words_of(changed)


@pytest.mark.parametrize(
    ("text", "gold", "text_after", "gold_after"),
    [
        (
            "Mary picked number0 figs . Tom picked number1 figs . How many more figs did Mary pick than Tom ?",
            "#0: subtract ( number0, number1 ) | EOS",
            "Tom picked number0 figs . Mary picked number1 figs . How many more figs did Mary pick than Tom ?",
            "#0: subtract ( number1, number0 ) | EOS",
        ),
        (  # A sum keeps listing its numbers in the order of the text.
            "Mary picked number0 figs. Tom picked number1 figs. How many did they pick?",
            "#0: add ( number0, number1 ) | EOS",
            "Tom picked number0 figs. Mary picked number1 figs. How many did they pick?",
            "#0: add ( number0, number1 ) | EOS",
        ),
        (  # Over several steps, too.
            "Mary picked number0 figs and number1 dates. Tom picked number2 figs. If Al gets number3, what is left?",
            "#0: add ( number0, number1 ) | #1: add ( #0, number2 ) | #2: subtract ( #1, number3 ) | EOS",
            "Tom picked number0 figs. Mary picked number1 figs and number2 dates. If Al gets number3, what is left?",
            "#0: add ( number0, number1 ) | #1: add ( #0, number2 ) | #2: subtract ( #1, number3 ) | EOS",
        ),
        (
            "Mary sold number0 figs. Tom sold number1 figs. How many of number2 are unsold?",
            "#0: subtract ( number2, number0 ) | #1: subtract ( #0, number1 ) | EOS",
            "Tom sold number0 figs. Mary sold number1 figs. How many of number2 are unsold?",
            "#0: subtract ( number2, number0 ) | #1: subtract ( #0, number1 ) | EOS",
        ),
        (  # Where gold did not list them in order, nothing is changed but the numbers.
            "Mary sold number0 figs. Tom sold number1 figs. How many did they sell?",
            "#0: add ( number1, number0 ) | EOS",
            "Tom sold number0 figs. Mary sold number1 figs. How many did they sell?",
            "#0: add ( number0, number1 ) | EOS",
        ),
        (  # A result that is used twice keeps its numbers.
            "Mary sold number0 figs. Tom sold number1 figs and number2 dates. What is the product?",
            "#0: add ( number0, number1 ) | #1: add ( #0, number2 ) | #2: multiply ( #1, #0 ) | EOS",
            "Tom sold number0 figs and number1 dates. Mary sold number2 figs. What is the product?",
            "#0: add ( number0, number2 ) | #1: add ( #0, number1 ) | #2: multiply ( #1, #0 ) | EOS",
        ),
        (
            "Mary sold number0 figs. Tom sold number1 figs. How many did Tom sell?",
            "number1 | EOS",
            "Tom sold number0 figs. Mary sold number1 figs. How many did Tom sell?",
            "number0 | EOS",
        ),
    ],
)
def test_reordering(text: str, gold: str, text_after: str, gold_after: str) -> None:
    problem = mwp(text, gold, 7.0, 5.0, 90.0, 4.0)
    changed = reordered(problem, random.Random(0))
    assert (changed.text, changed.gold, changed.answer) == (text_after, gold_after, problem.answer)
    value = parse(changed.gold or "")
    assert isinstance(value, Program) and execute(value, changed.metadata["numbers"]) == problem.answer


@pytest.mark.parametrize(
    "text",
    [
        "Mary has number0 figs. She eats number1 figs. What is left?",  # a pronoun at the start
        "Mary has number0 figs. Tom has number1 of them. How many figs?",  # a pronoun
        "Mary has number0 figs. Then Mary has number1 figs. How many figs?",  # a time word
        "Mary has number0 figs. Tom has number1 more figs. How many figs?",  # a comparison
        "Mary has number0 figs. Tom has number1. How many figs?",  # a number of nothing
        "Mary has number0 figs. Tom has number1 figs. How many figs does he have?",  # who is he?
        "Mary has number0 figs. Tom gives Mary number1 figs. How many figs does Mary have now?",  # before and after
        "Mary has number0 figs. Tom has figs. How many figs?",  # nothing to renumber
        "Mary sold number0 figs. Find the sum of number0 figs and number1 dates.",  # the question stays last
        "Mary sold number0 figs? Tom sold number1 figs. How many figs?",  # another question
        "Mrs. Li sold number0 figs. Tom sold number1 figs. How many figs?",  # where does a sentence end?
    ],
)
def test_what_may_not_be_reordered_stays(text: str) -> None:
    problem = mwp(text, "#0: add ( number0, number1 ) | EOS", 7.0, 5.0)
    assert all(reordered(problem, random.Random(seed)) is problem for seed in range(5))


@pytest.mark.parametrize("variation", VARIATIONS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "?",
        "How many apples?",
        "Zoë 給 apples \u202e 🍎 apple\u0301s . İİ ß . number٣ ?",
        "number7 pens . number99999 pens . \n\n number0 pens ? ",
        "Tom sold number7 pens. Sue sold number99999 pens. What is the sum?",
        " ".join(word_groups()["she"]),
        " ".join(word_groups()["things"]),
        "a " * 500,
    ],
)
def test_odd_texts_do_not_raise(text: str, variation: Variation) -> None:
    for metadata in ({"numbers": (1.0,)}, {}):
        for gold in ("number0 | EOS", "no program", None):
            changed = variation(Problem("odd", text, gold, 1.0, metadata), random.Random(0))
            assert (changed.gold, changed.metadata, changed.answer) == (gold, metadata, 1.0)


def test_groups_of_words() -> None:
    assert word_groups().keys() == GROUP_SIZES.keys()
    for group, words in word_groups().items():
        assert len(words) == len(set(words)), group
        assert 0.85 < len(words) / GROUP_SIZES[group] < 1.15, group
        assert all(re.fullmatch(r"[A-Za-z]+", word) for word in words), group
    assert not set(word_groups()["she"]) & set(word_groups()["he"])
    assert all(thing.endswith("s") for thing in word_groups()["things"])


# ------------------------------------------------------------------------------------------------- worlds


def test_other_worlds_are_right_and_different() -> None:
    task, rng = SyntheticReasoning(), random.Random(3)
    problems = [task.generate(4, i, level) for level in ("hard", "maze") for i in range(60)]
    changed = [(p, varied(task, p, rng)) for p in problems]
    assert all(task.score(q, q.gold or "").ir_equivalent and q.uid == f"{p.uid}~" for p, q in changed)
    assert all(Counter(p.text.split())["If"] == Counter(q.text.split())["If"] for p, q in changed)
    assert sum(p.text != q.text for p, q in changed) > 0.9 * len(changed)


def test_tasks_without_variations_keep_their_problems(task: MathWordProblem) -> None:
    class Other(MathWordProblem):
        name = "Other"

    problem = task.generate(0, 0)
    assert varied(Other(), problem, random.Random(0)) is problem and varied(task, problem, random.Random(0)) != problem


def test_a_text_without_a_world_stays() -> None:
    problem = Problem("x", "Bob was red.", "#0: Bob is red", "Bob is red")
    assert varied(SyntheticReasoning(), problem, random.Random(0)) is problem
