"""Synthetic natural-language reasoning (HELM's synthetic_reasoning_natural, REFINER's srn files): rows -> problems.

x is the rules and then the fact, z the steps `#0: tiny is small #1: Dan is person`, y what follows, or `Nothing`.
In REFINER's files two statements of one step may stand glued together (`#1: tiny is smallmean is bad`); they are
parted where one known word ends and the next begins.
"""

from __future__ import annotations

import re

from data.tables import Cells, MalformedError, Reading, text_of, texts_of
from refiner_env.types import Problem

INVALID = "#0: The argument is invalid!!"
"""Gold where no rule applies."""
NOTHING = "Nothing"
_PROPERTIES = (
    "smart big small old round boring weak strong bad good red purple blue green clean slow fast beautiful happy cold "
    "hot young sad scary soft"
)
_SYNONYMS = (
    "intelligent clever wise enormous huge giant little tiny ancient antique circular spherical dull fragile frail "
    "powerful muscular mean evil wicked kind nice crimson violet cobalt viridian tidy sluggish quick pretty glad "
    "cheerful elated cool chill warm"
)
_ENTITIES = (
    "person animal plant Alice Bob Carol Dan Erin Frank rose tree poppy dandelion sunflower cat panda dog hippo bear "
    "elephant giraffe rabbit cow lion squirrel hedgehog tiger mouse"
)
WORDS = frozenset(f"{_PROPERTIES} {_SYNONYMS} {_ENTITIES}".split())
"""Every word that a statement of these files is about. No two of them joined can be parted in two ways."""
_STEP = re.compile(r"#[0-9]+:")
_GLUED = re.compile(r"(\w+) is (\w+) is (\w+)")


def refiner_srn(row: Cells, uid: str) -> Reading:
    """REFINER's srn_*.json: `explanations` are the steps, `consequents` a text without final dot."""
    answer = _answer(text_of(row, "consequents"))
    steps, glued = _steps(text_of(row, "explanations"))
    metadata = {"repairs": ("glued_steps",)} if glued else {}
    last = NOTHING if steps == [INVALID.removeprefix("#0: ")] else steps[-1]
    disagreement = "" if last == answer else f"the steps end with {last!r}, the stated answer is {answer!r}"
    gold = " ".join(f"#{index}: {step}" for index, step in enumerate(steps))
    return Reading(Problem(uid, _text(row), gold, answer, metadata), disagreement, wrong_label=bool(disagreement))


def helm_srn(row: Cells, uid: str) -> Reading:
    """HELM's {easy,medium,hard}/*.json: no steps, so gold is None (`no_gold`) and only the answer is known."""
    consequents = row["consequents"]
    stated = texts_of(row, "consequents") if isinstance(consequents, list) else (text_of(row, "consequents"),)
    if len(stated) > 1:
        raise MalformedError.cell("consequents", list(stated), "one text is expected, with `and` between conclusions")
    return Reading(Problem(uid, _text(row), None, _answer(*stated or (NOTHING,)), {"repairs": ("no_gold",)}))


def _text(row: Cells) -> str:
    return " ".join((*texts_of(row, "rules"), text_of(row, "fact")))


def _answer(stated: str) -> str:
    if stated.startswith(NOTHING):
        return NOTHING
    return stated.removesuffix(".").removeprefix("The ")


def _steps(text: str) -> tuple[list[str], bool]:
    """The statements of the steps, and whether some had to be parted."""
    before, *parts = (part.strip() for part in _STEP.split(text))
    if before or not parts or not all(parts):
        raise MalformedError.cell("explanations", text, "expected steps as #0: ... #1: ...")
    statements: list[str] = []
    for part in parts:
        statements += _parted(part, text)
    return statements, len(statements) > len(parts)


def _parted(statement: str, text: str) -> list[str]:
    match = _GLUED.fullmatch(statement)
    if not match:
        return [statement]
    first, middle, last = match.groups()
    cuts = [i for i in range(1, len(middle)) if middle[:i] in WORDS and middle[i:] in WORDS]
    if not cuts:
        raise MalformedError.cell("explanations", text, f"cannot tell where {middle!r} has to be parted")
    return [f"{first} is {middle[: cuts[0]]}", f"{middle[cuts[0] :]} is {last}"]
