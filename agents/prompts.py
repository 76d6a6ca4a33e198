"""The one place where observations become model input, for generators and critics alike.

    generator, first turn:   <problem>
    generator, later turns:  <problem> <previous> <last hypothesis> <hint> <feedback>
                             (with a history of k turns: the last k, each so, oldest first)
    critic:                  <problem> <previous> <hypothesis>

A decoder-only model reads `<answer>` after it, or, where its tokenizer has a chat template, all of it as a user's
message (`decoder_only.py`).

REFINER's code writes the first two in three inconsistent ways with marks that its tokenizer does not
know; here the marks are tokens, added to any tokenizer that lacks them.
"""

from __future__ import annotations

from collections.abc import Sequence

from refiner_env.types import Observations

PREVIOUS, HINT, ANSWER = "<previous>", "<hint>", "<answer>"
CONTROL_TOKENS = (PREVIOUS, HINT)
_SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")


def plain(text: str) -> str:
    """Text without anything that could be read as a control token, or that a tokenizer refuses.

    White space becomes single spaces, and half of a surrogate pair a question mark.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    for token in (*CONTROL_TOKENS, ANSWER, *_SPECIAL_TOKENS):
        text = text.replace(token, token.strip("</>"))
    return " ".join(text.split())


def generator_prompt(problem: str, *turns: tuple[str, str]) -> str:
    """The generator's input: the problem, and (hypothesis, feedback) of earlier turns; those of "" are left out."""
    told = [f"{PREVIOUS} {plain(z)} {HINT} {plain(f)}" for z, f in turns if z or f]
    return " ".join([plain(problem), *told])


def generator_prompts(observations: Observations) -> list[str]:
    """One prompt per observation."""
    last = {"hypothesis": observations["hypothesis"], "feedback": observations["feedback"]}
    columns = [zip(t["hypothesis"], t["feedback"], strict=True) for t in (*observations.get("history", ()), last)]
    return [generator_prompt(*row) for row in zip(observations["problem"], *columns, strict=True)]


def critic_prompts(problems: Sequence[str], hypotheses: Sequence[str]) -> list[str]:
    """The critic's input for each (problem, hypothesis)."""
    return [f"{plain(x)} {PREVIOUS} {plain(z)}" for x, z in zip(problems, hypotheses, strict=True)]
