"""Synthetic natural-language reasoning: x is rules and a fact, z the inference steps, y what follows.

Format after REFINER (arXiv 2304.01904) and HELM; fault kinds after the paper's error types (section 3): logically
invalid step, missing link between fact and rule, missing implicit knowledge, wrong conclusion; and superfluous steps.
The order of steps is free as far as a conclusion comes after what it rests on.

A sound and sufficient hypothesis is right whatever way it takes: `tasks.worlds` says what supports what. Gold that is
not sound itself, such as a model's own attempt, is compared statement by statement.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from refiner_env.tasks import inference as ir
from refiner_env.tasks.inference import INVALID, Atom, Inference, Statement
from refiner_env.tasks.phrases import Phrases
from refiner_env.tasks.worlds import CLASSES, GENERAL, LEVELS, NOTHING, PROPERTIES, World, read_world, world
from refiner_env.types import Fault, ParseFailure, Problem, Scores, Task

TEMPLATES = {
    "invalid_step": "Step #{step} is logically invalid.",
    "missing_link": "A link between the fact and a rule is missing before #{step}.",
    "missing_knowledge": "Implicit knowledge is missing before #{step}.",
    "conclusion": "The conclusion in #{step} is incorrect.",
    "extra_step": "Step #{step} is not needed.",
    "syntax": "The steps cannot be read.",
    "too_long": "The steps are too long.",
}
PHRASES = Phrases(TEMPLATES)
TRIES = 20
"""Draws of a perturbation before another kind is taken."""

parse = lru_cache(maxsize=1 << 16)(ir.parse)


class SyntheticReasoning(Task[Inference]):
    """x: rules and a fact; z: inference steps; y: what follows, or `Nothing`."""

    name = "SyntheticReasoning"
    fault_kinds = (*TEMPLATES, "other")
    phrases = PHRASES
    perturbations = ("invalid_step", "missing_link", "missing_knowledge", "conclusion", "extra_step", "several")
    levels = tuple(LEVELS)
    default_level = "hard"
    guess = INVALID
    about = (
        "The problem is rules and, at its end, a fact about one person, animal or plant. The hypothesis is inference"
        " steps of the form `#k: subject is something`, counted from 0: the implicit knowledge that links the fact to a"
        " rule (`tiny is small`, `Dan is person`), then what follows from the rules; the last step is the conclusion."
        f" Where no rule applies, the hypothesis has to be `{INVALID}`."
    )

    def parse(self, text: str) -> Inference | ParseFailure:
        return parse(text) if len(text) <= ir.MAX_CHARS else ir.parse(text)

    def render(self, ir_: Inference) -> str:
        return ir.render(ir_)

    def execute(self, ir_: Inference, problem: Problem) -> str:
        """What the steps conclude: all that they say of the one and that the fact does not."""
        made = read_world(problem.text)
        known = made.known if made else frozenset[str]()
        subject = made.one if made else ir_.steps[-1].subject if ir_.steps else ""
        said = [c for _, (s, c) in ir_.atoms() if s == subject and c not in known and c not in CLASSES]
        return f"{subject} is {' and '.join(dict.fromkeys(said))}" if said else NOTHING

    def score(self, problem: Problem, hypothesis: str) -> Scores:
        steps = self.parse(hypothesis)
        if isinstance(steps, ParseFailure):
            return Scores(False, False, False, 0.0)
        right = not self.diagnose(problem, hypothesis)
        answer = _things(self.execute(steps, problem)) == _things(str(problem.answer))
        return Scores(steps == gold_steps(problem), right, answer, float(right))

    def same(self, problem: Problem, a: str, b: str) -> bool:
        first, second = self.parse(a), self.parse(b)
        if isinstance(first, ParseFailure) or isinstance(second, ParseFailure):
            return a == b
        made = read_world(problem.text)
        return not faults_against(first, second, made) and not faults_against(second, first, made)

    def diagnose(self, problem: Problem, hypothesis: str) -> tuple[Fault, ...]:
        steps = self.parse(hypothesis)
        if isinstance(steps, ParseFailure):
            return (Fault(steps.kind, hint=steps.message, span=steps.span),)
        return faults_against(steps, gold_steps(problem), read_world(problem.text))

    def check(self, problem: Problem, hypothesis: str) -> tuple[Fault, ...]:
        """All faults against what the rules and the fact of the text tell; where it tells no world: no readable steps.

        It follows that it says what `diagnose` says wherever gold is sound: on 1,000 problems of each level and of the
        official training file it flags no gold, and names the very faults of all perturbations.
        """
        steps, made = self.parse(hypothesis), read_world(problem.text)
        if isinstance(steps, ParseFailure) or made is None:
            return super().check(problem, hypothesis)
        return _faults(steps, _whole(made), made)

    def right_share(self, problem: Problem, hypothesis: str) -> float:
        """The share of right steps; a missing one is a wrong one."""
        steps, faults = self.parse(hypothesis), self.diagnose(problem, hypothesis)
        if not faults or isinstance(steps, ParseFailure):
            return float(not faults)
        missing = sum(fault.kind.startswith("missing") for fault in faults)
        wrong = {fault.step for fault in faults if not fault.kind.startswith("missing")}
        return 1 - (missing + len(wrong)) / (missing + max(len(steps.steps), 1))

    def perturb(self, problem: Problem, rng: random.Random, kind: str | None = None) -> str:
        """Wrong steps near gold; `kind` is one of `perturbations`, None for any.

        The chosen kind may be impossible (steps without implicit knowledge cannot lack any); then another is taken.
        """
        gold, made = gold_steps(problem), read_world(problem.text)
        kinds = [kind] if kind else []
        for name in kinds + rng.sample(self.perturbations, len(self.perturbations)):
            for _ in range(TRIES):
                steps = list(gold.steps)
                for edit in rng.choices(list(_EDITS), k=rng.randint(2, 3)) if name == "several" else [name]:
                    steps = _EDITS[edit](steps, made, rng) or steps
                faults = faults_against(Inference(tuple(steps)), gold, made)
                if faults and (name == "several" or {f.kind for f in faults} == {name}):
                    return ir.render(Inference(tuple(steps)))
        return INVALID if gold.steps else f"#0: {_claim(made, rng)}"

    def rephrase(self, problem: Problem, rng: random.Random) -> str:
        """Gold with its steps in another order, where that is right too."""
        gold, made = gold_steps(problem), read_world(problem.text)
        shuffled = Inference((*rng.sample(gold.steps[:-1], len(gold.steps[:-1])), *gold.steps[-1:]))
        return ir.render(gold if faults_against(shuffled, gold, made) else shuffled)

    def edit(self, text: str, hypothesis: str, faults: Sequence[Fault], rng: random.Random) -> str:
        steps, made = self.parse(hypothesis), read_world(text)
        if isinstance(steps, ParseFailure):
            return self.guess
        edited = list(steps.steps) or [_claim(made, rng)]
        # From the last step to the first, so that earlier positions stay what the feedback means.
        for fault in sorted(faults, key=lambda f: -(f.step or 0)):
            place = min(fault.step or 0, len(edited))
            if fault.kind.startswith("missing") and len(edited) < ir.MAX_STEPS:
                edited.insert(place, _premise(made, rng, fault.kind))
            elif fault.kind == "extra_step" and place < len(edited) > 1:
                del edited[place]
            elif fault.kind == "invalid_step" and place < len(edited):
                edited[place] = _premise(made, rng)
            elif fault.kind == "conclusion":
                edited[-1] = _claim(made, rng)
        return ir.render(Inference(tuple(edited)))

    def generate(self, seed: int, index: int, level: str | None = None) -> Problem:
        return world(seed, index, level or self.default_level)


def gold_steps(problem: Problem) -> Inference:
    """The parsed gold of a problem that has one."""
    return problem.read_gold(parse, "steps")


def _things(answer: str) -> tuple[str, frozenset[str]]:
    """An answer up to article, full stop and the order of what follows."""
    words = re.sub(r"^The\s+|\.\s*$", "", answer)
    one, _, rest = words.partition(" is ")
    return one, frozenset(rest.split(" and "))


# ------------------------------------------------------------------------------------------------- faults


@dataclass(frozen=True, slots=True)
class _Reference:
    """What a right hypothesis says."""

    conclusions: tuple[Atom, ...]
    supports: Mapping[Atom, tuple[frozenset[Atom], ...]]
    """Conclusion -> the sets of statements one of which has to come before it."""
    allowed: frozenset[Atom]
    """What may be said besides conclusions."""


def _whole(made: World) -> _Reference:
    """All right ways to what follows in a world."""
    return _Reference(tuple((made.one, c) for c in made.conclusions), made.supports, made.helpful)


@lru_cache(maxsize=1 << 14)
def _reference(gold: Inference, made: World | None) -> _Reference:
    """All right ways to gold's conclusion where gold is sound; else the very statements of gold, in any order."""
    if made and not _faults(gold, _whole(made), made):
        return _whole(made)
    last = gold.steps[-1].atoms if gold.steps else ()
    others = frozenset(atom for _, atom in gold.atoms() if atom not in last)
    return _Reference(last, dict.fromkeys(last, (others,)), others)


