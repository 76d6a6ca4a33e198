"""The environments: a problem is shown, a hypothesis is written, a critic answers, and so on.

`RefinerEnv` is Gymnasium's single environment, `RefinerVectorEnv` its batched form, which calls the
critic once per step for the whole batch. Both let `Referee` judge, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, overload

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Dict, Discrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from refiner_env.critics import Boundary, resolve_critic
from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.rewards import resolve_reward
from refiner_env.spaces import TextSpace
from refiner_env.tasks import resolve_task
from refiner_env.types import Attempt, Critic, Observations, Problem, RewardFunction, StopReason, Task, Turn

STOPS = ("critic", "gold", "never")
DEFAULT_SEED = 0
DEFAULT_SIZE = 10_000

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


class ProceduralProblems(Sequence[Problem]):
    """The first `size` problems of a task's generator at one of its levels, made when they are asked for."""

    def __init__(
        self, task: Task[Any], seed: int = DEFAULT_SEED, size: int = DEFAULT_SIZE, level: str | None = None
    ) -> None:
        self.task, self.seed, self.size, self.level = task, seed, size, level

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> list[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | list[Problem]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(f"index {index} of {self.size} problems")
        return self.task.generate(self.seed, index % self.size, self.level)


class Referee:
    """What an episode is judged by: critic, reward and stopping rule.

    Args:
        task: a task or its name.
        problems: what to draw from; None for the task's procedural generator.
        critic: a critic or whatever `resolve_critic` accepts.
        reward: a reward function or its name.
        max_turns: hypotheses per problem, at least 1.
        stop: "critic": the episode ends when the critic accepts; "gold": when the hypothesis is
            right (an oracle's stop); "never": when the turns are used.
    """

    def __init__(
        self,
        task: str | Task[Any],
        problems: Sequence[Problem] | None,
        critic: str | Critic,
        reward: str | RewardFunction,
        max_turns: int,
        stop: str,
    ) -> None:
        _check_count("max_turns", max_turns)
        if stop not in STOPS:
            raise UnknownNameError("stop", stop, STOPS)
        self.task = resolve_task(task)
        self.problems = ProceduralProblems(self.task) if problems is None else problems
        if not hasattr(self.problems, "__len__"):
            raise OptionError(
                f"problems is {problems!r:.80}: give a sequence of problems, or None for procedural ones."
            )
        if not len(self.problems):
            raise OptionError("problems is empty: give at least one problem, or None for procedural ones.")
        self.critic = resolve_critic(critic, self.task)
        self.reward = resolve_reward(reward)
        self.max_turns, self.stop = max_turns, stop

    def review(self, problems: Sequence[Problem], hypotheses: Sequence[str], taken: Sequence[int]) -> list[Turn]:
        """Judge one hypothesis per problem; `taken` counts the turns before this one. One critic call."""
        feedback = Boundary(self.critic).ask(problems, hypotheses)
        turns = []
        for problem, hypothesis, said, before in zip(problems, hypotheses, feedback, taken, strict=True):
            scores = self.task.score(problem, hypothesis)
            stop = None
            if self.stop == "critic" and said.accepted:
                stop = StopReason.ACCEPTED
            elif self.stop == "gold" and scores.ir_equivalent:
                stop = StopReason.SOLVED
            elif before + 1 >= self.max_turns:
                stop = StopReason.MAX_TURNS
            reward, parts = self.reward(Attempt(self.task, problem, hypothesis, scores, before, None))
            turns.append(Turn(hypothesis, said, scores, reward, stop, parts))
        return turns

    def ends(self, turn: Turn) -> tuple[bool, bool]:
        """(terminated, truncated). A one-turn episode terminates: truncating a first step is no episode."""
        truncated = turn.stop is StopReason.MAX_TURNS and self.max_turns > 1
        return turn.stop is not None and not truncated, truncated

    def observation_space(self) -> Dict:
        """Spaces of `problem`, `hypothesis`, `feedback` and `turn`."""
        return Dict(
            problem=TextSpace(), hypothesis=TextSpace(), feedback=TextSpace(), turn=Discrete(self.max_turns + 1)
        )


def _info(turn: Turn) -> dict[str, Any]:
    """What a step reports besides the observation: the turn with its typed faults, and flat scores. No gold."""
    return {"turn": turn, **asdict(turn.scores), "accepted": turn.feedback.accepted, "stop": str(turn.stop or "")}


class RefinerEnv(gym.Env[dict[str, Any], str]):
    """One problem at a time.

    ## Action space
    Any text of up to 100,000 characters: the hypothesis. What does not parse is a wrong hypothesis.

    ## Observation space
    `problem` (x), `hypothesis` (the last attempt, "" at first), `feedback` (the critic's text on it, ""
    at first), `turn` (turns taken).

    ## Rewards
    By name or callable, per turn: `equivalent` (default), `exact_match`, `answer`, `bleu`.

    ## Episode end
    Terminates by the `stop` rule, truncates after `max_turns` (a one-turn environment terminates).

    ## Info
    `turn` (hypothesis, feedback with typed faults, scores, reward, stop), `ir_exact`, `ir_equivalent`,
    `answer`, `accepted`, `stop`; after `reset`: `uid`, `index`. No gold.

    ## Reset options
    `index`: the problem's place in `problems`.

    ## Version history
    v0: first version.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  (Gymnasium declares it so)

    def __init__(
        self,
        task: str | Task[Any] = "MathWordProblem",
        problems: Sequence[Problem] | None = None,
        critic: str | Critic = "oracle",
        reward: str | RewardFunction = "equivalent",
        max_turns: int = 4,
        stop: Literal["critic", "gold", "never"] = "critic",
        render_mode: str | None = None,
    ) -> None:
        self.referee = Referee(task, problems, critic, reward, max_turns, stop)
        self.observation_space = self.referee.observation_space()
        self.action_space = TextSpace()
        self.render_mode = render_mode
        self._problem, self._taken = self.referee.problems[0], 0
        self._last: Turn | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        size = len(self.referee.problems)
        given = (options or {}).get("index")
        index = int(self.np_random.integers(size)) if given is None else _checked_index(given, size)
        self._problem, self._taken, self._last = self.referee.problems[index], 0, None
        return self._observe(), {"uid": self._problem.uid, "index": index}

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        _check_text(action)
        turn = self.referee.review([self._problem], [action], [self._taken])[0]
        self._last = turn
        self._taken += 1
        terminated, truncated = self.referee.ends(turn)
        return self._observe(), turn.reward, terminated, truncated, _info(turn)

    def _observe(self) -> dict[str, Any]:
        hypothesis, feedback = (self._last.hypothesis, self._last.feedback.text) if self._last else ("", "")
        texts = {"problem": self._problem.text, "hypothesis": hypothesis, "feedback": feedback}
        return {**{key: _clip(text) for key, text in texts.items()}, "turn": np.int64(self._taken)}

    def render(self) -> str:
        """The problem, the last hypothesis and its feedback, as text."""
        o = self._observe()
        return f"{o['problem']}\n[{o['turn']}] {o['hypothesis']}\n    {o['feedback']}"


class RefinerVectorEnv(gym.vector.VectorEnv[Observations, Sequence[str], Any]):
    """`num_envs` problems at a time; the critic is called once per step for all of them.

    Spaces, rewards and episode end as in `RefinerEnv`, batched: texts are tuples of N strings, `turn`,
    rewards and ends are arrays of shape (N,). Infos follow Gymnasium: `info[key]` has N entries and
    `info["_" + key]` says which are set.

    All autoreset modes of Gymnasium are there. With `AutoresetMode.DISABLED` a sub-environment whose
    episode is over stays over: it ignores its action, costs no critic call, and reports reward 0 and
    `terminated` until it is reset.

    Reset options: `index` (places in `problems` for the first len(index) sub-environments; the others
    sit out as over), `reset_mask` (bool, shape (N,): which ones to reset).
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: str | Task[Any] = "MathWordProblem",
        problems: Sequence[Problem] | None = None,
        critic: str | Critic = "oracle",
        reward: str | RewardFunction = "equivalent",
        max_turns: int = 4,
        stop: Literal["critic", "gold", "never"] = "critic",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        _check_count("num_envs", num_envs)
        self.referee = Referee(task, problems, critic, reward, max_turns, stop)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {"render_modes": ["ansi"], "autoreset_mode": autoreset_mode}
        self.single_observation_space = self.referee.observation_space()
        self.single_action_space = TextSpace()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._autoreset = autoreset_mode
        self._problems = [self.referee.problems[0]] * num_envs
        self._hypotheses, self._feedback = [""] * num_envs, [""] * num_envs
        self._taken = np.zeros(num_envs, dtype=np.int64)
        self._over = np.ones(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        super().reset(seed=seed[0] if isinstance(seed, list) else seed)
        options = options or {}
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, dtype=np.bool_)), dtype=np.bool_)
        if mask.shape != (self.num_envs,):
            raise OptionError(f"reset option reset_mask has shape {mask.shape}: it must be ({self.num_envs},).")
        given = options.get("index")
        if given is not None:
            if not isinstance(given, Sequence | np.ndarray):
                raise OptionError(f"reset option index is {given!r}: give a sequence of places in problems.")
            if len(given) > self.num_envs:
                raise OptionError(f"reset option index has {len(given)} entries: at most num_envs={self.num_envs}.")
            given = [_checked_index(index, len(self.referee.problems)) for index in given]
            self._over[mask] = True
            mask = mask & (np.arange(self.num_envs) < len(given))
        infos = self._begin(np.flatnonzero(mask).tolist(), given)
        return self._observe(), infos

    def _begin(
        self, places: list[int], given: Sequence[int] | None = None, infos: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Start an episode in each of these sub-environments, on given or drawn problems; returns the infos."""
        infos = infos or {}
        size = len(self.referee.problems)
        for i in places:
            index = int(self.np_random.integers(size)) if given is None else given[i]
            self._problems[i] = self.referee.problems[index]
            self._hypotheses[i], self._feedback[i] = "", ""
            infos = self._add_info(infos, {"uid": self._problems[i].uid, "index": index}, i)
        self._taken[places] = 0
        self._over[places] = False
        return infos

    def step(
        self, actions: Sequence[str]
    ) -> tuple[Observations, np.ndarray[Any, Any], BoolArray, BoolArray, dict[str, Any]]:
        if isinstance(actions, str) or len(actions) != self.num_envs:
            got = f"the text {actions!r:.80}" if isinstance(actions, str) else f"{len(actions)} actions"
            raise OptionError(f"step got {got} for {self.num_envs} environments.")
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        terminated, truncated = np.zeros(self.num_envs, dtype=np.bool_), np.zeros(self.num_envs, dtype=np.bool_)
        live, over = np.flatnonzero(~self._over).tolist(), np.flatnonzero(self._over).tolist()
        for i in live:
            _check_text(actions[i])
        infos: dict[str, Any] = {}
        if self._autoreset is AutoresetMode.NEXT_STEP:
            infos = self._begin(over)
        else:
            terminated[over] = True
        turns = self.referee.review(
            [self._problems[i] for i in live], [actions[i] for i in live], [int(self._taken[i]) for i in live]
        )
        for i, turn in zip(live, turns, strict=True):
            self._hypotheses[i], self._feedback[i] = turn.hypothesis, turn.feedback.text
            rewards[i] = turn.reward
            terminated[i], truncated[i] = self.referee.ends(turn)
            ended = self._autoreset is AutoresetMode.SAME_STEP and turn.stop is not None
            infos = self._add_info(infos, {"final_info": _info(turn)} if ended else _info(turn), i)
        self._taken[live] += 1
        self._over[live] = terminated[live] | truncated[live]
        if self._autoreset is AutoresetMode.SAME_STEP and self._over.any():
            infos = self._restart_over(infos)
        return self._observe(), rewards, terminated, truncated, infos

    def _restart_over(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Same-step autoreset: the last observation moves to `final_obs`, as the last info to `final_info`."""
        last: dict[str, Any] = dict(self._observe())
        places = np.flatnonzero(self._over).tolist()
        for i in places:
            infos = self._add_info(infos, {"final_obs": {key: values[i] for key, values in last.items()}}, i)
        return self._begin(places, infos=infos)

    def _observe(self) -> Observations:
        return {
            "problem": tuple(_clip(p.text) for p in self._problems),
            "hypothesis": tuple(map(_clip, self._hypotheses)),
            "feedback": tuple(map(_clip, self._feedback)),
            "turn": self._taken.copy(),
        }

    def render(self) -> tuple[str, ...]:
        """Problem, last hypothesis and feedback of each sub-environment, as text."""
        o = self._observe()
        rows = zip(o["problem"], o["turn"], o["hypothesis"], o["feedback"], strict=True)
        return tuple(
            f"{problem}\n[{turn}] {hypothesis}\n    {feedback}" for problem, turn, hypothesis, feedback in rows
        )


_MAX_LENGTH = TextSpace().max_length


def _clip(text: str) -> str:
    """Observations stay inside their space; the turn in `info` keeps the whole text."""
    return text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH]


def _check_text(action: object) -> None:
    if not isinstance(action, str):
        raise OptionError(f"An action is text (str), got {type(action).__name__}: {action!r:.80}.")


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{name} is {value!r}: it must be a whole number of at least 1.")


def _checked_index(index: Any, size: int) -> int:
    if not isinstance(index, int | np.integer) or not 0 <= index < size:
        raise OptionError(f"reset option index is {index}: there are {size} problems, 0 to {size - 1}.")
    return int(index)
