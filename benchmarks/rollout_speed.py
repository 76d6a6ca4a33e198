"""Rollouts timed: what the loop costs beside the arithmetic of the model, and what a loop written plainly costs.

- floor: the calls that our loop makes of the models, made of the bare models: what the loop adds is missing;
- known: the prompts of all these calls, in one call of each kind, as if they were known beforehand;
- ours: `trainers.rollout.play`;
- plain: single environments in Gymnasium's SyncVectorEnv, the library's `generate` on all observations as they come,
  padded to the longest, and a critic that each environment asks by itself.

All decode the same prompts of the same problems.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from rich.table import Table

from agents.critic import LearnedCritic
from agents.decoding import DEFAULT, Backend, Decoding, Transformers
from agents.decoding import Row as Tokens
from agents.generator import Generator
from agents.lm import LanguageModel
from benchmarks.caches import forget
from benchmarks.rounds import Row, by, in_turn, made, peak, ratio, shown
from benchmarks.split import CRITIC, PARTS, Split
from benchmarks.timed_models import TASK, TIMED, again, timed_model
from refiner_env.types import Critic, Problem
from trainers.rollout import play

CRITICS = ("oracle", "learned")
FLOOR, KNOWN = "floor", "known"


@dataclass(frozen=True)
class Shape:
    """What is played."""

    episodes: int = 128
    places: int = 64
    turns: int = 3
    backend: str = DEFAULT

    @property
    def problems(self) -> list[Problem]:
        return TIMED[: self.episodes]


@dataclass(frozen=True)
class Played:
    """One rollout."""

    hypotheses: list[tuple[str, ...]]
    """Of each episode, in the order of the problems."""
    split: Split
    tokens: int
    """Written by the generator."""
    padding: float | None
    """The share of it in all prompts, the critic's included; None where the back end pads by itself."""


Loop = Callable[[LanguageModel, str | Critic, Shape], list[tuple[str, ...]]]
"""(generator's model, critic, what is played) -> the hypotheses of each episode."""


def ours(lm: LanguageModel, critic: str | Critic, shape: Shape) -> list[tuple[str, ...]]:
    """The loop of all trainers."""
    episodes = play(
        Generator(lm), TASK, shape.problems, critic=critic, turns=shape.turns, stop="critic", num_envs=shape.places
    )
    return [tuple(turn.hypothesis for turn in episode.turns) for episode in episodes]


def plain(lm: LanguageModel, critic: str | Critic, shape: Shape) -> list[tuple[str, ...]]:
    """Single environments side by side. Those that find no problem left play the first again, uncounted."""
    problems = shape.problems
    order = iter(range(len(problems)))

    def single() -> gym.Env[Any, Any]:
        rules: dict[str, Any] = {"problems": problems, "critic": critic, "max_turns": shape.turns}
        return InOrder(gym.make("Refiner/MathWordProblem-v0", **rules), order)

    env = SyncVectorEnv([single] * shape.places, autoreset_mode=AutoresetMode.SAME_STEP)
    agent = Generator(lm)
    observations, _ = env.reset()
    written: dict[int, list[str]] = defaultdict(list)
    ended = 0
    while ended < len(problems):
        numbers = [one.get_wrapper_attr("number") for one in env.envs]
        actions = agent.act(observations)
        observations, _, terminated, truncated, _ = env.step(actions)
        for number, action, over in zip(numbers, actions, terminated | truncated, strict=True):
            if number is not None:
                written[number].append(action)
                ended += bool(over)
    return [tuple(written[number]) for number in range(len(problems))]


LOOPS: dict[str, Loop] = {"ours": ours, "plain": plain}


class InOrder(gym.Wrapper[Any, Any, Any, Any]):
    """Each episode on the next problem of an order that several environments share."""

    def __init__(self, env: gym.Env[Any, Any], order: Iterator[int]) -> None:
        super().__init__(env)
        self.order, self.number = order, None  # type: tuple[Iterator[int], int | None]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.number = next(self.order, None)
        return super().reset(seed=seed, options={"index": self.number or 0})


class AsTheyCome(Transformers):
    """The library's `generate` on one batch of all prompts."""

    name = "as they come"

    def batches(self, lm: LanguageModel, prompts: Sequence[Tokens], most: int) -> list[list[int]]:
        return [list(range(len(prompts)))] if prompts else []


Call = tuple[str, tuple[Any, ...]]
"""A method of a back end, and what it is given beside the model."""
Calls = Sequence[Sequence[Call]]
"""Those of the generator's model, and those of the critic's."""


class Recorder(Backend):
    """Decodes as another back end, and notes of what."""

    name = "recorder"

    def __init__(self, inner: Backend) -> None:
        self.inner, self.calls = inner, list[Call]()

    def generate(self, lm: LanguageModel, prompts: Sequence[Tokens], decoding: Decoding) -> list[Tokens]:
        self.calls.append(("generate", (prompts, decoding)))
        return self.inner.generate(lm, prompts, decoding)

    def likeliest(
        self, lm: LanguageModel, prompts: Sequence[Tokens], count: int, max_new_tokens: int
    ) -> list[list[Tokens]]:
        self.calls.append(("likeliest", (prompts, count, max_new_tokens)))
        return self.inner.likeliest(lm, prompts, count, max_new_tokens)

    def log_probabilities(self, lm: LanguageModel, prompts: Sequence[Tokens], targets: Sequence[Tokens]) -> list[float]:
        self.calls.append(("log_probabilities", (prompts, targets)))
        return self.inner.log_probabilities(lm, prompts, targets)


def record(model: LanguageModel, critic: str, shape: Shape) -> Calls:
    """What our loop asks of the generator's model, and of the critic's."""
    writer, reviewer = again(model), again(model)
    calls = []
    for lm in (writer, reviewer):
        lm.backend = recorder = Recorder(lm.backend)
        calls.append(recorder.calls)
    ours(writer, _critic(critic, reviewer), shape)
    return calls


