"""What an episode is judged by: who acts, what follows from it, what is shown and what it is worth.

The environments (`refiner_env.envs`) do what Gymnasium asks for; a referee does the rest, for one episode or for many
at once, so that the single and the vector environment cannot differ. In one the generator acts and a critic answers
(`HypothesisReferee`), in the other the critic acts and a generator answers (`critic_referee.FeedbackReferee`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import numpy as np
from gymnasium.spaces import Dict, Discrete, Tuple
from rich.text import Text

from refiner_env.critics import Boundary, resolve_critic
from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.problems import Problems, ProblemSource
from refiner_env.rendering import rendered
from refiner_env.rewards import RewardSpec, resolve_reward
from refiner_env.spaces import TextSpace
from refiner_env.tasks import resolve_task
from refiner_env.types import Attempt, Critic, Feedback, Problem, Scores, StopReason, Task, Turn

STOPS = ("critic", "gold", "never")
TEXT = TextSpace()
"""Of every text that is shown or written."""


@dataclass(slots=True)
class State:
    """An episode under way."""

    problem: Problem
    turns: list[Turn] = field(default_factory=list)
    hypothesis: str = ""
    """Where the critic acts: the hypothesis that it is to review, not yet in a turn."""
    scores: Scores | None = None
    """Of that hypothesis."""


class Outcome(NamedTuple):
    """What a step gives besides the observation."""

    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Referee(ABC):
    """The rules of an environment.

    Args:
        task: a task or its name.
        problems: what to draw from: a sequence, or a mapping of splits; None for the task's procedural generator.
        reward: a name, a weighted sum (`0.8*answer + 0.2*dense`), a function of an `Attempt`, or a mapping of names and
            functions to weights.
        max_turns: turns on a problem, at least 1.
    """

    def __init__(
        self, task: str | Task[Any], problems: ProblemSource | None, reward: RewardSpec, max_turns: int
    ) -> None:
        check_count("max_turns", max_turns)
        self.task = resolve_task(task)
        self.pool = Problems(problems, self.task)
        self.reward, self.max_turns = resolve_reward(reward), max_turns

    @property
    def problems(self) -> Sequence[Problem]:
        """Those of the split in use."""
        return self.pool.current

    observation_space: Dict
    """Of one episode."""

    @abstractmethod
    def begin(self, states: Sequence[State], rng: np.random.Generator, given: Sequence[str] | None) -> None:
        """Prepare new episodes, all at once.

        Args:
            given: the reset option `hypothesis`: what each episode begins with, where somebody chose it.
        """

    @abstractmethod
    def advance(self, states: Sequence[State], actions: Sequence[str]) -> list[Outcome]:
        """One action in each of these episodes. One call of the critic or generator inside for all of them."""

    @abstractmethod
    def observe(self, states: Sequence[State]) -> dict[str, Any]:
        """The batched observation of episodes: tuples of texts, `turn` as an array of shape (N,)."""

    @abstractmethod
    def render(self, state: State) -> Text:
        """An episode as a person sees it: the problem, the last turn with its faults marked, and what is asked now."""

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Start the random numbers of whoever is inside anew."""

    def ends(self, stop: StopReason | None) -> tuple[bool, bool]:
        """(terminated, truncated). A one-turn episode terminates: truncating a first step is no episode."""
        truncated = stop is StopReason.MAX_TURNS and self.max_turns > 1
        return stop is not None and not truncated, truncated


class Rules(TypedDict, total=False):
    """The keyword arguments of the environments in which the generator acts; see `HypothesisReferee`."""

    task: str | Task[Any]
    problems: ProblemSource | None
    critic: str | Critic
    reward: RewardSpec
    max_turns: int
    stop: str
    history: int
    on_critic_failure: str
    critic_timeout: float | None


