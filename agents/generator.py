"""The generator: a language model that writes hypotheses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agents.lm import LanguageModel
from agents.models import load_model
from agents.prompts import generator_prompts
from refiner_env.memory import Memory
from refiner_env.types import Agent, Observations

BEAMS = 4
"""Where the greedy hypothesis was tried before, the likeliest of this many that was not is proposed."""


class Generator(Agent):
    """Acts by decoding from a `LanguageModel`.

    Greedily it never proposes in one episode what it has proposed before, as far as beam search finds anything else:
    an episode goes on because the last hypotheses were rejected, and the prompt tells only the last. With `top_p` it
    samples from the nucleus of this mass, and may repeat itself.
    """

    def __init__(self, lm: LanguageModel, top_p: float | None = None) -> None:
        self.lm, self.top_p, self.memory = lm, top_p, Memory()

    @classmethod
    def load(cls, folder: str | Path) -> Generator:
        """The generator of a saved model, decoding greedily."""
        return cls(load_model(folder))

    def act(self, observations: Observations) -> list[str]:
        prompts = generator_prompts(observations)
        hypotheses = self.lm.generate(prompts, top_p=self.top_p)
        if self.top_p is None:
            tried = self.memory.tried(observations)
            repeated = [i for i, hypothesis in enumerate(hypotheses) if hypothesis in tried[i]]
            beams = self.lm.likeliest([prompts[i] for i in repeated], BEAMS)
            for i, found in zip(repeated, beams, strict=True):
                hypotheses[i] = next((other for other in found if other not in tried[i]), hypotheses[i])
            self.memory.add(observations, hypotheses)
        return hypotheses


class Retrier(Agent):
    """The control without feedback: greedy first, then new samples of the same first prompt."""

    def __init__(self, lm: LanguageModel, top_p: float) -> None:
        self.lm, self.top_p = lm, top_p

    def act(self, observations: Observations) -> list[str]:
        blank = [""] * len(observations["problem"])
        turn = observations["turn"]
        first: Observations = {
            "problem": observations["problem"],
            "hypothesis": blank,
            "feedback": blank,
            "turn": turn,
        }
        prompts = generator_prompts(first)
        hypotheses = [""] * len(prompts)
        for top_p, places in ((None, np.flatnonzero(turn == 0)), (self.top_p, np.flatnonzero(turn))):
            written = self.lm.generate([prompts[i] for i in places], top_p=top_p)
            for i, hypothesis in zip(places, written, strict=True):
                hypotheses[i] = hypothesis
        return hypotheses
