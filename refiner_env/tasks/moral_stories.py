"""Moral stories: the IR is a norm, y the moral action that keeps it.

Format, control tokens and the two kinds of mistakes after REFINER (arXiv 2304.01904, Table 1) and its code, on
Moral Stories (Emelin et al., EMNLP 2021): x is `<|SIT|> situation <|INT|> intention <|I_ACT|> immoral action <|NRM|>`,
gold is `norm <|M_ACT|> moral action`.

No comparison of strings can tell exactly whether two norms say the same, so the oracle here is an approximation: a
norm is right when it judges as a right norm does, its action is near to that norm's in chrF (`NEAR`), and no norm that
is listed as wrong is nearer. See `NEAR` for how often it errs. `Problem.gold_metadata` may list, all optional:

- `paraphrases`: other right norms;
- `contradictions`: norms of the inverse judgment;
- `misaligned`: norms about something else.

A hypothesis need not give a moral action. Perturbations and rephrasings give none: they are what critics learn from,
and gold's moral action is never there when a critic is used (REFINER's own critic data has it in every input).

Without gold, only what cannot be read shows (`Task.check`): there is nothing to run. The best rule that was tried, that
a norm approves of the immoral action or condemns the intention (chrF of at least 0.35), flags 1.0% of gold on 720 rows
of Moral Stories' dev file and finds 2% of the contradictions and 10% of the norms about something else.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from refiner_env.tasks import norms
from refiner_env.tasks.norms import OPENINGS, Judgment, Norm
from refiner_env.tasks.phrases import Phrases
from refiner_env.tasks.vignettes import LEVELS, vignette
from refiner_env.types import Fault, ParseFailure, Problem, Scores, Task

TEMPLATES = {
    "contradiction": "Contradiction.",
    "misaligned": 'Semantically misaligned: "{hint}".',
    "syntax": "The norm cannot be read.",
    "too_long": "The norm is too long.",
}
"""The first two are the paper's. Its oracle's hint is the phrase of gold that is missing; here it is the phrase of the
hypothesis that is out of place, since a hint is never gold."""
PHRASES = Phrases(TEMPLATES)

NEAR = 0.5
"""Actions of at least this chrF are taken for the same.

Chosen on the 995 of Moral Stories' 1,000 dev rows that have all lists (4,572 paraphrases, 4,858 contradictions, 5,912
norms about something else), judged with all of a row's lists / without the very norm / by gold alone:

- paraphrases accepted: 100% / 94.6% / 94.5%;
- contradictions rejected: 99.5% / 87.5% / 86.0%;
- misaligned norms rejected: 99.98% / 99.6% / 99.6%.

Of the contradictions that gold alone lets pass, two in five say what gold says (gold itself, or gold negated twice:
"It's rude not to ..."), most others exchange a word of the action for an antonym, which needs a dictionary.
Any two rows' norms are taken for the same in 0.2% of pairs.
"""
NEAR_ACTION = 0.5
"""The same for moral actions; they have no paraphrases to choose by. On the same 1,000 rows it is reached by 0.1% of
other rows' moral actions, and by 7.8% of the stories' own immoral actions, which is why those are ruled out."""

UNRELATED = (
    "paint the fence blue",
    "whistle in the dark",
    "buy a bigger umbrella",
    "count the clouds",
    "oil the hinges",
    "grow pumpkins",
)
"""What no story is about: for misaligned norms where neither gold's lists nor the story give any."""

parse = lru_cache(maxsize=1 << 16)(norms.parse)


