"""Moral Stories in the formats of REFINER's files and of the original corpus: rows -> problems.

x is `<|SIT|> situation <|INT|> intention <|I_ACT|> immoral action <|NRM|>`, z is `norm <|M_ACT|> moral action` and y
the moral action. REFINER's critic files hold norms known to be right and wrong beside it; they are cleaned:

- `underscores`: WordNet's `all_right` becomes `all right`.
- `contradictory`: a text under two labels is dropped from both, and gold is never among the wrong ones. Case and
  punctuation make no difference.
- `swapped_words`: the files' paraphrases and contradictions are gold with another judgement in front (`It is rude to`),
  or with adjectives swapped by WordNet (`five-year erstwhile child`), in up to 80 combinations. A text that brings in
  a word which neither gold, its action, its inverse nor a plain judgement has is dropped.
"""

from __future__ import annotations

import re
from typing import Any

from data.tables import Cells, MalformedError, Reading, text_of, texts_of
from refiner_env.tasks.norms import ACTION_MARK, STORY_MARKS, story_text
from refiner_env.types import Problem

_JUDGEMENTS = (
    "it it's is isn't you one should shouldn't must mustn't not to for "
    "good bad right wrong usual unusual proper improper important rude"
)
JUDGEMENTS = frozenset(_JUDGEMENTS.split())
"""Words of plain judgements: a paraphrase of a norm may bring them in."""
STORY = ("situation", "intention", "immoral_action", "norm", "moral_action")


def moral_actor(row: Cells, uid: str) -> Reading:
    """REFINER's actor_*.json: the generator's input and output as two texts."""
    text, gold = text_of(row, "actor_input"), text_of(row, "actor_output")
    parts = re.fullmatch(r"(.+?)".join(map(re.escape, STORY_MARKS)), text)
    if not parts or not all(part.strip() for part in parts.groups()):
        raise MalformedError.cell("actor_input", text, f"expected {' ... '.join(STORY_MARKS)}")
    norm, _, action = (part.strip() for part in gold.partition(ACTION_MARK))
    if not norm or not action or ACTION_MARK in action:
        raise MalformedError.cell("actor_output", gold, f"expected a norm, {ACTION_MARK} and an action")
    return Reading(_problem(row, "id", uid, [part.strip() for part in parts.groups()] + [norm, action], {}, []))


def moral_full(row: Cells, uid: str) -> Reading:
    """The original corpus (demelin/moral_stories): one story in its sentences."""
    return Reading(_problem(row, "ID", uid, [text_of(row, key) for key in STORY], {}, []))


def moral_critic(row: Cells, uid: str) -> Reading:
    """REFINER's critic_*_prep.json: a story with norms that say the same, the opposite, and something else."""
    story = [text_of(row, key) for key in STORY]
    right, wrong, other = (list(texts_of(row, key)) for key in ("other_norms", "other_anti_norms", "fake_norms"))
    if row["anti_norm"] is not None:
        wrong.insert(0, text_of(row, "anti_norm"))
    repairs = []
    if any("_" in text for text in (*right, *wrong, *other)):
        repairs.append("underscores")
        right, wrong, other = ([text.replace("_", " ") for text in texts] for texts in (right, wrong, other))

    norm = story[STORY.index("norm")]
    keys = [{_key(norm), *map(_key, right)}, set(map(_key, wrong)), set(map(_key, other))]
    two_labels = keys[0] & keys[1] | keys[0] & keys[2] | keys[1] & keys[2]
    if two_labels:
        repairs.append("contradictory")

    known = JUDGEMENTS.union(
        *(_words(text_of(row, key)) for key in ("norm", "norm_action", "anti_norm") if row.get(key) is not None)
    )
    plain = [t for t in right if _words(t) <= known], [t for t in wrong if _words(t) <= known]
    if len(plain[0]) < len(right) or len(plain[1]) < len(wrong):
        repairs.append("swapped_words")

    hidden = {
        "paraphrases": _distinct(plain[0], two_labels | {_key(norm)}),
        "contradictions": _distinct(plain[1], two_labels),
        "misaligned": _distinct(other, two_labels),
    }
    return Reading(_problem(row, "id", uid, story, hidden, repairs))


def _problem(
    row: Cells, key: str, uid: str, story: list[str], hidden: dict[str, tuple[str, ...]], repairs: list[str]
) -> Problem:
    """The problem of a story's five texts, under the corpus's own id where the row has one."""
    *given, norm, action = story
    metadata: dict[str, Any] = {"repairs": tuple(repairs)} if repairs else {}
    uid = f"moral/{text_of(row, key)}" if row.get(key) else uid
    return Problem(uid, story_text(*given), f"{norm} {ACTION_MARK} {action}", action, metadata, hidden)


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text.casefold().replace("\u2019", "'")))


def _distinct(texts: list[str], without: set[str]) -> tuple[str, ...]:
    """The texts in order, each once, less those whose key is in `without`."""
    first = {_key(text): text for text in reversed(texts) if _key(text) not in without}
    return tuple(text for text in texts if first.get(_key(text)) is text)