def at_once(calls: Sequence[Call]) -> list[Call]:
    """One call for all those that ask alike."""
    alike: dict[tuple[str, tuple[Any, ...]], list[Any]] = defaultdict(list)
    for method, (prompts, *others) in calls:
        if method == "log_probabilities":  # a target for each prompt
            alike[method, ()] += zip(prompts, *others, strict=True)
        else:
            alike[method, tuple(others)] += prompts
    return [
        (method, tuple(zip(*rows, strict=True)) if method == "log_probabilities" else (rows, *others))
        for (method, others), rows in alike.items()
        if rows
    ]


def floor(model: LanguageModel, calls: Calls) -> Played:
    """The arithmetic alone."""
    models = [again(model) for _ in calls]
    with Split.taken() as split:
        for lm, of_model in zip(models, calls, strict=True):
            with lm.inferring():
                for method, given in of_model:
                    getattr(lm.backend, method)(lm, *given)
    return Played([], split, 0, _waste(*models))


def played(model: LanguageModel, loop: Loop, critic: str, shape: Shape) -> Played:
    """One rollout, with nothing remembered of any before."""
    forget()
    writer, reviewer = again(model), again(model)
    if loop is plain:
        writer.backend = reviewer.backend = AsTheyCome()
    judge = _critic(critic, reviewer)
    with Split.taken() as split:
        hypotheses = loop(writer, judge, shape)
    return Played(hypotheses, split, writer.generated_tokens, _waste(writer, reviewer))


def _critic(name: str, lm: LanguageModel) -> str | Critic:
    return LearnedCritic(lm, TASK) if name == "learned" else name


def _waste(*models: LanguageModel) -> float | None:
    padded = sum(lm.padded_tokens for lm in models)
    return 1 - sum(lm.passed_tokens for lm in models) / padded if padded else None


def measure(name: str, shape: Shape, rounds: int) -> Iterator[Row]:
    """The rows of one model: for each critic the floor and the loops."""
    model = timed_model(name, shape.backend)
    few = replace(shape, episodes=min(shape.episodes, shape.places))
    for critic in CRITICS:
        floors = _floors(model, critic, shape)
        contenders = {loop: partial(floor, model, calls) for loop, calls in floors.items()}
        contenders |= {loop: partial(played, model, LOOPS[loop], critic, shape) for loop in LOOPS}
        noted = _floors(model, critic, few)
        taken = in_turn(contenders, rounds)
        times = {loop: [one.split.total for one in of_loop] for loop, of_loop in taken.items()}
        written = taken["ours"][0]
        for loop, of_loop in taken.items():
            middle = sorted(of_loop, key=lambda one: one.split.total)[rounds // 2]
            split, second = middle.split, middle.split.total
            yield {
                "part": "rollout",
                "model": name,
                "critic": critic,
                "contender": loop,
                "to_floor": ratio(times[loop], times[FLOOR]),
                "to_ours": ratio(times[loop], times["ours"]),
                "seconds": times[loop],
                "episodes_per_s": shape.episodes / second,
                "turns_per_s": sum(map(len, written.hypotheses)) / second,
                "tokens_per_s": written.tokens / second,
                "critic_calls": split.calls[CRITIC],
                "critic_calls_per_s": split.calls[CRITIC] / second,
                "share": {part: split.seconds[part] / second for part in PARTS if loop in LOOPS},
                "padding": middle.padding,
                "peak_mib": peak(_prepared, name, loop, critic, few, noted.get(loop)),
                "episodes": shape.episodes,
                "same_hypotheses": sum(a == b for a, b in zip(middle.hypotheses, written.hypotheses, strict=False)),
            }


def _floors(model: LanguageModel, critic: str, shape: Shape) -> dict[str, Calls]:
    calls = record(model, critic, shape)
    return {FLOOR: calls, KNOWN: [at_once(of_model) for of_model in calls]}


def _prepared(name: str, loop: str, critic: str, shape: Shape, calls: Calls | None) -> Callable[[], object]:
    model = timed_model(name, shape.backend)
    played(model, ours, critic, replace(shape, episodes=2, places=2))  # what is loaded late is loaded
    return partial(floor, model, calls) if calls else partial(played, model, LOOPS[loop], critic, shape)


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """For each model its ratios and rates, and where the time goes."""
    for name, of_model in by("model", rows):
        rates = ("episodes", "turns", "tokens", "critic_calls")
        titles = [f"{what.replace('critic_', '')}\n/s" for what in rates]
        title = f"Rollout, {name}, {of_model[0]['episodes']} episodes: times the floor, times ours"
        table = made(title, ["critic", ""], ["x floor", "x ours", *titles, "peak\nMiB"])
        split = made(f"Where the time goes, {name}, in %", ["critic", ""], [*PARTS, "padding", "same\nepisodes"])
        for critic, of_critic in by("critic", of_model):
            for row in of_critic:
                figures = [f"{row[f'{what}_per_s']:,.0f}" if row[f"{what}_per_s"] else "" for what in rates]
                ratios = shown(row["to_floor"]), shown(row["to_ours"])
                table.add_row(critic, row["contender"], *ratios, *figures, f"{row['peak_mib']:,.0f}")
                shares = [f"{100 * row['share'][part]:.1f}" if row["share"] else "" for part in PARTS]
                same = f"{row['same_hypotheses']} of {row['episodes']}" if row["share"] else ""
                padding = "" if row["padding"] is None else f"{100 * row['padding']:.1f}"
                split.add_row(critic, row["contender"], *shares, padding, same)
            table.add_section()
            split.add_section()
        yield table
        yield split