class MoralStories(Task[Norm]):
    """x: a situation, an intention and an immoral action; z: the norm that it breaks; y: a moral action."""

    name = "MoralStories"
    fault_kinds = (*TEMPLATES, "other")
    phrases = PHRASES
    levels = tuple(LEVELS)
    default_level = "medium"
    perturbations = ("contradiction", "misaligned")
    marks = (*norms.STORY_MARKS, norms.ACTION_MARK)
    guess = "It's wrong to hurt others."
    about = (
        "The problem is a story: after <|SIT|> a situation, after <|INT|> an intention, after <|I_ACT|> an immoral"
        " action. The hypothesis is the moral norm which that action breaks, such as `You should not lie`; after"
        " <|M_ACT|> a moral action may follow. It is contradictory when it judges the wrong way round, and semantically"
        " misaligned when it is about something else."
    )

    def parse(self, text: str) -> Norm | ParseFailure:
        return parse(text) if len(text) <= norms.MAX_CHARS else norms.parse(text)

    def render(self, ir: Norm) -> str:
        return norms.render(ir)

    def execute(self, ir: Norm, problem: Problem) -> str:
        """The hypothesis's moral action; "" where it gives none."""
        return ir.action

    def score(self, problem: Problem, hypothesis: str) -> Scores:
        """Compare with gold and its paraphrases; only the norm counts for all but `answer`.

        `ir_exact`: the text of gold's norm, case, spacing and final punctuation aside; `ir_equivalent`: `diagnose`
        finds no fault; `answer`: the moral action is near gold's (`near_answer`); `similarity`: the best chrF of
        the whole norm with gold's and its paraphrases, in [0, 1].
        """
        norm = self.parse(hypothesis)
        if isinstance(norm, ParseFailure):
            return Scores(False, False, False, 0.0)
        gold = gold_norm(problem)
        similarity = chrf(norm.key, tuple(n.key for n in (gold, *listed(problem, "paraphrases"))))
        return Scores(norm.key == gold.key, not faults_of(problem, norm), near_answer(problem, norm.action), similarity)

    def same(self, problem: Problem, a: str, b: str) -> bool:
        first, second = self.parse(a), self.parse(b)
        if isinstance(first, ParseFailure) or isinstance(second, ParseFailure):
            return a == b
        return nearness(first, (second,), first.judgment) >= NEAR

    def diagnose(self, problem: Problem, hypothesis: str) -> tuple[Fault, ...]:
        """At most one fault: of a norm about something else, the judgment is not judged."""
        norm = self.parse(hypothesis)
        if isinstance(norm, ParseFailure):
            return (Fault(norm.kind, hint=norm.message, span=norm.span),)
        return faults_of(problem, norm)

    def right_share(self, problem: Problem, hypothesis: str) -> float:
        """Judgment and action are the two places: 0.5 for a contradiction, 0 for a norm about something else."""
        faults = self.diagnose(problem, hypothesis)
        return {(): 1.0, ("contradiction",): 0.5}.get(tuple(fault.kind for fault in faults), 0.0)

    def perturb(self, problem: Problem, rng: random.Random, kind: str | None = None) -> str:
        """A wrong norm, without a moral action; `kind` is one of `perturbations`, None for any.

        It comes from gold's lists where they have one that is found out as what it is, else it is made: gold under
        the inverse judgment, or a judgment of what the story's persons want and do.
        """
        kinds = [kind] if kind else []
        kinds += rng.sample(self.perturbations, len(self.perturbations))
        for name in kinds:
            for text in _WRONG[name](problem, rng):
                if [fault.kind for fault in self.diagnose(problem, text)] == [name]:
                    return text
        return "?"  # where everything is right, only what is no norm is wrong

    def rephrase(self, problem: Problem, rng: random.Random) -> str:
        """Gold's norm, one of its paraphrases, or gold in other words of judgment, without a moral action."""
        gold = gold_norm(problem)
        paraphrases = [norm.text for norm in listed(problem, "paraphrases")]
        text = rng.choice([gold.text, *(paraphrases or [norms.rejudge(gold, gold.judgment, rng)])])
        return gold.text if self.diagnose(problem, text) else text

    def edit(self, text: str, hypothesis: str, faults: Sequence[Fault], rng: random.Random) -> str:
        norm = self.parse(hypothesis)
        if isinstance(norm, ParseFailure):
            return self.guess
        kinds = {fault.kind for fault in faults}
        changed = norm.text
        if "misaligned" in kinds:
            others = [phrase for phrase in phrases_of(text) if phrase != norm.phrase]
            changed = _judged(rng.choice(others or UNRELATED), rng)
        elif "contradiction" in kinds:
            changed = norms.rejudge(norm, norm.judgment.other, rng)
        return norms.render(replace(norm, text=changed))

    def generate(self, seed: int, index: int, level: str | None = None) -> Problem:
        return vignette(seed, index, level or self.default_level)


