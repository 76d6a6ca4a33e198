"""Exercises for the base model: skills of procedure, in sentences that no task, schema or corpus uses.

A model from scratch has no skill of copying, comparing and editing a sequence, and a few thousand word problems do
not give it one. These exercises do: random words, random programs over random numbers, and tables of sentences of our
own. Each exercise has one of the three forms that generators and critics meet later (`agents.prompts`):

    text -> target                              solve, look_up, relevant, fill
    text, hypothesis, feedback -> target        edit, revise, check, copy, steps, phrases
    text, hypothesis -> feedback                compare, judge, spot

The words are common English words (`words.txt`) and made-up ones; the sentences are tested to share no template with
the story problems.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from data.words import word_groups
from refiner_env.tasks import program as ir
from refiner_env.tasks.math_word_problem import MathWordProblem
from refiner_env.tasks.program import Number, Operand, Program, Step, StepRef
from refiner_env.types import Fault, Problem

TASK = MathWordProblem()


@dataclass(frozen=True, slots=True)
class Exercise:
    """One example. Without hypothesis it is a first turn; with hypothesis but no feedback the critic's turn."""

    skill: str
    text: str
    target: str
    hypothesis: str = ""
    feedback: str = ""


FACTS = (
    "The {good} of {holder} come to {n}.",
    "{n} is what {holder} shows for {good}.",
    "As for {good}, {holder} reached {n}.",
    "With {holder} we noted {n} {good}.",
    "{holder}: {n} {good}.",
    "To {holder} go {n} {good}.",
    "Of {good}, {n} fell to {holder}.",
    "{n} {good} stand beside {holder}.",
    "Our list says {n} for the {good} of {holder}.",
    "{holder}, {good}, {n}.",
    "Where {holder} is, {good} number {n}.",
    "{good} under {holder}: {n}.",
)
MENTIONS = ("the {good} of {holder}", "{holder}'s {good}", "{good} under {holder}", "what {holder} shows for {good}")
RESULTS = ("the outcome of #{k}", "that outcome", "what #{k} gave")
"""Mentions of an earlier step; "that outcome" is the step just before."""
DEMANDS: Mapping[str, tuple[str, ...]] = {
    "add": ("join {a} with {b}", "{a} on top of {b}", "merge {a}, {b}", "{a} and {b} as one"),
    "subtract": ("take {b} off {a}", "{b} below {a}", "from {a} strike {b}", "by what {a} exceed {b}"),
    "multiply": ("{a}, {b} times over", "repeat {a} by {b}", "grow {a} with factor {b}"),
    "divide": ("spread {a} over {b}", "cut {a} by {b}", "portions of {b} in {a}", "{a} for every one of {b}"),
}
HINTS: Mapping[str, tuple[str, ...]] = {
    "operator": ("Another operator belongs in #{step}.", "#{step} does the wrong thing with its numbers."),
    "operand": ("#{step}: mend the {slot} number.", "Take something else as the {slot} number of #{step}."),
    "missing_step": ("Before #{step} there is more to work out.", "One step too few at #{step}."),
    "extra_step": ("Leave #{step} out.", "#{step} has no place here."),
}
"""Feedback in other words than the task's, so that a reader of feedback does not depend on one wording."""
VALUES = (2.31, 5.17, 11.83, 23.57, 47.29, 97.13)
"""Behind the numbers: no short program over them comes to zero, so that nothing depends on what the text hides."""
QUESTIONS = {
    "number": ("Find: {good}, {holder}?", "Say the number for {holder} and {good}."),
    "holder": ("To whom belongs {n}?", "Name the one beside {n}."),
    "good": ("Name what {n} counts.", "{n} of which?"),
    "place": ("Name the holder in place {k}.", "Place {k}: whose?"),
    "changed": ("Name what differs.", "Where does the second list depart from the first?"),
}
CHECK = "Right or wrong?"
"""Feedback that tells nothing: keep what is right, mend what is wrong."""
_ONSETS = [*"bcdfghjklmnprstvwz", "br", "st", "th", "ch"]
_VOWELS = [*"aeiou", "ai", "ee"]
SYLLABLES = [onset + vowel for onset in _ONSETS for vowel in _VOWELS]
MADE_UP_SHARE = 0.4
"""Of the worlds, those told in patterns made up on the spot, so that binding does not depend on these sentences."""
STEP_SHARES = (0.45, 0.40, 0.15)
"""Shares of programs of one, two and three steps."""
NUMBER_SHARES = (0.5, 0.25, 0.15, 0.1)
"""Shares of edits over two to five numbers. With two, "not this one" leaves one choice: feedback pays at once."""


