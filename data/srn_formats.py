"""Synthetic natural-language reasoning (HELM's synthetic_reasoning_natural, REFINER's srn files): rows -> problems.

x is the rules and then the fact, z the steps `#0: tiny is small #1: Dan is person`, y what follows, or `Nothing`.
Official steps are kept where they are sound and sufficient; else the task's reasoner derives them: where two statements
stand glued together (`#1: tiny is smallmean is bad`, flagged `glued_steps`), where one that the rule needs is left out
(`derived_steps`), and in HELM's files, which have none (`no_steps`).
"""

from __future__ import annotations

from data.tables import Cells, MalformedError, Reading, text_of, texts_of
from refiner_env.tasks.inference import parse, render
from refiner_env.tasks.synthetic_reasoning import faults_against
from refiner_env.tasks.worlds import NOTHING, World, read_world
from refiner_env.types import ParseFailure, Problem


def refiner_srn(row: Cells, uid: str) -> Reading:
    """REFINER's srn_*.json: `explanations` are the steps, `consequents` a text without final dot."""
    made = _world(row)
    derived, stated = made.derive(), parse(text_of(row, "explanations"))
    if isinstance(stated, ParseFailure):
        return _reading(row, uid, made, render(derived), "glued_steps")
    if faults_against(stated, derived, made):
        return _reading(row, uid, made, render(derived), "derived_steps")
    return _reading(row, uid, made, render(stated))


def helm_srn(row: Cells, uid: str) -> Reading:
    """HELM's {easy,medium,hard}/*.json: no steps, and the consequents as a list of one text with its final dot."""
    made = _world(row)
    return _reading(row, uid, made, render(made.derive()), "no_steps")


def _reading(row: Cells, uid: str, made: World, gold: str, *repairs: str) -> Reading:
    """The problem under its stated answer, and whether that is what follows."""
    consequents = row["consequents"]
    stated = texts_of(row, "consequents") if isinstance(consequents, list) else (text_of(row, "consequents"),)
    if len(stated) > 1:
        raise MalformedError.cell("consequents", list(stated), "one text is expected, with `and` between conclusions")
    answer = (*stated, NOTHING)[0].removesuffix(".").removeprefix("The ")
    answer = NOTHING if answer.startswith(NOTHING) else answer
    disagreement = "" if made.answer == answer else f"{made.answer!r} follows, the stated answer is {answer!r}"
    metadata = {"repairs": repairs} if repairs else {}
    return Reading(Problem(uid, str(made), gold, answer, metadata), disagreement, wrong_label=bool(disagreement))


def _world(row: Cells) -> World:
    """The world that rules and fact tell; spelled again, it is x."""
    rules, fact = texts_of(row, "rules"), text_of(row, "fact")
    text = " ".join((*rules, fact))
    if made := read_world(text):
        return made
    wrong = next((rule for rule in rules if read_world(f"{rule} {fact}") is None), fact)
    raise MalformedError.cell("rules", wrong, "it is no `If X is A, then X is B.`, or the fact no `X is A and B.`")
