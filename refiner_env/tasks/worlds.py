"""Worlds of rules and one fact: what follows from them, why, and an endless supply of them.

Vocabulary, sentence forms and the levels easy, medium and hard are those of HELM's `synthetic_reasoning_natural`
(stanford-crfm/helm, Apache-2.0), whose files REFINER extends by inference steps:

- easy: five rules about the one of whom the fact speaks;
- medium: about that one, or its class (person, animal, plant);
- hard: besides, the fact may use synonyms (`tiny` for `small`).

There every conclusion takes one step. The levels of our own, `chain` and `maze`, have rules whose conclusions are the
conditions of others, in a random order: six rules with a chain of two, and nine with chains of up to four.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from refiner_env.tasks.inference import Atom, Inference, Statement, render
from refiner_env.types import Problem

_CLASS_TABLE = """
person: Alice Bob Carol Dan Erin Frank
animal: dog cat rabbit mouse tiger lion bear squirrel cow panda hedgehog elephant giraffe hippo
plant: poppy dandelion tree rose sunflower
"""
_SYNONYM_TABLE = """
young:
soft:
sad:
scary:
cold: chill cool
hot: warm
smart: clever wise intelligent
clean: tidy
small: little tiny
big: enormous giant huge
good: kind nice
beautiful: pretty
red: crimson
blue: cobalt
green: viridian
purple: violet
boring: dull
old: ancient antique
strong: powerful muscular
weak: frail fragile
fast: quick
slow: sluggish
bad: evil wicked mean
happy: elated glad cheerful
round: circular spherical
"""


def _table(text: str) -> Mapping[str, tuple[str, ...]]:
    return {key: tuple(words.split()) for key, words in (line.split(":") for line in text.strip().split("\n"))}


CLASSES = _table(_CLASS_TABLE)
CLASS_OF = {one: name for name, members in CLASSES.items() for one in members}
SYNONYMS = _table(_SYNONYM_TABLE)
"""General property -> the other words that mean it."""
GENERAL = {word: general for general, words in SYNONYMS.items() for word in words}
PROPERTIES = tuple(SYNONYMS)
NOTHING = "Nothing"
"""The answer where nothing follows."""


class Rule(NamedTuple):
    """`If subject is p and|or q, then subject is r.`"""

    subject: str
    conditions: tuple[str, ...]
    any_of: bool
    """Whether one of the conditions is enough."""
    conclusion: str

    def __str__(self) -> str:
        article, the = ("", "")
        if self.subject not in CLASSES["person"] and self.subject != "person":
            article, the = ("an " if self.subject[0] in "aeiou" else "a "), "the "
        conditions = (" or " if self.any_of else " and ").join(self.conditions)
        return f"If {article}{self.subject} is {conditions}, then {the}{self.subject} is {self.conclusion}."


@dataclass(frozen=True)
class World:
    """Rules and the fact about one person, animal or plant. Whatever is not said or derived does not hold."""

    rules: tuple[Rule, ...]
    one: str
    """Of whom the fact speaks."""
    said: tuple[str, ...]
    """The properties as the fact words them."""

    def __str__(self) -> str:
        the = "" if self.one in CLASSES["person"] else "The "
        return f"{' '.join(map(str, self.rules))} {the}{self.one} is {' and '.join(self.said)}."

    @cached_property
    def known(self) -> frozenset[str]:
        """What holds before any rule: the properties as said, and what they mean."""
        return frozenset(self.said) | {GENERAL[word] for word in self.said if word in GENERAL}

    @cached_property
    def fired(self) -> tuple[Rule, ...]:
        """The rules that add something, in the order in which they fire: rule by rule, until nothing more follows."""
        known, fired = set(self.known), list[Rule]()
        kind = CLASS_OF.get(self.one)
        while True:
            for rule in self.rules:
                if rule.conclusion in known or rule.subject not in (self.one, kind):
                    continue
                if not known.isdisjoint(rule.conditions) if rule.any_of else known.issuperset(rule.conditions):
                    known.add(rule.conclusion)
                    fired.append(rule)
                    break
            else:
                return tuple(fired)

    @cached_property
    def conclusions(self) -> tuple[str, ...]:
        """What follows, in the order of the rules that fire."""
        return tuple(rule.conclusion for rule in self.fired)

    @property
    def answer(self) -> str:
        """y: `Dan is beautiful and cold`, or `Nothing`."""
        return f"{self.one} is {' and '.join(self.conclusions)}" if self.conclusions else NOTHING

    def true_before_rules(self, atom: Atom) -> bool:
        """Whether a statement needs no rule: a synonym, a class, or what the fact says."""
        subject, complement = atom
        if subject == self.one:
            return complement in self.known or complement == CLASS_OF.get(subject)
        return GENERAL.get(subject) == complement

    @cached_property
    def supports(self) -> Mapping[Atom, tuple[frozenset[Atom], ...]]:
        """Conclusion -> the sets of statements each of which leads to it (several, where one condition is enough).

        A condition that the fact states in other words needs the synonym; in the same words, the fact itself. A rule
        about a class needs the class. A condition that another rule derives needs that conclusion.
        """
        holds = self.known | set(self.conclusions)
        kind = CLASS_OF.get(self.one)
        found: dict[Atom, tuple[frozenset[Atom], ...]] = {}
        for rule in self.rules:
            conclusion = (self.one, rule.conclusion)
            if rule.conclusion not in self.conclusions or rule.subject not in (self.one, kind):
                continue
            if holds.isdisjoint(rule.conditions) or not (rule.any_of or holds.issuperset(rule.conditions)):
                continue
            frame = frozenset({(self.one, kind)}) if kind and rule.subject == kind else frozenset[Atom]()
            ways = [self._premises(c) for c in rule.conditions if c in holds]
            choices = [(atom,) for way in ways for atom in way] if rule.any_of else itertools.product(*ways)
            found[conclusion] = (*found.get(conclusion, ()), *(frame.union(chosen) for chosen in choices))
        return found

    @cached_property
    def helpful(self) -> frozenset[Atom]:
        """Every statement that supports a conclusion, and the restated fact that official steps add to a synonym."""
        used = frozenset(atom for sets in self.supports.values() for way in sets for atom in way)
        return used | {(self.one, general) for word, general in used if GENERAL.get(word) == general}

    def _premises(self, condition: str) -> list[Atom]:
        """The statements each of which tells that a condition is met."""
        if condition in self.said or condition not in self.known:
            return [(self.one, condition)]
        return [(word, condition) for word in self.said if GENERAL.get(word) == condition]

    def derive(self) -> Inference:
        """Sound and sufficient steps in the official order: synonyms, class, restated fact, and the conclusion last.

        Conclusions on which others rest are steps of their own; the last step states all the rest together.
        """
        steps: list[Statement] = []
        told: set[Atom] = set()

        def tell(atom: Atom) -> None:
            if atom not in told:
                told.add(atom)
                steps.append(Statement(atom[0], (atom[1],)))

        bases = {c for rule in self.fired for c in rule.conditions if c in self.conclusions}
        known = set(self.known)
        for rule in self.fired:
            met = [c for c in rule.conditions if c in known]
            premises = [self._premises(c)[0] for c in (met[:1] if rule.any_of else met)]
            for atom in (p for p in premises if p[0] != self.one):
                tell(atom)
            if rule.subject != self.one:
                tell((self.one, rule.subject))
                premises = [(self.one, p[1]) for p in premises]
            for atom in (p for p in premises if p[0] == self.one):
                tell(atom)
            known.add(rule.conclusion)
            if rule.conclusion in bases:
                tell((self.one, rule.conclusion))
        rest = tuple(c for c in self.conclusions if (self.one, c) not in told)
        return Inference((*steps, Statement(self.one, rest)) if rest else tuple(steps))


_LETTERS = r"[^\W\d_]+"
_RULE = re.compile(
    rf"If (?:an? )?(?P<subject>{_LETTERS}) is (?P<conditions>{_LETTERS}(?: (?:and|or) {_LETTERS})*), "
    rf"then (?:the )?(?P=subject) is (?P<conclusion>{_LETTERS})"
)
_FACT = re.compile(rf"(?:The |An? )?(?P<one>{_LETTERS}) is (?P<said>{_LETTERS}(?: and {_LETTERS})*)")


_TOLD: dict[str, World | None] = {}
_REMEMBERED = 1 << 14
"""Texts whose worlds are kept: rollouts read the same ones again and again, and who makes a text knows its world."""


def read_world(text: str) -> World | None:
    """The world that a problem's text tells; None where a sentence is neither a rule nor the one fact."""
    if text not in _TOLD:
        _remember(text, _read(text))
    return _TOLD[text]


