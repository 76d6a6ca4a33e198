"""The generator: a language model that writes hypotheses."""

from __future__ import annotations

from agents.prompts import generator_prompts
from agents.seq2seq import Seq2Seq
from refiner_env.types import Agent, Observations


class Generator(Agent):
    """Acts by decoding from a `Seq2Seq`: greedily, or from the nucleus of mass `top_p`."""

    def __init__(self, lm: Seq2Seq, top_p: float | None = None) -> None:
        self.lm, self.top_p = lm, top_p

    def act(self, observations: Observations) -> list[str]:
        return self.lm.generate(generator_prompts(observations), top_p=self.top_p)


class Retrier(Agent):
    """The control without feedback: greedy first, then new samples of the same first prompt."""

    def __init__(self, lm: Seq2Seq, top_p: float) -> None:
        self.lm, self.top_p = lm, top_p

    def act(self, observations: Observations) -> list[str]:
        blank = [""] * len(observations["problem"])
        first: Observations = {**observations, "hypothesis": blank, "feedback": blank}
        greedy = not observations["turn"].any()
        return self.lm.generate(generator_prompts(first), top_p=None if greedy else self.top_p)