# ------------------------------------------------------------------------------------------------ words


@lru_cache(maxsize=1)
def _words() -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for group in word_groups().values() for word in group))


@lru_cache(maxsize=1)
def _names() -> tuple[str, ...]:
    return word_groups()["she"] + word_groups()["he"]


def _made_up(rng: random.Random) -> str:
    word = "".join(rng.choices(SYLLABLES, k=rng.randint(2, 3))) + rng.choice(("", "", "n", "s", "r", "ing", "ed"))
    return word.capitalize() if rng.random() < 0.3 else word


def _word(rng: random.Random) -> str:
    return _made_up(rng) if rng.random() < 0.2 else rng.choice(_words())


def _distinct(rng: random.Random, count: int, draw: Callable[[random.Random], str]) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw(rng)] = None
    return list(found)


def _holder(rng: random.Random) -> str:
    return rng.choice(_names()) if rng.random() < 0.6 else _word(rng)


def _good(rng: random.Random) -> str:
    return rng.choice(word_groups()["things"]) if rng.random() < 0.6 else _word(rng)


def _strewn(words: Sequence[str], rng: random.Random, share: float) -> list[str]:
    """The words with fillers between some of them."""
    mixed: list[str] = []
    for word in words:
        if rng.random() < share:
            mixed.append(_word(rng))
        mixed.append(word)
    return mixed


def _filler(rng: random.Random, level: float, n_numbers: int) -> str:
    """Random words with number0, number1, ... among them in order."""
    words = [_word(rng) for _ in range(rng.randint(4, 8 + round(24 * level)))]
    places = sorted(rng.randint(0, len(words)) for _ in range(n_numbers))
    for i, place in enumerate(places):
        words.insert(place + i, f"number{i}")
    return " ".join(words)


# --------------------------------------------------------------------------------------------- programs


def _n_steps(rng: random.Random) -> int:
    (n,) = rng.choices((1, 2, 3), STEP_SHARES)
    return n


def _n_numbers(rng: random.Random) -> int:
    (n,) = rng.choices((2, 3, 4, 5), NUMBER_SHARES)
    return n


def _program(rng: random.Random, n_numbers: int, n_steps: int) -> Program:
    """A random program in which every step is used; numbers of a sum or a product stand in ascending order."""
    steps: list[Step] = []
    unused: list[int] = []
    for k in range(n_steps):
        operator = rng.choice(ir.OPERATORS)
        operands: list[Operand] = [Number(i) for i in rng.sample(range(n_numbers), 2)]
        wanted = unused[-2:] if k == n_steps - 1 else unused[-1:] if rng.random() < 0.8 else []
        for slot, step in zip(rng.sample((0, 1), 2), wanted, strict=False):
            operands[slot] = StepRef(step)
            unused.remove(step)
        first, second = operands
        if operator in ir.COMMUTATIVE and isinstance(first, Number) and isinstance(second, Number):
            first, second = sorted((first, second), key=lambda n: n.index)
        steps.append(Step(operator, first, second))
        unused.append(k)
    return Program.of(steps)


def _as_problem(text: str, program: Program, n_numbers: int) -> Problem:
    return Problem("skill", text, ir.render(program), None, {"numbers": VALUES[:n_numbers]})


def _wrong(problem: Problem, rng: random.Random) -> str:
    """A wrong program one or two perturbations away from gold."""
    hypothesis = TASK.perturb(problem, rng)
    if rng.random() < 0.3:
        again = TASK.perturb(Problem("skill", problem.text, hypothesis, None, problem.metadata), rng)
        if TASK.diagnose(problem, again):
            hypothesis = again
    return hypothesis