def faults_against(hypothesis: Inference, gold: Inference, made: World | None) -> tuple[Fault, ...]:
    """The faults of a hypothesis; none if and only if it is as right as gold, or says the same.

    Args:
        made: the problem's world; None where its text tells none, then hypotheses are compared word for word.
    """
    return () if hypothesis == gold else _faults(hypothesis, _reference(gold, made), made)


def _faults(hypothesis: Inference, reference: _Reference, made: World | None) -> tuple[Fault, ...]:
    faults: list[Fault] = []
    said: dict[Atom, int] = {}
    last = len(hypothesis.steps) - 1
    for k, step in enumerate(hypothesis.steps):
        kinds = [_kind(atom, k == last, said, reference, made) for atom in step.atoms]
        for atom in step.atoms:
            said.setdefault(atom, k)
        if kind := next((kind for kind in kinds if kind and kind != "extra_step"), None):
            faults.append(Fault(kind, k, span=step.span))
        elif all(kinds):
            faults.append(Fault("extra_step", k, span=step.span))
    missing = [atom for atom in reference.conclusions if atom not in said]
    if missing and not any(f.kind == "conclusion" for f in faults):
        faults.append(Fault("conclusion", max(last, 0), span=hypothesis.steps[-1].span if hypothesis.steps else None))
    # A wrong step stands for one of its form that is missing: one fault, not two.
    replaced = [_form(atom) for f in faults if f.kind == "invalid_step" for atom in hypothesis.steps[f.step or 0].atoms]
    for atom, place in _lacking(said, reference, max(last, 0)).items():
        form = _form(atom)
        if form in replaced:
            replaced.remove(form)
        elif atom not in missing:
            faults.append(Fault("missing_link" if form == "fact" else "missing_knowledge", place))
    return tuple(faults)