def forget() -> None:
    """Forget all texts that were read."""
    _TOLD.clear()


def _remember(text: str, made: World | None) -> None:
    if len(_TOLD) >= _REMEMBERED:
        forget()
    _TOLD[text] = made


def _read(text: str) -> World | None:
    rules: list[Rule] = []
    facts: list[tuple[str, tuple[str, ...]]] = []
    for sentence in (s.strip() for s in text.split(".")):
        if match := _RULE.fullmatch(sentence):
            words = match["conditions"].split()
            if len({*words[1::2]}) > 1:
                return None
            rules.append(Rule(match["subject"], tuple(words[::2]), "or" in words[1::2], match["conclusion"]))
        elif match := _FACT.fullmatch(sentence):
            facts.append((match["one"], tuple(match["said"].split(" and "))))
        elif sentence:
            return None
    return World(tuple(rules), *facts[0]) if len(facts) == 1 else None


@dataclass(frozen=True, slots=True)
class Level:
    """How hard worlds are."""

    rules: int
    classes: bool
    """Rules may speak of the class instead of the one."""
    synonyms: bool
    chain: int
    """Rules in a row, each resting on the one before."""


LEVELS = {
    "easy": Level(5, False, False, 1),
    "medium": Level(5, True, False, 1),
    "hard": Level(5, True, True, 1),
    "chain": Level(6, True, True, 2),
    "maze": Level(9, True, True, 4),
}
NOTHING_SHARE = 0.1
"""A fact from which too little follows is kept with this probability, as in HELM."""


