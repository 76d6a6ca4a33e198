"""All data that flows between tasks, environments, critics, agents and trainers.

Read this file first: it is the map of the system. Everything is a frozen dataclass or a small
abstract class; the words are those of REFINER (arXiv 2304.01904): a *problem* x, its *intermediate
representation* z (a hypothesis is one attempt at it), its answer y, a critic's *faults* and *feedback*.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NotRequired, TypedDict, TypeVar

import numpy as np

from refiner_env.errors import DataError

if TYPE_CHECKING:
    from refiner_env.tasks.phrases import Phrases

IR = TypeVar("IR")
"""A task's parsed intermediate representation, e.g. `refiner_env.tasks.program.Program`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem with its gold. Agents and critics that may not see gold get `without_gold()`."""

    uid: str
    """Unique within a corpus, e.g. `svamp/dev/17`."""
    text: str
    """x: what the generator reads. Never contains gold."""
    gold: str | None
    """z: the gold intermediate representation as text, or None where it is hidden."""
    answer: float | str | None
    """y: what follows from z, or None where it is hidden."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What belongs to the problem but not to its text (the numbers behind `numberN`). Never gold."""
    gold_metadata: Mapping[str, Any] = field(default_factory=dict)
    """What belongs to gold (its paraphrases, hypotheses known to be wrong, the generator's schema). Hidden with it."""

    def without_gold(self) -> Problem:
        """The same problem as a policy or a learned critic may see it."""
        return replace(self, gold=None, answer=None, gold_metadata={})

    def read_gold(self, parse: Callable[[str], IR | ParseFailure], noun: str) -> IR:
        """Gold as its task's `parse` reads it; `noun` says what it is, for the message.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        ir = parse(self.gold or "")
        if isinstance(ir, ParseFailure):
            raise DataError(f"Problem {self.uid!r} has no readable gold {noun}: {self.gold!r} ({ir.message}).")
        return ir


@dataclass(frozen=True, slots=True)
class Fault:
    """One typed defect of a hypothesis."""

    kind: str
    """One of the task's fault kinds, e.g. `operator`."""
    step: int | None = None
    """The step it concerns (`#step`), or None where it concerns the whole."""
    slot: str | None = None
    """The place in the step: `operator`, `first` or `second` for programs."""
    hint: str | None = None
    """Free text beyond the template. Never gold."""
    span: tuple[int, int] | None = None
    """Character range [start, end) in the hypothesis, where there is one."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a critic says of one hypothesis."""

    accepted: bool
    """True when the critic has nothing to say ("No hint")."""
    text: str
    """What the generator reads next turn."""
    faults: tuple[Fault, ...] = ()
    """The same, typed, as far as the critic says it in the task's words. Empty when accepted."""
    accept_probability: float | None = None
    """The critic's own probability that the hypothesis is right, in [0, 1], where it has one."""
    failure: str = ""
    """Why there is no feedback: the critic raised, hung or gave something else. Then nothing is accepted or said."""


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """Why a text is not an intermediate representation. Returned, never raised: model output is data."""

    kind: str
    """The fault kind: `syntax` or `too_long`."""
    message: str
    """What was expected and what was found, in a few words."""
    span: tuple[int, int]
    """Character range [start, end) of the offending text."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How a hypothesis compares with gold. A hypothesis that does not parse is wrong on all counts."""

    ir_exact: bool
    """The same as gold, spelling and spacing aside."""
    ir_equivalent: bool
    """The same up to what makes no difference, such as commutativity or the order of independent steps. The main
    metric. What makes no difference is the task's to say."""
    answer: bool
    """The gold answer follows from it, by whatever way."""
    similarity: float
    """Nearness to gold in [0, 1], where the task measures any; else 1 for equivalent and 0 for others."""


class StopReason(StrEnum):
    """Why an episode ended. A stop by gold is never mixed up with a stop by the critic."""

    ACCEPTED = "accepted"
    """The critic accepted the hypothesis (stop="critic")."""
    SOLVED = "solved"
    """The hypothesis is right (stop="gold"): needs gold, so it is an oracle's stop."""
    MAX_TURNS = "max_turns"
    """All turns are used."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One hypothesis with its feedback."""

    hypothesis: str
    feedback: Feedback
    scores: Scores
    reward: float
    stop: StopReason | None
    """None while the episode goes on."""
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    """What the reward is made of, by name, before weights."""


@dataclass(frozen=True, slots=True)
class Episode:
    """All turns on one problem."""

    problem: Problem
    turns: tuple[Turn, ...]

    @property
    def stop(self) -> StopReason | None:
        """Why it ended, or None if it was cut short."""
        return self.turns[-1].stop if self.turns else None

    def at(self, turn: int) -> Turn:
        """The standing hypothesis after `turn` turns (1-based).

        The last one, if it was accepted or solved or the critic gives no probabilities; else the one of which the
        critic said with the highest probability that it is right.
        """
        turns = self.turns[:turn]
        if turns[-1].stop in (StopReason.ACCEPTED, StopReason.SOLVED):
            return turns[-1]
        return max(reversed(turns), key=lambda t: t.feedback.accept_probability or 0.0)


class Observations(TypedDict):
    """A batch of observations, as the vector environment returns them: N entries under each key."""

    problem: Sequence[str]
    """x."""
    hypothesis: Sequence[str]
    """The last attempt; "" on the first turn."""
    feedback: Sequence[str]
    """The critic's text on it; "" on the first turn."""
    turn: np.ndarray[Any, np.dtype[np.int64]]
    """Turns already taken, shape (N,)."""
    history: NotRequired[Sequence[Mapping[str, Sequence[str]]]]
    """Where more than the last turn is shown: the turns before it, oldest first, each with `hypothesis` and `feedback`
    of N entries; "" where there was none yet."""