def _lacking(said: Mapping[Atom, int], reference: _Reference, last: int) -> dict[Atom, int]:
    """What conclusions rest on and is not said before them, with the step before which it should stand."""
    lacking: dict[Atom, int] = {}
    for conclusion in reference.conclusions:
        place = said.get(conclusion, last)
        before = {atom for atom, k in said.items() if k < place}
        ways = [sorted(way - before) for way in reference.supports.get(conclusion, ())]
        for atom in min(ways, key=len, default=[]):
            lacking.setdefault(atom, place)
    return lacking


def _kind(atom: Atom, is_last: bool, said: Mapping[Atom, int], reference: _Reference, made: World | None) -> str | None:
    """What is wrong with saying this here; None for nothing."""
    if atom in said:
        return "extra_step"
    if atom in reference.conclusions or atom in reference.allowed:
        return None
    if made and made.true_before_rules(atom):
        return "extra_step"
    return "conclusion" if is_last and _form(atom) == "fact" else "invalid_step"


def _form(atom: Atom) -> str:
    """`synonym`, `class`, or `fact` for what else may be said of the one."""
    subject, complement = atom
    if subject in GENERAL or subject in PROPERTIES:
        return "synonym"
    return "class" if complement in CLASSES else "fact"


# ------------------------------------------------------------------------------------------ perturbations
# Each edit returns changed steps, or None where there is no place for it.