def _hint(faults: Sequence[Fault], rng: random.Random) -> str:
    """Feedback in the task's words, or at times in others and in another order."""
    if not faults or rng.random() < 0.6 or any(f.kind not in HINTS for f in faults):
        return TASK.describe(faults)
    shuffled = rng.sample(list(faults), len(faults))
    return " ".join(rng.choice(HINTS[f.kind]).format(step=f.step, slot=f.slot) for f in shuffled)


def _attempt(skill: str, problem: Problem, rng: random.Random, accept: float = 0.2) -> Exercise:
    """Mend a wrong hypothesis as its feedback says, or keep a right one that is accepted."""
    gold = problem.gold or ""
    hypothesis = gold if rng.random() < accept else _wrong(problem, rng)
    feedback = _hint(TASK.diagnose(problem, hypothesis), rng)
    return Exercise(skill, problem.text, gold, hypothesis, feedback)


def _verdict(skill: str, problem: Problem, rng: random.Random, accept: float = 0.3) -> Exercise:
    """Write the feedback on a right or wrong hypothesis."""
    hypothesis = TASK.rephrase(problem, rng) if rng.random() < accept else _wrong(problem, rng)
    return Exercise(skill, problem.text, TASK.describe(TASK.diagnose(problem, hypothesis)), hypothesis)


def edit(rng: random.Random, level: float) -> Exercise:
    """Mend the slots that feedback names and keep the others; the text tells nothing."""
    n_numbers = _n_numbers(rng)
    program = _program(rng, n_numbers, _n_steps(rng))
    return _attempt("edit", _as_problem(_filler(rng, level, n_numbers), program, n_numbers), rng)


def compare(rng: random.Random, level: float) -> Exercise:
    """Name the differences between the hypothesis and the program that stands in the text."""
    n_numbers = _n_numbers(rng)
    program = _program(rng, n_numbers, _n_steps(rng))
    words = [_word(rng) for _ in range(rng.randint(3, 4 + round(8 * level)))]
    place = rng.randint(0, len(words))
    text = " ".join([*words[:place], ir.render(program).removesuffix(" | EOS"), *words[place:]])
    return _verdict("compare", _as_problem(text, program, n_numbers), rng)


# ------------------------------------------------------------------------------------------------ facts


@dataclass(frozen=True, slots=True)
class World:
    """Facts that bind numbers to pairs of a holder and a good, in the order of the text."""

    pairs: tuple[tuple[str, str], ...]
    text: str


def _world(rng: random.Random, level: float, least: int = 2) -> World:
    n = rng.randint(least, 3 + round(2 * level))
    holders, goods = _distinct(rng, rng.randint(1, n), _holder), _distinct(rng, rng.randint(1, n), _good)
    while len(holders) * len(goods) < n:
        holders = _distinct(rng, n, _holder)
    pairs = rng.sample([(h, g) for h in holders for g in goods], n)
    return World(tuple(pairs), _told(pairs, rng, level))


def _told(pairs: Sequence[tuple[str, str]], rng: random.Random, level: float, start: int = 0) -> str:
    templates = rng.sample(FACTS, 1 + round((len(FACTS) - 1) * level * rng.random()))
    if rng.random() < MADE_UP_SHARE:
        templates = [_made_up_template(rng) for _ in range(rng.randint(1, 2))]
    sentences = [
        rng.choice(templates).format(holder=h, good=g, n=f"number{i}") for i, (h, g) in enumerate(pairs, start)
    ]
    return " ".join(_strewn(" ".join(sentences).split(), rng, 0.1 * level * rng.random()))


def _made_up_template(rng: random.Random) -> str:
    """A sentence pattern that nobody has seen: holder, good and number in any order among random words."""
    parts = rng.sample(["{holder}", "{good}", "{n}"], 3)
    return " ".join(" ".join([part, *(_word(rng) for _ in range(rng.randint(0, 2)))]) for part in parts) + "."