# ------------------------------------------------------------------------------------------------ the oracle


def gold_norm(problem: Problem) -> Norm:
    """The parsed gold of a problem that has one."""
    return problem.read_gold(parse, "norm")


def listed(problem: Problem, key: str) -> list[Norm]:
    """The norms of `problem.gold_metadata[key]`; those that cannot be read are left out."""
    found = (parse(text) for text in problem.gold_metadata.get(key) or ())
    return [norm for norm in found if isinstance(norm, Norm)]


def faults_of(problem: Problem, norm: Norm) -> tuple[Fault, ...]:
    """What is wrong with a norm, by the nearest of gold's norms and lists (module docstring)."""
    gold, paraphrases = gold_norm(problem), listed(problem, "paraphrases")
    contradictions, misaligned = listed(problem, "contradictions"), listed(problem, "misaligned")
    if norm.key in [other.key for other in (gold, *paraphrases)]:
        return ()
    if norm.key in [other.key for other in contradictions]:
        return (Fault("contradiction"),)
    right = _readable(gold, tuple(paraphrases))
    agrees = nearness(norm, right, norm.judgment)
    contradicts = nearness(norm, contradictions, norm.judgment)
    strays = nearness(norm, misaligned, norm.judgment)
    if agrees >= NEAR and agrees >= max(contradicts, strays):
        return ()
    contradicts = max(contradicts, nearness(norm, right, norm.judgment.other))
    if contradicts >= NEAR and contradicts >= strays:
        return (Fault("contradiction"),)
    return (Fault("misaligned", hint=norm.phrase.replace('"', "'")),)


@lru_cache(maxsize=1 << 14)
def _readable(gold: Norm, paraphrases: tuple[Norm, ...]) -> tuple[Norm, ...]:
    """Gold and its paraphrases, but for those that read as its contradictions: no table has the words they judge by."""
    return (gold, *(other for other in paraphrases if nearness(other, [gold], other.judgment.other) < NEAR))


def nearness(norm: Norm, others: Sequence[Norm], judgment: Judgment) -> float:
    """The best chrF of a norm's action with the actions of those others that judge so; 0 if none does.

    Others whose action is the opposite, as "be dishonest" of "be honest", count under the opposite judgment.
    """
    phrase = norm.phrase.lower()
    judged = {(other.phrase.lower(), other.judgment): None for other in others}  # each once, in order
    return chrf(phrase, tuple(p for p, theirs in judged if (theirs is judgment) != opposed(phrase, p)))


def near_answer(problem: Problem, action: str) -> bool:
    """Whether a moral action is near gold's in chrF, and nearer than to the immoral action of the story."""
    nearness_to_gold = chrf(action, (str(problem.answer or ""),))
    immoral = _IMMORAL.search(problem.text)
    return nearness_to_gold >= NEAR_ACTION and (not immoral or nearness_to_gold > chrf(action, (immoral[1],)))


_IMMORAL = re.compile(r"<\|I_ACT\|>\s*(.*?)\s*(?:<\|NRM\|>|$)", re.DOTALL)
_NEGATING = ("un", "in", "im", "ir", "il", "dis")


@lru_cache(maxsize=1 << 16)
def opposed(a: str, b: str) -> bool:
    """Whether one phrase has the negated form of a word of the other: "honest", "dishonest"; "careful", "careless"."""
    mine, theirs = set(a.split()), set(b.split())
    return (_negated(mine - theirs, theirs - mine) + _negated(theirs - mine, mine - theirs)) % 2 == 1


def _negated(words: set[str], others: set[str]) -> int:
    forms = [{prefix + w for prefix in _NEGATING} | {re.sub("ful$", "less", w)} for w in words if len(w) > 3]
    return sum(bool(form & others) for form in forms)


