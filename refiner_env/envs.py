"""The environments: a problem is shown, a hypothesis is written, a critic answers, and so on; or the critic acts.

`TextEnv` is Gymnasium's single environment and `TextVectorEnv` its batched form; both do what Gymnasium asks for and
leave the rest to a `Referee`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from refiner_env.critic_referee import FeedbackReferee, FeedbackRules
from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.referees import HypothesisReferee, Outcome, Referee, Rules, State, check_count
from refiner_env.rendering import terminal, to_ansi
from refiner_env.spaces import TextSpace
from refiner_env.types import Observations

OPTIONS = ("index", "split", "hypothesis")
"""What `reset` takes."""
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


class TextEnv(gym.Env[dict[str, Any], str]):
    """One episode at a time under the rules of a referee."""

    metadata = {"render_modes": ["ansi", "human"], "render_fps": 1}  # noqa: RUF012  (Gymnasium declares it so)

    def __init__(self, referee: Referee, render_mode: str | None = None) -> None:
        self.referee, self.render_mode = referee, render_mode
        self.observation_space = referee.observation_space
        self.action_space = TextSpace()
        self._state = State(referee.problems[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.referee.seed(seed)
        options, pool = options or {}, self.referee.pool
        _check_names("reset option", options, OPTIONS)
        pool.use(options.get("split"))
        given = options.get("index")
        index = pool.draw(self.np_random) if given is None else pool.checked(given)
        state, hypothesis = State(pool.current[index]), options.get("hypothesis")
        self.referee.begin([state], self.np_random, None if hypothesis is None else _checked_texts([hypothesis], 1))
        self._state = state
        self._show()
        return self._observe(), pool.info(index)

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        _check_text(action)
        outcome = self.referee.advance([self._state], [action])[0]
        self._show()
        return self._observe(), outcome.reward, outcome.terminated, outcome.truncated, outcome.info

    def _observe(self) -> dict[str, Any]:
        observation: dict[str, Any] = _unbatched(self.referee.observe([self._state]), 0)
        return observation

    def _show(self) -> None:
        if self.render_mode == "human":
            terminal().print(self.referee.render(self._state), "\n")

    def render(self) -> str | None:
        """The last turn as text; with render_mode "human" every reset and step has shown it already."""
        return to_ansi(self.referee.render(self._state)) if self.render_mode == "ansi" else None


class TextVectorEnv(gym.vector.VectorEnv[Observations, Sequence[str], Any]):
    """`num_envs` episodes at a time under the rules of a referee; whoever is inside is called once per step for all.

    Spaces, rewards and episode end as in the single environment, batched: texts are tuples of N strings, `turn`,
    rewards and ends are arrays of shape (N,). Infos follow Gymnasium: `info[key]` has N entries and `info["_" + key]`
    says which are set.

    All autoreset modes of Gymnasium are there. With `AutoresetMode.DISABLED` a sub-environment whose episode is over
    stays over: it ignores its action, costs no call, and reports reward 0 and `terminated` until it is reset.

    Reset options: `index` (places in `problems` for the first len(index) sub-environments; the others sit out as over),
    `split` (which of several to draw from, until another is named), `reset_mask` (bool, shape (N,): which to reset);
    where the critic acts `hypothesis` (texts to review first, one for each episode that begins).
    """

    def __init__(
        self,
        referee: Referee,
        num_envs: int,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        check_count("num_envs", num_envs)
        try:
            autoreset_mode = AutoresetMode(autoreset_mode)  # by its name too, as Gymnasium's own
        except ValueError:
            modes = [mode.value for mode in AutoresetMode]
            raise UnknownNameError("autoreset_mode", str(autoreset_mode), modes) from None
        self.referee, self.num_envs, self.render_mode = referee, num_envs, render_mode
        self.metadata = {"render_modes": ["ansi"], "autoreset_mode": autoreset_mode}
        self.single_observation_space, self.single_action_space = referee.observation_space, TextSpace()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._autoreset = autoreset_mode
        self._states = [State(referee.problems[0]) for _ in range(num_envs)]
        self._over = np.ones(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        first = seed[0] if isinstance(seed, list) else seed
        super().reset(seed=first)
        if first is not None:
            self.referee.seed(first)
        options = options or {}
        _check_names("reset option", options, (*OPTIONS, "reset_mask"))
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, dtype=np.bool_)), dtype=np.bool_)
        if mask.shape != (self.num_envs,):
            raise OptionError(f"reset option reset_mask has shape {mask.shape}: it must be ({self.num_envs},).")
        self.referee.pool.use(options.get("split"))
        given, begins = options.get("index"), mask
        if given is not None:
            if not isinstance(given, Sequence | np.ndarray):
                raise OptionError(f"reset option index is {given!r}: give a sequence of places in problems.")
            if len(given) > self.num_envs:
                raise OptionError(f"reset option index has {len(given)} entries: at most num_envs={self.num_envs}.")
            given = [self.referee.pool.checked(index) for index in given]
            begins = mask & (np.arange(self.num_envs) < len(given))
        places, texts = np.flatnonzero(begins).tolist(), options.get("hypothesis")
        hypotheses = None if texts is None else _checked_texts(texts, len(places))
        infos = self._begin(places, given, hypotheses)
        self._over[mask & ~begins] = True
        return self._observe(), infos

    def _begin(
        self, places: list[int], given: Sequence[int] | None = None, hypotheses: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Start an episode in each of these sub-environments, on given or drawn problems; returns the infos."""
        pool = self.referee.pool
        indices = [pool.draw(self.np_random) if given is None else given[i] for i in places]
        states = [State(pool.current[index]) for index in indices]
        self.referee.begin(states, self.np_random, hypotheses)
        for i, state in zip(places, states, strict=True):
            self._states[i] = state
        self._over[places] = False
        return _columns(self.num_envs, places, [pool.info(index) for index in indices])

    def step(
        self, actions: Sequence[str]
    ) -> tuple[Observations, np.ndarray[Any, Any], BoolArray, BoolArray, dict[str, Any]]:
        n = self.num_envs
        if isinstance(actions, str) or len(actions) != n:
            got = f"the text {actions!r:.80}" if isinstance(actions, str) else f"{len(actions)} actions"
            raise OptionError(f"step got {got} for {n} environments.")
        live, over = np.flatnonzero(~self._over).tolist(), np.flatnonzero(self._over).tolist()
        for i in live:
            _check_text(actions[i])
        outcomes = self.referee.advance([self._states[i] for i in live], [actions[i] for i in live])
        rewards = np.zeros(n, dtype=np.float64)
        terminated, truncated = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
        rewards[live] = [outcome.reward for outcome in outcomes]
        terminated[live] = [outcome.terminated for outcome in outcomes]
        truncated[live] = [outcome.truncated for outcome in outcomes]
        if self._autoreset is AutoresetMode.NEXT_STEP:
            begun = self._begin(over)
        else:
            begun = {}
            terminated[over] = True
        self._over = terminated | truncated
        if self._autoreset is AutoresetMode.SAME_STEP and self._over[live].any():
            infos = self._restart(live, outcomes)
        else:
            infos = _columns(n, live, [outcome.info for outcome in outcomes])
        return self._observe(), rewards, terminated, truncated, {**infos, **begun}

    def _restart(self, live: list[int], outcomes: list[Outcome]) -> dict[str, Any]:
        """Same-step autoreset: last observations and infos move to `final_obs` and `final_info`."""
        n, last = self.num_envs, self._observe()
        infos = {i: outcome.info for i, outcome in zip(live, outcomes, strict=True)}
        ended = [i for i in live if self._over[i]]
        going_on = [i for i in live if not self._over[i]]
        final_obs = np.full(n, None, dtype=object)
        for i in ended:
            final_obs[i] = _unbatched(last, i)
        final_info = _columns(n, ended, [{"final_info": infos[i]} for i in ended])
        return {
            **_columns(n, going_on, [infos[i] for i in going_on]),
            **{"final_obs": final_obs, "_final_obs": final_info["_final_info"].copy(), **final_info},
            **self._begin(np.flatnonzero(self._over).tolist()),
        }

    def _observe(self) -> Observations:
        return self.referee.observe(self._states)  # type: ignore[return-value]  # a dictionary of these keys

    def render(self) -> tuple[str, ...] | None:
        """The last turn of every episode, as texts."""
        if self.render_mode != "ansi":
            return None
        return tuple([to_ansi(self.referee.render(state)) for state in self._states])