class HypothesisReferee(Referee):
    """The generator acts: it writes a hypothesis, and a critic answers.

    Args:
        task, problems, reward, max_turns: as in `Referee`.
        critic: a critic or whatever `resolve_critic` accepts.
        stop: "critic": the episode ends when the critic accepts; "gold": when the hypothesis is right (an oracle's
            stop); "never": when the turns are used.
        history: how many of the last turns are shown, at least 1 (the paper's).
        on_critic_failure, critic_timeout: see `critics.Boundary`.
    """

    def __init__(
        self,
        task: str | Task[Any] = "MathWordProblem",
        problems: ProblemSource | None = None,
        critic: str | Critic = "oracle",
        reward: RewardSpec = "equivalent",
        max_turns: int = 4,
        stop: str = "critic",
        history: int = 1,
        on_critic_failure: str = "stop",
        critic_timeout: float | None = None,
    ) -> None:
        super().__init__(task, problems, reward, max_turns)
        check_count("history", history)
        if stop not in STOPS:
            raise UnknownNameError("stop", stop, STOPS)
        self.critic = resolve_critic(critic, self.task)
        self.boundary = Boundary(self.critic, on_critic_failure, critic_timeout)
        self.stop, self.history = stop, history
        shown: dict[str, Any] = dict.fromkeys(("problem", "hypothesis", "feedback"), TEXT)
        if history > 1:
            shown["history"] = Tuple([Dict(hypothesis=TEXT, feedback=TEXT) for _ in range(history - 1)])
        self.observation_space = Dict(**shown, turn=Discrete(max_turns + 1))

    def begin(self, states: Sequence[State], rng: np.random.Generator, given: Sequence[str] | None) -> None:
        if given is not None:
            raise OptionError(
                "reset option hypothesis is for environments in which the critic acts: here you write it."
            )

    def seed(self, seed: int) -> None:
        self.critic.seed(seed)

    def advance(self, states: Sequence[State], actions: Sequence[str]) -> list[Outcome]:
        feedback = self.boundary.ask([state.problem for state in states], actions)
        return [self._turn(*one) for one in zip(states, actions, feedback, strict=True)]

    def _turn(self, state: State, hypothesis: str, said: Feedback) -> Outcome:
        problem, taken = state.problem, len(state.turns)
        scores = self.task.score(problem, hypothesis)
        before = state.turns[-1].hypothesis if taken else None
        reward, parts = self.reward(Attempt(self.task, problem, hypothesis, scores, taken, before))
        stop = None
        if self.stop == "critic" and said.accepted:
            stop = StopReason.ACCEPTED
        elif self.stop == "gold" and scores.ir_equivalent:
            stop = StopReason.SOLVED
        elif taken + 1 >= self.max_turns:
            stop = StopReason.MAX_TURNS
        turn = Turn(hypothesis, said, scores, reward, stop, parts)
        state.turns.append(turn)
        info = {
            "turn": turn,
            "ir_exact": scores.ir_exact,
            "ir_equivalent": scores.ir_equivalent,
            "answer": scores.answer,
            "similarity": scores.similarity,
            "accepted": said.accepted,
            "critic_failed": bool(said.failure),
            "stop": str(stop or ""),
            "reward_parts": parts,
        }
        return Outcome(reward, *self.ends(stop), info)

    def observe(self, states: Sequence[State]) -> dict[str, Any]:
        shown: dict[str, Any] = {"problem": tuple([clip(state.problem.text) for state in states]), **_said(states, 1)}
        if self.history > 1:
            shown["history"] = tuple([_said(states, back) for back in range(self.history, 1, -1)])
        return {**shown, "turn": np.array([len(state.turns) for state in states], dtype=np.int64)}

    def render(self, state: State) -> Text:
        return last_turn(state)


def last_turn(state: State) -> Text:
    """The problem, and the last turn where any was taken."""
    if not state.turns:
        return rendered(state.problem.text)
    turn = state.turns[-1]
    return rendered(state.problem.text, turn.hypothesis, turn.feedback, len(state.turns), turn.scores)


def _said(states: Sequence[State], back: int) -> dict[str, tuple[str, ...]]:
    """Hypothesis and feedback of the turn that is so many turns back; "" where there was none."""
    turns = [state.turns[-back] if len(state.turns) >= back else None for state in states]
    return {
        "hypothesis": tuple([clip(turn.hypothesis) if turn else "" for turn in turns]),
        "feedback": tuple([clip(turn.feedback.text) if turn else "" for turn in turns]),
    }


def clip(text: str) -> str:
    """Observations stay inside their space; the turn in `info` keeps the whole text."""
    return text if len(text) <= TEXT.max_length else text[: TEXT.max_length]


def check_count(name: str, value: object) -> None:
    """Refuse what is no whole number of at least 1.

    Raises:
        OptionError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{name} is {value!r}: it must be a whole number of at least 1.")