def _demand(program: Program, pairs: Sequence[tuple[str, str]], rng: random.Random) -> str:
    """The program in words: one phrase a step, its numbers named by what they count."""

    def mention(operand: Operand, step: int) -> str:
        if isinstance(operand, StepRef):
            known = RESULTS if operand.step == step - 1 else (RESULTS[0], RESULTS[2])
            return rng.choice(known).format(k=operand.step)
        assert isinstance(operand, Number)
        holder, good = pairs[operand.index]
        return rng.choice(MENTIONS).format(holder=holder, good=good)

    phrases = [
        rng.choice(DEMANDS[s.operator]).format(a=mention(s.first, k), b=mention(s.second, k))
        for k, s in enumerate(program.steps)
    ]
    return "Wanted: " + "; then ".join(phrases) + "."


def _asked(rng: random.Random, level: float) -> Problem:
    world = _world(rng, level)
    program = _program(rng, len(world.pairs), _n_steps(rng))
    demand = _demand(program, world.pairs, rng)
    return _as_problem(f"{world.text} {demand}", program, len(world.pairs))


def solve(rng: random.Random, level: float) -> Exercise:
    """Write the program that the text asks for, over the numbers of its facts."""
    problem = _asked(rng, level)
    return Exercise("solve", problem.text, problem.gold or "")


def revise(rng: random.Random, level: float) -> Exercise:
    """As `edit`, with a text that tells what is right."""
    return _attempt("revise", _asked(rng, level), rng)


def check(rng: random.Random, level: float) -> Exercise:
    """As `revise`, without being told whether the hypothesis is right: what a critic knows before it speaks."""
    exercise = _attempt("check", _asked(rng, level), rng, accept=0.4)
    return replace(exercise, feedback=CHECK)


def judge(rng: random.Random, level: float) -> Exercise:
    """Name the faults of a hypothesis against what the text asks for."""
    return _verdict("judge", _asked(rng, level), rng)


def look_up(rng: random.Random, level: float) -> Exercise:
    """Who has what, which number counts what, who comes second, what changed; one to four questions at a time."""
    world = _world(rng, level)
    if rng.random() < 0.15:
        return _changed(world, rng)
    asked = rng.sample(range(len(world.pairs)), rng.randint(1, min(4, len(world.pairs))))
    questions, answers = [], []
    for i in asked:
        kind = rng.choice(("number", "holder", "good", "place"))
        holder, good = world.pairs[i]
        question = rng.choice(QUESTIONS[kind])
        questions.append(question.format(holder=holder, good=good, n=f"number{i}", k=i + 1))
        answers.append({"number": f"number{i}", "good": good}.get(kind, holder))
    return Exercise("look_up", f"{world.text} {' '.join(questions)}", " ".join(answers))


def _changed(world: World, rng: random.Random) -> Exercise:
    """The facts again with another good in one of them."""
    pairs, i = list(world.pairs), rng.randrange(len(world.pairs))
    while pairs[i] in world.pairs:
        pairs[i] = (pairs[i][0], _good(rng))
    text = f"{world.text} Again: {_told(pairs, rng, 0.0)} {rng.choice(QUESTIONS['changed'])}"
    return Exercise("look_up", text, pairs[i][1])


def relevant(rng: random.Random, level: float) -> Exercise:
    """Tell the numbers that concern one holder or one good from the others."""
    world = _world(rng, level, least=3)
    subject = rng.choice(rng.choice(world.pairs))
    numbers = [f"number{i}" for i, pair in enumerate(world.pairs) if subject in pair]
    return Exercise("relevant", f"{world.text} Which concern {subject}?", " ".join(numbers))


# ------------------------------------------------------------------------------------------- other forms


def copy(rng: random.Random, level: float) -> Exercise:
    """Keep what is accepted, whatever it is."""
    words = " ".join(_word(rng) for _ in range(rng.randint(2, 10 + round(6 * level))))
    return Exercise("copy", _filler(rng, level / 2, 0), words, words, TASK.describe(()))