class RefinerEnv(TextEnv):
    """The generator acts; a critic answers.

    ## Action space
    Any text of up to 100,000 characters: the hypothesis. What does not parse is a wrong hypothesis.

    ## Observation space
    `problem` (x), `hypothesis` (the last attempt, "" at first), `feedback` (the critic's text on it, "" at first),
    `turn` (turns taken). With `history=k` also `history`: the k-1 turns before the last, oldest first, each with
    `hypothesis` and `feedback`, "" where there was none.

    ## Rewards
    Per turn, by name, weighted sum or callable (`refiner_env.rewards`); default `equivalent`. Nearly all need gold.

    ## Episode end
    Terminates by the `stop` rule, truncates after `max_turns` (a one-turn environment terminates).

    ## Info
    `turn` (hypothesis, feedback with typed faults, scores, reward, stop), `ir_exact`, `ir_equivalent`, `answer`,
    `similarity`, `accepted`, `critic_failed`, `stop`, `reward_parts`; after `reset`: `uid`, `index`, and `split` where
    there are several. No gold.

    ## Reset options
    `index`: the problem's place in `problems`. `split`: which of several to draw from, until another is named.

    ## Arguments
    `render_mode` ("ansi" or "human"), and those of `HypothesisReferee`.

    ## Version history
    v0: first version.
    """

    def __init__(self, render_mode: str | None = None, **rules: Unpack[Rules]) -> None:
        _check_names("argument", rules, Rules.__annotations__)
        super().__init__(HypothesisReferee(**rules), render_mode)