class Task(ABC, Generic[IR]):
    """One problem format: its language, its execution, its faults and its procedural problems."""

    name: ClassVar[str]
    """As in the environment id `Refiner/<name>-v0`."""
    fault_kinds: ClassVar[tuple[str, ...]]
    """Every `Fault.kind` that `diagnose` and `read_feedback` may give."""
    levels: ClassVar[tuple[str, ...]]
    """How hard `generate` may make problems."""
    default_level: ClassVar[str]
    guess: ClassVar[str]
    """A hypothesis that asks for no look at the problem: where the scripted editor starts."""
    perturbations: ClassVar[tuple[str, ...]]
    """The kinds of `perturb`."""
    phrases: ClassVar[Phrases]
    """The sentences of its feedback."""
    marks: ClassVar[tuple[str, ...]] = ()
    """Words of its texts that become tokens of their own where a tokenizer cannot spell them."""
    about: ClassVar[str] = "The problem asks for something; the hypothesis is an attempt at it."
    """What x and z are, told to a language model that has seen neither (`refiner_env.critics.prompting`)."""

    @abstractmethod
    def parse(self, text: str) -> IR | ParseFailure:
        """Read a hypothesis. Never raises, whatever the text contains."""

    @abstractmethod
    def render(self, ir: IR) -> str:
        """The canonical text of an IR; `parse(render(ir))` equals `ir`, spans aside."""

    @abstractmethod
    def execute(self, ir: IR, problem: Problem) -> float | str | Fault:
        """The answer that follows from an IR, or the fault that stops its execution."""

    @abstractmethod
    def score(self, problem: Problem, hypothesis: str) -> Scores:
        """Compare a hypothesis with gold."""

    @abstractmethod
    def same(self, problem: Problem, a: str, b: str) -> bool:
        """Whether two hypotheses are equivalent; those that do not parse are the same if their texts are. No gold."""

    @abstractmethod
    def diagnose(self, problem: Problem, hypothesis: str) -> tuple[Fault, ...]:
        """The faults of a hypothesis against gold; empty if and only if it is equivalent to gold."""

    @abstractmethod
    def perturb(self, problem: Problem, rng: random.Random, kind: str | None = None) -> str:
        """A wrong hypothesis near gold, never equivalent to it, using only what the problem has.

        Args:
            kind: one of `perturbations`, or None for any. Where the problem has no place for it, another is taken.
        """

    @abstractmethod
    def rephrase(self, problem: Problem, rng: random.Random) -> str:
        """A right hypothesis: gold, or another writing that is equivalent to it."""

    @abstractmethod
    def edit(self, text: str, hypothesis: str, faults: Sequence[Fault], rng: random.Random) -> str:
        """Every place that the faults name changed at random, for the scripted editor. No gold: `text` is x."""

    @abstractmethod
    def generate(self, seed: int, index: int, level: str | None = None) -> Problem:
        """A procedural problem: a pure function of (seed, index, level); None for the default level."""

    def check(self, problem: Problem, hypothesis: str) -> tuple[Fault, ...]:
        """The faults that show without gold; none where nothing speaks against it. Here: that it cannot be read."""
        ir = self.parse(hypothesis)
        return (Fault(ir.kind, hint=ir.message, span=ir.span),) if isinstance(ir, ParseFailure) else ()

    def right_share(self, problem: Problem, hypothesis: str) -> float:
        """The share of places that are right, in [0, 1]; 1 if and only if it is equivalent to gold. Here: 1 or 0."""
        return float(self.score(problem, hypothesis).ir_equivalent)

    def describe(self, faults: Sequence[Fault]) -> str:
        """The feedback text for faults; the accepting phrase for none."""
        return self.phrases.describe(faults)

    def read_feedback(self, text: str) -> Feedback:
        """The inverse of `describe`, for text that a model wrote. Unknown sentences become `other` faults."""
        return self.phrases.read(text)

    def feedback(self, faults: Sequence[Fault]) -> Feedback:
        """Typed faults as feedback."""
        return Feedback(accepted=not faults, text=self.describe(faults), faults=tuple(faults))


class Critic(ABC):
    """Reviews hypotheses in batches. The only thing a plug-in has to write is `critique`."""

    uses_gold: bool = False
    """Whether problems keep their gold when this critic sees them. Only oracles say True."""
    deterministic: bool = True
    """Whether equal calls after `seed` with the same number give equal feedback. A person cannot promise it."""

    @abstractmethod
    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        """One feedback per hypothesis, in order."""

    def seed(self, seed: int) -> None:  # noqa: B027  (most critics draw nothing)
        """Start the random numbers anew, where it draws any; environments call it with theirs."""

    @property
    def identity(self) -> str:
        """What distinguishes it from critics that say something else: the key of caches on disk.

        Here: its class, and those of its attributes that are plain values, as most arguments are.
        """
        plain = {k: v for k, v in vars(self).items() if v is None or isinstance(v, str | int | float)}
        return f"{type(self).__module__}.{type(self).__qualname__}{plain or ''}"


class Agent(ABC):
    """Whoever acts: a generator LM, a scripted editor, a person."""

    @abstractmethod
    def act(self, observations: Observations) -> list[str]:
        """One hypothesis per observation, in order."""

    def seed(self, seed: int) -> None:  # noqa: B027  (most agents draw nothing)
        """Start the random numbers anew, where it draws any."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a reward looks at: one hypothesis, its problem with gold, and what was before it."""

    task: Task[Any]
    problem: Problem
    hypothesis: str
    scores: Scores
    turn: int
    """Turns taken before this one."""
    before: str | None
    """The hypothesis of the turn before; None on the first."""


RewardFunction = Callable[[Attempt], float]
"""The reward of one turn."""