Edit = Callable[[list[Statement], World | None, random.Random], list[Statement] | None]


def _without(*forms: str) -> Edit:
    """An edit that leaves out a step of one of these forms, but not the last."""

    def edit(steps: list[Statement], made: World | None, rng: random.Random) -> list[Statement] | None:
        places = [k for k, step in enumerate(steps[:-1]) if _form(step.atoms[0]) in forms]
        if not places:
            return None
        lost = rng.choice(places)
        return steps[:lost] + steps[lost + 1 :]

    return edit


def _invalid_step(steps: list[Statement], made: World | None, rng: random.Random) -> list[Statement] | None:
    if len(steps) < 2:
        return None
    k = rng.randrange(len(steps) - 1)
    choices = CLASSES if _form(steps[k].atoms[0]) == "class" else PROPERTIES
    other = rng.choice([c for c in choices if c not in steps[k].complements])
    return [*steps[:k], replace(steps[k], complements=(other,)), *steps[k + 1 :]]


def _conclusion(steps: list[Statement], made: World | None, rng: random.Random) -> list[Statement]:
    """Another conclusion, none, or some where there is none."""
    if steps and rng.random() < 0.2:
        return []
    return [*steps[:-1], _claim(made, rng)]


def _extra_step(steps: list[Statement], made: World | None, rng: random.Random) -> list[Statement] | None:
    if not steps:
        return None
    new, place = _premise(made, rng), rng.randrange(len(steps))
    return [*steps[:place], new, *steps[place:]]


def _premise(made: World | None, rng: random.Random, kind: str = "") -> Statement:
    """Something that the fact, a class or a synonym might tell; `kind` is a missing step's fault kind."""
    if made is None:
        return Statement(rng.choice(PROPERTIES), (rng.choice(PROPERTIES),))
    form = rng.choice({"missing_link": ("fact",), "missing_knowledge": ("synonym", "class")}.get(kind, _FORMS))
    synonyms = [word for word in made.said if word in GENERAL]
    if form == "synonym" and synonyms:
        word = rng.choice(synonyms)
        return Statement(word, (GENERAL[word],))
    if form == "class":
        return Statement(made.one, (rng.choice(list(CLASSES)),))
    return Statement(made.one, (rng.choice(sorted(made.known)),))


_FORMS = ("fact", "synonym", "class")


def _claim(made: World | None, rng: random.Random) -> Statement:
    """The conclusion of some rule, now and then of two, whether or not they fire."""
    if made is None or not made.rules:
        return Statement("nobody" if made is None else made.one, (rng.choice(PROPERTIES),))
    count = 2 if len(made.rules) > 1 and rng.random() < 0.15 else 1
    return Statement(made.one, tuple(rule.conclusion for rule in rng.sample(made.rules, count)))


_EDITS: dict[str, Edit] = {
    "invalid_step": _invalid_step,
    "missing_link": _without("fact"),
    "missing_knowledge": _without("synonym", "class"),
    "conclusion": _conclusion,
    "extra_step": _extra_step,
}