def fill(rng: random.Random, level: float) -> Exercise:
    """Span corruption: of facts or random words told twice, the blanks of the second telling."""
    text = _world(rng, level).text if rng.random() < 0.5 else _filler(rng, level / 2, 0)
    words = text.split()
    starts = sorted(rng.sample(range(0, len(words), 4), min(4, 1 + len(words) // 6)))
    blanked, target, end = [], [], 0
    for k, start in enumerate(starts):
        length = rng.randint(1, 1 + round(2 * level))
        blanked += [*words[end:start], f"blank{k}"]
        target += [f"blank{k}", *words[start : start + length]]
        end = start + length
    return Exercise("fill", f"{text} Again: {' '.join([*blanked, *words[end:]])}", " ".join(target))


def spot(rng: random.Random, level: float) -> Exercise:
    """Find where two rows of words differ, and name both words of each place."""
    words = _distinct(rng, rng.randint(3, 6 + round(6 * level)), _word)
    row, target = list(words), []
    for k in sorted(rng.sample(range(len(words)), rng.randint(1, 1 + round(2 * level)))):
        row[k] = _word(rng)
        target.append(f"{words[k]}, not {row[k]}.")
    return Exercise("spot", " ".join(words), " ".join(target), " ".join(row))


def steps(rng: random.Random, level: float) -> Exercise:
    """Mend a chain of statements: a wrong, missing or superfluous one, as feedback says."""
    names = _distinct(rng, 3 + round(3 * level), _word)
    chain = [f"{a} is {b}" for a, b in pairwise(names[: rng.randint(3, len(names))])]
    others = [f"{_word(rng)} is {_word(rng)}" for _ in range(1 + round(2 * level))]
    told = rng.sample(chain + others, len(chain) + len(others))
    text = f"{'. '.join(told)}. Start: {names[0]}. End: {chain[-1].split(' is ')[1]}."
    wrong, k = list(chain), rng.randrange(len(chain))
    fault = rng.choice(("incorrect", "missing", "not needed"))
    if fault == "incorrect":
        wrong[k] = rng.choice(others)
    elif fault == "missing":
        del wrong[k]
    else:
        wrong.insert(k, rng.choice(others))
    numbered, mended = (" ".join(f"#{i}: {s}" for i, s in enumerate(each)) for each in (wrong, chain))
    hint = {
        "incorrect": f"The statement #{k} is incorrect.",
        "missing": f"A statement is missing at #{k}.",
        "not needed": f"Statement #{k} is not needed.",
    }[fault]
    return Exercise("steps", text, mended, numbered, hint)


def phrases(rng: random.Random, level: float) -> Exercise:
    """Mend a phrase: a judgment that contradicts, or a word that is missing or out of place."""
    words = _distinct(rng, rng.randint(3, 4 + round(3 * level)), _word)
    good, bad = rng.choice((("right", "wrong"), ("kind", "unkind"), ("fine", "shameful"), ("polite", "rude")))
    judgment, opposite = rng.sample((good, bad), 2)
    k = rng.randrange(len(words))
    fault = rng.choice(("contradiction", "missing", "misplaced"))
    wrong, said = list(words), judgment
    if fault == "contradiction":
        said, hint = opposite, "The judgment contradicts."
    elif fault == "missing":
        after = f"after {words[k - 1]}" if k else "at the start"
        hint = f"Missing: {wrong.pop(k)} {after}."
    else:
        wrong[k] = _word(rng)
        hint = f"Not {wrong[k]} but {words[k]}."
    line = "To {} is {}."
    return Exercise(
        "phrases",
        _filler(rng, level, 0),
        line.format(" ".join(words), judgment),
        line.format(" ".join(wrong), said),
        hint,
    )


SKILLS: Mapping[str, tuple[Callable[[random.Random, float], Exercise], float]] = {
    "edit": (edit, 0.20),
    "revise": (revise, 0.12),
    "solve": (solve, 0.18),
    "check": (check, 0.08),
    "judge": (judge, 0.14),
    "compare": (compare, 0.06),
    "spot": (spot, 0.02),
    "look_up": (look_up, 0.07),
    "relevant": (relevant, 0.03),
    "copy": (copy, 0.02),
    "fill": (fill, 0.02),
    "steps": (steps, 0.03),
    "phrases": (phrases, 0.03),
}
"""Name -> (generator, share of training). A generator takes a level in [0, 1]: more facts, steps and words."""