class RefinerVectorEnv(TextVectorEnv):
    """`RefinerEnv` for many problems at a time: the critic is called once per step for all of them."""

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **rules: Unpack[Rules],
    ) -> None:
        _check_names("argument", rules, Rules.__annotations__)
        super().__init__(HypothesisReferee(**rules), num_envs, autoreset_mode, render_mode)


class CriticEnv(TextEnv):
    """The critic acts; a frozen generator answers.

    ## Action space
    Any text of up to 100,000 characters: the feedback. The task reads faults from it; "No hint." accepts.

    ## Observation space
    `problem` (x), `hypothesis` (to be reviewed), `turn` (reviews written).

    ## Rewards
    What the generator's next hypothesis is worth more than the last, and `judgment_weight` (default 1) where accepting
    or rejecting was right. Both need gold.

    ## Episode end
    Terminates when the critic accepts, truncates after `max_turns`.

    ## Info
    `turn` (the hypothesis reviewed, with the feedback and the reward), `ir_equivalent` (of the hypothesis shown now),
    `accepted`, `stop`, `reward_parts` (`gain`, `judgment`); after `reset` as in `RefinerEnv`. No gold.

    ## Reset options
    As in `RefinerEnv`, and `hypothesis`: what to review first.

    ## Arguments
    `render_mode`, and those of `FeedbackReferee`.

    ## Version history
    v0: first version.
    """

    def __init__(self, render_mode: str | None = None, **rules: Unpack[FeedbackRules]) -> None:
        _check_names("argument", rules, FeedbackRules.__annotations__)
        super().__init__(FeedbackReferee(**rules), render_mode)


class CriticVectorEnv(TextVectorEnv):
    """`CriticEnv` for many hypotheses at a time: the generator is called once per step for all of them."""

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **rules: Unpack[FeedbackRules],
    ) -> None:
        _check_names("argument", rules, FeedbackRules.__annotations__)
        super().__init__(FeedbackReferee(**rules), num_envs, autoreset_mode, render_mode)


def _unbatched(value: Any, i: int) -> Any:
    """Entry i of a batched observation; what stands in a tuple of dictionaries is batched inside them."""
    if isinstance(value, Mapping):
        return {key: _unbatched(values, i) for key, values in value.items()}
    if isinstance(value, tuple) and value and isinstance(value[0], Mapping):
        return tuple([_unbatched(values, i) for values in value])
    return value[i]


def _columns(n: int, places: list[int], infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The infos of some sub-environments as Gymnasium batches them: `key` with n entries, `_key` which are set."""
    if not places:
        return {}
    mask = np.zeros(n, dtype=np.bool_)
    mask[places] = True
    columns: dict[str, Any] = {}
    for key, value in infos[0].items():
        values = [info[key] for info in infos]
        if isinstance(value, dict):
            columns[key] = _columns(n, places, values)
        else:
            plain = isinstance(value, bool | int | float)
            columns[key] = np.zeros(n, dtype=type(value)) if plain else np.full(n, None, dtype=object)
            if plain:
                columns[key][places] = values
            else:  # an object is never taken for a sequence to spread
                for i, one in zip(places, values, strict=True):
                    columns[key][i] = one
        columns["_" + key] = mask.copy()
    return columns


def _check_names(kind: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse a name that means nothing, which would be ignored or end in a traceback.

    Raises:
        UnknownNameError: the message offers the closest.
    """
    for name in given:
        if name not in known:
            raise UnknownNameError(kind, name, known)


def _checked_texts(texts: Any, count: int) -> list[str]:
    """The reset option `hypothesis`, one text for each episode that begins."""
    several = isinstance(texts, Sequence | np.ndarray) and not isinstance(texts, str)
    if not several or len(texts) != count or not all(isinstance(text, str) for text in texts):
        raise OptionError(f"reset option hypothesis is {texts!r:.80}: give {count} texts, one for each episode.")
    return list(texts)


def _check_text(action: object) -> None:
    if not isinstance(action, str):
        raise OptionError(f"An action is text (str), got {type(action).__name__}: {action!r:.80}.")
