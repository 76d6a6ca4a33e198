"""Variations of a problem, for training critics: the same facts with other names and things, or in another order.

All are pure functions of (problem, rng). A changed problem has another uid (`~` at its end); where nothing can be
changed, the same problem comes back. Gold goes with the text: numbers stay in its order, and steps follow the rules.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from data.words import word_groups
from refiner_env.tasks.inference import render as render_steps
from refiner_env.tasks.program import COMMUTATIVE, SLOTS, Number, Operand, Program, StepRef, parse, render
from refiner_env.tasks.worlds import CLASS_OF, CLASSES, World, read_world
from refiner_env.types import ParseFailure, Problem, Task

_NUMBER = re.compile(r"\bnumber([0-9]{1,9})\b")
_LETTERS = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"(?<![\w-])(?:(an?)(\s+))?([^\W\d_]+)(?![\w-])", re.IGNORECASE)
"""A word, with the article before it. Parts of `numberN` and of compounds (`t-shirts`) are none."""

_ABBREVIATION = re.compile(r"\b(?:mrs?|ms|dr|st|ft|[a-z])\.", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])(\s+)(?=\S)")
_BARE_NUMBER = re.compile(r"^number[0-9]|number[0-9]+ *(?:\W|away|to|from|in|on|at|for|and|but|were|are)(?!\w)")
"""Sentences that may leave out what they count: "number1 were red .", "John has number1 ."."""


def _any_of(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words.replace(' ', '|')})\b", re.IGNORECASE)


# What ties a sentence to its neighbours. Many of these words often do not; but order changes only where it is safe.
_SINGULAR_PRONOUN = _any_of("he she it him her his hers its himself herself")
_PLURAL_PRONOUN = _any_of("they them their theirs")
_OPENER = _any_of(
    "he she it they his her its their then now after afterwards before later next finally meanwhile yesterday today "
    "tomorrow when while during since once but and or if so also however because therefore each every all both some "
    "one two of how what which who"
)
_LINK = _any_of(
    "then rest remaining remain left another more fewer less than as that this these those such same other others both "
    "ones also too again still already instead back later first second third last next former latter respectively "
    "start starts started begin begins began initially originally leaving"
)
_STATE = re.compile(
    r"\b(?:has|have|had|is|are|was|were|owns?|holds?)\b(?!\s\w*(?:ed|en|wn|ld|ght|ne|de)\b)", re.IGNORECASE
)
"""There are, had, is; but not had given, were sold. "Tom gets 3. Tom has 5" is not "Tom has 5. Tom gets 3"."""


def varied(task: Task[Any], problem: Problem, rng: random.Random) -> Problem:
    """The problem told in another way, if there is one for its task."""
    variation = _VARIATIONS.get(task.name)
    return variation(problem, rng) if variation else problem


def retold(problem: Problem, rng: random.Random) -> Problem:
    """A math word problem renamed, and with probability 1/2 also reordered."""
    changed = renamed(problem, rng)
    if rng.random() < 0.5:
        changed = reordered(changed, rng)
    return changed if changed is problem else replace(changed, uid=f"{problem.uid}~")


def other_world(problem: Problem, rng: random.Random) -> Problem:
    """Rules and a fact about another of the same class, the rules in another order; steps and answer as they follow."""
    made = read_world(problem.text)
    if made is None or problem.gold is None:
        return problem
    kind = CLASS_OF.get(made.one)
    one = rng.choice(CLASSES[kind]) if kind else made.one
    rules = [r._replace(subject=one) if r.subject == made.one else r for r in made.rules]
    changed = World(tuple(rng.sample(rules, len(rules))), one, made.said)
    gold = render_steps(changed.derive())
    return replace(problem, uid=f"{problem.uid}~", text=str(changed), gold=gold, answer=changed.answer)


def renamed(problem: Problem, rng: random.Random) -> Problem:
    """Other first names and other things, each in place of one of the text throughout.

    Things that measure others ("boxes of pencils") stay, and so do words that `words.txt` does not have.
    """
    text = problem.text
    present = {word.lower() for word in _LETTERS.findall(text)}
    measures = {word.lower() for word in re.findall(r"([^\W\d_]+)\s+of\b", text, re.IGNORECASE)}
    new: dict[str, str] = {}
    for group in ("she", "he"):
        names = [name for name in word_groups()[group] if name.lower() in present]
        spare = [name for name in word_groups()[group] if name.lower() not in present]
        new |= zip(names, rng.sample(spare, min(len(names), len(spare))), strict=False)
    if text.islower():  # as in SVAMP, where "bill" may be a name or not
        new = {old.lower(): name.lower() for old, name in new.items() if old.lower() not in _common_words()}
    things = [(many, one) for many, one in _things().items() if many in present and not {many, one} & measures]
    spare_things = [(many, one) for many, one in _things().items() if not {many, one} & present]
    chosen = rng.sample(spare_things, min(len(things), len(spare_things)))
    for old, other in zip(things, chosen, strict=False):
        new |= zip(old, other, strict=True)

    def other_word(match: re.Match[str]) -> str:
        article, space, word = match.groups(default="")
        other = new.get(word) or new.get(word.lower(), "")
        if not other:
            return match[0]
        if article:
            article = article[0] + ("n" if other[0].lower() in "aeiou" else "")
        return article + space + (other.capitalize() if word[0].isupper() else other)

    changed = _WORD.sub(other_word, text)
    return problem if changed == text else replace(problem, uid=f"{problem.uid}~", text=changed)


@lru_cache(maxsize=1)
def _things() -> Mapping[str, str]:
    """Plural -> singular of the known things."""
    return {thing: _singular(thing) for thing in word_groups()["things"]}


@lru_cache(maxsize=1)
def _common_words() -> frozenset[str]:
    """All known words but names."""
    groups = (words for group, words in word_groups().items() if group not in ("she", "he"))
    return frozenset(word.lower() for words in groups for word in words) | frozenset(_things().values())


def _singular(plural: str) -> str:
    if re.search(r"[^aeiou]ies$", plural) and not re.fullmatch(r"(cook|brown|mov|smooth|p)ies", plural):
        return plural[:-3] + "y"
    return plural[:-2] if re.search(r"(ss|x|ch|sh|^bus|[mt]ato|ngo)es$", plural) else plural[:-1]


def reordered(problem: Problem, rng: random.Random) -> Problem:
    """Two neighbouring sentences change places, where that is safe; the question stays last."""
    parts = _SENTENCE_END.split(problem.text)  # sentences, and the space between them
    sentences, values = parts[::2], list(problem.metadata.get("numbers", ()))
    program = parse(problem.gold) if problem.gold is not None else None
    places = [i for i in range(len(sentences) - 2) if _may_swap(sentences[i], sentences[i + 1], sentences[i + 2 :])]
    known = all(int(index) < len(values) for index in _NUMBER.findall(problem.text))
    if not places or not known or _ABBREVIATION.search(problem.text) or isinstance(program, ParseFailure):
        return problem
    i = rng.choice(places)
    sentences[i : i + 2] = sentences[i + 1], sentences[i]
    parts[::2] = sentences
    order = list(dict.fromkeys(int(index) for index in _NUMBER.findall("".join(parts))))
    place = dict(zip(order, sorted(order), strict=True))
    for old, new in place.items():
        values[new] = problem.metadata["numbers"][old]
    return replace(
        problem,
        uid=f"{problem.uid}~",
        text=_NUMBER.sub(lambda match: f"number{place[int(match[1])]}", "".join(parts)),
        gold=problem.gold if program is None else render(_renumbered(program, place)),
        metadata={**problem.metadata, "numbers": tuple(values)},
    )


def _may_swap(first: str, second: str, later: list[str]) -> bool:
    """Whether the second of two sentences may be told first, with `later` still to follow."""
    for sentence in (first, second):
        if not _NUMBER.search(sentence) or "?" in sentence or _OPENER.match(sentence) or _LINK.search(sentence):
            return False
    if bool(_STATE.search(first)) != bool(_STATE.search(second)) or _BARE_NUMBER.search(second):
        return False
    if _PLURAL_PRONOUN.search(second):
        return False
    # Of one person or thing: whom a later "he" means may depend on which sentence comes last.
    return not any(_SINGULAR_PRONOUN.search(sentence) for sentence in (second, *later))


def _renumbered(program: Program, place: Mapping[int, int]) -> Program:
    """Number k becomes number place[k]; numbers that a sum lists in the order of the text still come in that order."""

    def moved(operand: Operand) -> Operand:
        return Number(place.get(operand.index, operand.index)) if isinstance(operand, Number) else operand

    steps = [replace(step, first=moved(step.first), second=moved(step.second)) for step in program.steps]
    for chain in _chains(program):
        indices = [index for _, _, index in chain]
        if indices == sorted(indices):
            indices = sorted(place.get(index, index) for index in indices)
            for (step, slot, _), index in zip(chain, indices, strict=True):
                steps[step] = steps[step].with_operand(slot, Number(index))
    return Program.of(steps) if steps else Program((), moved(program.result))


def _chains(program: Program) -> Iterator[list[tuple[int, str, int]]]:
    """(step, slot, number) of numbers that could change places: a + b + c, or b and c in a - b - c."""
    uses = Counter(operand for step in program.steps for operand in step.operands)
    seen: set[int] = set()

    def chain(i: int) -> Iterator[tuple[int, str, int]]:
        seen.add(i)
        step = program.steps[i]
        for slot in SLOTS:
            operand, commutes = step.operand(slot), step.operator in COMMUTATIVE
            if isinstance(operand, Number) and (commutes or slot == "second"):
                yield i, slot, operand.index
            elif isinstance(operand, StepRef) and operand.step < i and uses[operand] == 1:
                alike = program.steps[operand.step].operator == step.operator
                if alike and (commutes or slot == "first"):
                    yield from chain(operand.step)

    for i in reversed(range(len(program.steps))):
        if i not in seen:
            yield list(chain(i))


_VARIATIONS: dict[str, Callable[[Problem, random.Random], Problem]] = {
    "MathWordProblem": retold,
    "SyntheticReasoning": other_world,
}
