"""The critic as the one who acts: its feedback is the action, and a frozen generator answers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
from gymnasium.spaces import Dict, Discrete
from rich.text import Text

from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.problems import ProblemSource
from refiner_env.referees import TEXT, Outcome, Referee, State, clip, last_turn
from refiner_env.registry import Registry, holds_model, load_object
from refiner_env.rendering import turn_text
from refiner_env.rewards import RewardSpec
from refiner_env.scripted import ScriptedEditor
from refiner_env.types import Agent, Attempt, Feedback, Observations, Problem, StopReason, Task, Turn

AGENTS: Registry[Callable[[Task[Any]], Agent]] = Registry("generator", also=", or the folder of a trained generator")
"""Generators by name: (task) -> agent."""
AGENTS.register("scripted", ScriptedEditor)


def resolve_agent(agent: str | Agent, task: Task[Any]) -> Agent:
    """A generator from its name, a model's folder, `module:object`, `file.py:object`, or itself.

    Raises:
        UnknownNameError: nothing of that name; OptionError: what is named is no agent.
    """
    if isinstance(agent, str):
        if holds_model(agent):
            loaded: Agent = load_object("agents.generator:Generator").load(agent)
            return loaded
        named: Any = AGENTS.resolve(agent)
        agent = named(task) if callable(named) else named
    if not isinstance(agent, Agent):
        raise OptionError(f"generator is {agent!r:.80}: give a name, a model's folder, or an Agent.")
    return agent


class FeedbackRules(TypedDict, total=False):
    """The keyword arguments of the environments in which the critic acts; see `FeedbackReferee`."""

    task: str | Task[Any]
    problems: ProblemSource | None
    generator: str | Agent
    reward: RewardSpec
    max_turns: int
    first: str
    right_share: float
    judgment_weight: float


class FeedbackReferee(Referee):
    """The critic acts: it reads a hypothesis and writes feedback, and a frozen generator writes the next one.

    The reward is what the generator's next hypothesis gains by the feedback, plus `judgment_weight` where accepting or
    rejecting was right. So a critic is trained by what its feedback is worth: RL4F (arXiv 2305.08844), Retroformer
    (2308.02151), CTRL (2502.03492).

    Args:
        task, problems, max_turns: as in `Referee`.
        generator: who answers: a name, a model's folder, or an `Agent`; by default the scripted editor, which follows
            feedback at random and needs no model.
        reward: what a hypothesis is worth; its difference from one turn to the next is the gain.
        first: "perturbation": an episode begins with a perturbation of gold, or with a right hypothesis; "generator":
            with what the generator writes by itself.
        right_share: how often a perturbation is none, so that there is something to accept, in [0, 1].
        judgment_weight: of being right about right and wrong.
    """

    def __init__(
        self,
        task: str | Task[Any] = "MathWordProblem",
        problems: ProblemSource | None = None,
        generator: str | Agent = "scripted",
        reward: RewardSpec = "equivalent",
        max_turns: int = 4,
        first: str = "perturbation",
        right_share: float = 0.25,
        judgment_weight: float = 1.0,
    ) -> None:
        super().__init__(task, problems, reward, max_turns)
        if first not in ("perturbation", "generator"):
            raise UnknownNameError("first", first, ("perturbation", "generator"))
        if not isinstance(right_share, int | float) or not 0 <= right_share <= 1:
            raise OptionError(f"right_share is {right_share!r}: it must be a number between 0 and 1.")
        if not isinstance(judgment_weight, int | float) or not math.isfinite(judgment_weight):
            raise OptionError(f"judgment_weight is {judgment_weight!r}: it must be a finite number.")
        self.generator = resolve_agent(generator, self.task)
        self.first, self.right_share, self.judgment_weight = first, right_share, judgment_weight
        self.observation_space = Dict(problem=TEXT, hypothesis=TEXT, turn=Discrete(max_turns + 1))

    def seed(self, seed: int) -> None:
        self.generator.seed(seed)

    def begin(self, states: Sequence[State], rng: np.random.Generator, given: Sequence[str] | None) -> None:
        if given is not None:
            written = list(given)
        elif self.first == "generator":
            written = self._write(states, "")
        else:
            written = [self._perturbed(state.problem, rng) for state in states]
        for state, hypothesis in zip(states, written, strict=True):
            self._show(state, hypothesis)

    def _perturbed(self, problem: Problem, rng: np.random.Generator) -> str:
        draw = random.Random(int(rng.integers(2**63)))
        right = draw.random() < self.right_share
        return self.task.rephrase(problem, draw) if right else self.task.perturb(problem, draw)

    def _write(self, states: Sequence[State], *feedback: str) -> list[str]:
        """The generator's next hypotheses."""
        observations: Observations = {
            "problem": tuple([clip(state.problem.text) for state in states]),
            "hypothesis": tuple([clip(state.hypothesis) for state in states]),
            "feedback": feedback if len(feedback) == len(states) else feedback * len(states),
            "turn": np.array([len(state.turns) for state in states], dtype=np.int64),
        }
        return self.generator.act(observations) if states else []

    def _show(self, state: State, hypothesis: str) -> None:
        state.hypothesis, state.scores = hypothesis, self.task.score(state.problem, hypothesis)

    def advance(self, states: Sequence[State], actions: Sequence[str]) -> list[Outcome]:
        said = [self.task.read_feedback(action) for action in actions]
        values = [self._value(state) for state in states]
        judged = [self._judge(*one) for one in zip(states, said, strict=True)]
        rejected = [i for i, feedback in enumerate(said) if not feedback.accepted]
        written = self._write([states[i] for i in rejected], *(clip(actions[i]) for i in rejected))
        for i, hypothesis in zip(rejected, written, strict=True):
            self._show(states[i], hypothesis)
        return [self._outcome(*one) for one in zip(states, values, judged, strict=True)]

    def _value(self, state: State) -> float:
        """What the hypothesis under review is worth."""
        assert state.scores
        before = state.turns[-1].hypothesis if state.turns else None
        attempt = Attempt(self.task, state.problem, state.hypothesis, state.scores, len(state.turns), before)
        return self.reward(attempt)[0]

    def _judge(self, state: State, said: Feedback) -> Turn:
        """The turn that ends with this feedback, before its reward is known."""
        assert state.scores
        stop = None
        if said.accepted:
            stop = StopReason.ACCEPTED
        elif len(state.turns) + 1 >= self.max_turns:
            stop = StopReason.MAX_TURNS
        turn = Turn(state.hypothesis, said, state.scores, 0.0, stop)
        state.turns.append(turn)
        return turn

    def _outcome(self, state: State, value: float, turn: Turn) -> Outcome:
        gain = 0.0 if turn.feedback.accepted else self._value(state) - value
        judgment = float(turn.feedback.accepted is turn.scores.ir_equivalent)
        reward = gain + self.judgment_weight * judgment
        parts = {"gain": gain, "judgment": judgment}
        state.turns[-1] = turn = Turn(turn.hypothesis, turn.feedback, turn.scores, reward, turn.stop, parts)
        assert state.scores
        info = {
            "turn": turn,
            "ir_equivalent": state.scores.ir_equivalent,
            "accepted": turn.feedback.accepted,
            "stop": str(turn.stop or ""),
            "reward_parts": parts,
        }
        return Outcome(reward, *self.ends(turn.stop), info)

    def observe(self, states: Sequence[State]) -> dict[str, Any]:
        return {
            "problem": tuple([clip(state.problem.text) for state in states]),
            "hypothesis": tuple([clip(state.hypothesis) for state in states]),
            "turn": np.array([len(state.turns) for state in states], dtype=np.int64),
        }

    def render(self, state: State) -> Text:
        return Text("\n").join([last_turn(state), turn_text(state.hypothesis, None, len(state.turns) + 1)])