def world(seed: int, index: int, level: str = "hard") -> Problem:
    """Problem `index` of the endless corpus `seed` at one of `LEVELS`: a pure function of the three."""
    rng = random.Random(f"{seed}/{index}")
    settings = LEVELS[level]
    kind = rng.choice(list(CLASSES))
    one = rng.choice(CLASSES[kind])
    rules = _rules(rng, settings, one, kind)
    while True:
        general = _fact(rng, rules) if settings.chain > 1 else rng.sample(PROPERTIES, 2)
        words = [rng.choice((g, *SYNONYMS[g])) for g in general] if settings.synonyms else general
        made = World(rules, one, tuple(words))
        if len(made.fired) >= settings.chain or rng.random() < NOTHING_SHARE:
            break
    text = str(made)
    _remember(text, made)
    return Problem(f"worlds/{level}/{seed}/{index}", text, render(made.derive()), made.answer)


def _rules(rng: random.Random, settings: Level, one: str, kind: str) -> tuple[Rule, ...]:
    """Rules with one or two conditions. No property stands in two of them, but for the links of the chains."""
    pool = rng.sample(PROPERTIES, len(PROPERTIES))
    rules: list[Rule] = []
    for k in range(settings.rules):
        subject = kind if settings.classes and rng.random() < 0.5 else one
        to_come = 2 * (settings.rules - k - 1)
        conditions = [pool.pop()]
        if rng.random() < 0.5 and len(pool) > to_come + 1:
            conditions.append(pool.pop())
        any_of = rng.random() < 0.5
        if k % settings.chain:
            conditions[rng.randrange(len(conditions))] = rules[-1].conclusion
            any_of = any_of or rng.random() < 0.5
        rules.append(Rule(subject, tuple(conditions), any_of, pool.pop()))
    return tuple(rng.sample(rules, len(rules)) if settings.chain > 1 else rules)


def _fact(rng: random.Random, rules: tuple[Rule, ...]) -> list[str]:
    """Two properties, of which some rule that rests on no other needs the first."""
    derived = {rule.conclusion for rule in rules}
    first = rng.choice([rule for rule in rules if derived.isdisjoint(rule.conditions)]).conditions
    chosen = list(first) if len(first) == 2 else [first[0], rng.choice([p for p in PROPERTIES if p != first[0]])]
    return rng.sample(chosen, 2)