@lru_cache(maxsize=1 << 16)
def chrf(text: str, others: tuple[str, ...]) -> float:
    """The best chrF (Popovic 2015, by sacrebleu) of a text with any of the others, in [0, 1]; 0 for none.

    With beta = 1: precision and recall count alike, so that it is symmetric and that saying more does not pay.
    """
    if not text or not others:
        return 0.0
    return 1.0 if text in others else min(1.0, _metric().sentence_score(text, list(others)).score / 100)


@lru_cache(maxsize=1)
def _metric() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(beta=1)


# ------------------------------------------------------------------------------------------- wrong norms

_PARTS = re.compile(r"<\|(?:SIT|INT|I_ACT|NRM)\|>")
_WISHES = re.compile(
    r"\b(?:want|wish|need|hope|plan|intend|tr(?:y|ie)|decide|like|would like|love|prefer|mean|aim)(?:e?[sd])? to (.+)",
    re.I,
)
_CLAUSE = re.compile(r"[,;]| (?:and|but|because|so|when|who|even though|although|instead) ")
_YOURS = re.compile(r"\b(?:his|her|their|its)\b", re.IGNORECASE)
_SELF = re.compile(r"\b(?:himself|herself|themselves)\b", re.IGNORECASE)
_ADVERBS = r"(?:\w+ly|also|then|just|still|never|always|often|soon)"
_DOES = re.compile(rf"(?:[A-Z][\w'.-]*|he|she|they)(?: and \w+)? (?:{_ADVERBS} )*(?P<verb>[a-z]+s) (?P<rest>.+)")


@lru_cache(maxsize=1 << 12)
def phrases_of(text: str) -> tuple[str, ...]:
    """What the persons of a story want and do, as bare verb phrases, by rule of thumb.

    "Ann wants to sell her car, as it is old." gives "sell your car", and so does "Ann sells her car and walks."
    """
    found: dict[str, None] = {}
    for sentence in (s.strip() for part in _PARTS.split(text) for s in re.split(r"(?<=[.!?])\s+", part)):
        if wish := _WISHES.search(sentence):
            phrase = wish[1]
        elif does := _DOES.match(sentence):
            phrase = f"{_infinitive(does['verb'])} {does['rest']}"
        else:
            continue
        phrase = _SELF.sub("yourself", _YOURS.sub("your", _CLAUSE.split(" ".join(phrase.split()))[0])).rstrip(" .!?")
        if " " in phrase:
            found[phrase[:200]] = None
    return tuple(found)


def _infinitive(verb: str) -> str:
    """ "goes" -> "go"."""
    if verb in ("is", "has", "was"):
        return "have" if verb == "has" else "be"
    if verb.endswith("ies") and len(verb) > 4:
        return f"{verb[:-3]}y"
    return verb[:-2] if re.search(r"(?:ss|sh|ch|x|zz|o)es$", verb) else verb[:-1]


def _judged(phrase: str, rng: random.Random) -> str:
    return f"{rng.choice(OPENINGS[rng.choice(list(Judgment))])} {phrase}."


def _contradictions(problem: Problem, rng: random.Random) -> Iterator[str]:
    given = [norm.text for norm in listed(problem, "contradictions")]
    yield from rng.sample(given, len(given))
    gold = gold_norm(problem)
    for right in [gold, *listed(problem, "paraphrases")]:
        yield norms.rejudge(right, right.judgment.other, rng)
    yield f"{rng.choice(OPENINGS[gold.judgment.other])} {gold.phrase}."


def _misaligned(problem: Problem, rng: random.Random) -> Iterator[str]:
    given = [norm.text for norm in listed(problem, "misaligned")]
    yield from rng.sample(given, len(given))
    for phrases in (phrases_of(problem.text), UNRELATED):
        yield from (_judged(phrase, rng) for phrase in rng.sample(phrases, len(phrases)))


_WRONG = {"contradiction": _contradictions, "misaligned": _misaligned}
