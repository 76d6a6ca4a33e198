"""Critics made of other critics: noise, ablations of what is said, a vote, a clock.

Each takes the inner critic as anything that `resolve_critic` accepts.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from refiner_env.critics.boundary import Boundary
from refiner_env.critics.naming import resolve_critic
from refiner_env.draws import Draws
from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.types import Critic, Fault, Feedback, Problem, Task


class CriticWrapper(Critic):
    """Passes everything on to an inner critic: sees gold if that does, is seeded as that is."""

    def __init__(self, task: Task[Any], critic: str | Critic = "oracle") -> None:
        self.task, self.inner = task, resolve_critic(critic, task)
        self.uses_gold, self.deterministic = self.inner.uses_gold, self.inner.deterministic

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return self.inner.critique(problems, hypotheses)

    def seed(self, seed: int) -> None:
        self.inner.seed(seed)

    @property
    def identity(self) -> str:
        return f"{type(self).__name__}({self.inner.identity})"


class NoisyCritic(CriticWrapper):
    """Random feedback in place of another critic's, with probability epsilon: the paper's noise study.

    Random feedback accepts, or names one or two faults of the task's kinds at random places, each as often. The other
    critic is not asked for what is replaced. What is drawn follows from the seed, the problem's uid, and how often it
    came up since seeding: not from what else is in the batch.

    Args:
        epsilon: the probability, in [0, 1].
        seed: of the noise, until an environment seeds it.
    """

    def __init__(self, task: Task[Any], critic: str | Critic = "oracle", epsilon: float = 0.25, seed: int = 0) -> None:
        super().__init__(task, critic)
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 <= epsilon <= 1:
            raise OptionError(f"epsilon of a noisy critic is {epsilon!r}: it must be a number between 0 and 1.")
        if not isinstance(seed, int):
            raise OptionError(f"seed of a noisy critic is {seed!r}: it must be a whole number.")
        self.epsilon, self._first_seed = epsilon, seed
        self.seed(seed)

    def seed(self, seed: int) -> None:
        self._draws = Draws(seed)
        super().seed(random.Random(seed).getrandbits(32))  # another number, so that noise on noise is independent

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        drawn = [self._drawn(*one) for one in zip(problems, hypotheses, strict=True)]
        kept = [i for i, feedback in enumerate(drawn) if feedback is None]
        said = self.inner.critique([problems[i] for i in kept], [hypotheses[i] for i in kept]) if kept else []
        asked = dict(zip(kept, said, strict=True))
        return [feedback or asked[i] for i, feedback in enumerate(drawn)]

    def _drawn(self, problem: Problem, hypothesis: str) -> Feedback | None:
        """Random feedback, or None where the other critic is asked."""
        rng = self._draws.of(problem.uid)
        if rng.random() >= self.epsilon:
            return None
        steps = len(re.findall(r"#[0-9]{1,4}\s*:", hypothesis[:10_000])) or 1
        words = hypothesis[:10_000].split() or ["nothing"]
        return self.task.feedback([self.task.phrases.draw(rng, steps, words) for _ in range(rng.randrange(3))])

    @property
    def identity(self) -> str:
        return f"noisy({self.inner.identity}, {self.epsilon}, {self._first_seed})"


class ScalarCritic(CriticWrapper):
    """Another critic's verdict without its words: the accepting phrase, or nothing. An ablation of feedback."""

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        said = self.inner.critique(problems, hypotheses)
        return [feedback if feedback.accepted else replace(feedback, text="", faults=()) for feedback in said]


class TypedCritic(CriticWrapper):
    """Another critic's kinds of fault without their places: `operator, missing_step`. An ablation of feedback."""

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return [self._kinds(feedback) for feedback in self.inner.critique(problems, hypotheses)]

    def _kinds(self, feedback: Feedback) -> Feedback:
        if feedback.accepted or feedback.failure:
            return feedback
        kinds = tuple(dict.fromkeys(fault.kind for fault in feedback.faults))
        return replace(feedback, text=", ".join(kinds), faults=tuple(map(Fault, kinds)))


class ConsensusCritic(Critic):
    """Several critics as one: what most of them say (`vote`), or all faults that any of them names (`union`).

    Under `vote` a hypothesis is accepted where more than half of the critics accept it, and a fault is named where more
    than half of those who reject name it, by kind, step and slot (an `other` by its words); where they agree on none,
    the first one that rejects is followed. Under `union` it is accepted where all accept. Critics that fail have no
    say; where all fail, it fails.

    Args:
        critics: anything that names critics; by default three noisy oracles that err independently.
        rule: `vote` or `union`.
    """

    def __init__(self, task: Task[Any], *critics: str | Critic, rule: str = "vote") -> None:
        if rule not in ("vote", "union"):
            raise UnknownNameError("rule of a consensus", rule, ("vote", "union"))
        self.task, self.rule = task, rule
        named = critics or tuple(f"noisy(oracle, seed={k})" for k in range(3))
        self.critics = [resolve_critic(critic, task) for critic in named]
        self._members = [Boundary(critic, "record") for critic in self.critics]
        self.uses_gold = any(critic.uses_gold for critic in self.critics)
        self.deterministic = all(critic.deterministic for critic in self.critics)

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        said = [member.ask(problems, hypotheses) for member in self._members]
        return [self._agree(votes) for votes in zip(*said, strict=True)]

    def seed(self, seed: int) -> None:
        rng = random.Random(seed)
        for critic in self.critics:
            critic.seed(rng.getrandbits(32))

    @property
    def identity(self) -> str:
        return f"consensus({', '.join(critic.identity for critic in self.critics)}, {self.rule})"

    def _agree(self, votes: Sequence[Feedback]) -> Feedback:
        heard = [vote for vote in votes if not vote.failure]
        if not heard:
            return votes[0]
        rejecting = [vote for vote in heard if not vote.accepted]
        if not rejecting or (self.rule == "vote" and 2 * len(rejecting) < len(heard)):
            return self.task.feedback(())
        named: dict[_Key, Fault] = {}
        count: Counter[_Key] = Counter()
        for vote in rejecting:
            mine = {_key(fault): fault for fault in vote.faults}
            count.update(mine.keys())
            named = mine | named
        chosen = [f for key, f in named.items() if self.rule == "union" or 2 * count[key] > len(rejecting)]
        return self.task.feedback(chosen) if chosen else rejecting[0]


_Key = tuple[str, int | None, str | None, str | None]


def _key(fault: Fault) -> _Key:
    """What two critics that name the same fault agree on."""
    return fault.kind, fault.step, fault.slot, fault.hint if fault.kind == "other" else None


class TimedCritic(CriticWrapper):
    """Another critic with a clock: `calls`, `reviews` (hypotheses) and `seconds` so far."""

    def __init__(self, task: Task[Any], critic: str | Critic = "oracle") -> None:
        super().__init__(task, critic)
        self.calls = self.reviews = 0
        self.seconds = 0.0

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        started = time.perf_counter()
        try:
            return self.inner.critique(problems, hypotheses)
        finally:
            self.seconds += time.perf_counter() - started
            self.calls += 1
            self.reviews += len(hypotheses)

    @property
    def identity(self) -> str:
        return self.inner.identity
