"""The generator: a language model that writes hypotheses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agents.lm import LanguageModel
from agents.models import load_model
from agents.prompts import generator_prompts
from refiner_env.draws import Draws
from refiner_env.memory import Memory
from refiner_env.types import Agent, Observations

BEAMS = 4
"""Where the greedy hypothesis was tried before, the likeliest of this many that was not is proposed."""


class Generator(Agent):
    """Acts by decoding from a `LanguageModel`.

    Greedily it never proposes in one episode what it has proposed before, as far as beam search finds anything else:
    an episode goes on because the last hypotheses were rejected, and the prompt tells only the last. With `top_p` it
    samples from the nucleus of this mass, and may repeat itself; a sample follows from prompt and seed, and from how
    often it sampled for the problem since seeding.
    """

    def __init__(self, lm: LanguageModel, top_p: float | None = None, seed: int = 0) -> None:
        self.lm, self.top_p, self.memory = lm, top_p, Memory()
        self.seed(seed)

    @classmethod
    def load(cls, folder: str | Path) -> Generator:
        """The generator of a saved model, decoding greedily."""
        return cls(load_model(folder))

    def seed(self, seed: int) -> None:
        self._draws = Draws(seed)

    def act(self, observations: Observations) -> list[str]:
        prompts = generator_prompts(observations)
        seeds = self._draws.seeds(observations["problem"]) if self.top_p else None
        hypotheses = self.lm.generate(prompts, top_p=self.top_p, seeds=seeds)
        if self.top_p is None:
            tried = self.memory.tried(observations)
            repeated = [i for i, hypothesis in enumerate(hypotheses) if hypothesis in tried[i]]
            beams = self.lm.likeliest([prompts[i] for i in repeated], BEAMS)
            for i, found in zip(repeated, beams, strict=True):
                hypotheses[i] = next((other for other in found if other not in tried[i]), hypotheses[i])
            self.memory.add(observations, hypotheses)
        return hypotheses


class Retrier(Agent):
    """The control without feedback: greedy first, then new samples of the same first prompt, drawn as `Generator`'s."""

    def __init__(self, lm: LanguageModel, top_p: float, seed: int = 0) -> None:
        self.lm, self.top_p = lm, top_p
        self.seed(seed)

    def seed(self, seed: int) -> None:
        self._draws = Draws(seed)

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
        for top_p, chosen in ((None, turn == 0), (self.top_p, turn > 0)):
            places = np.flatnonzero(chosen).tolist()
            seeds = self._draws.seeds(observations["problem"][i] for i in places)
            written = self.lm.generate([prompts[i] for i in places], top_p=top_p, seeds=seeds)
            for i, hypothesis in zip(places, written, strict=True):
                hypotheses[i] = hypothesis
        return hypotheses
