"""Rollouts timed: what the loop costs beside the arithmetic of the model, and what a loop written plainly costs.

- floor: the prompts of all turns, known beforehand, given to the bare model at once, sorted by length;
- ours: `trainers.rollout.play`;
- plain: single environments in Gymnasium's SyncVectorEnv, the library's `generate` on all observations as they come,
  padded to the longest, and a critic that each environment asks by itself.

All three decode the same prompts of the same problems.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from rich.table import Table

from agents.critic import LearnedCritic
from agents.decoding import DEFAULT, Backend, Decoding
from agents.decoding import Row as Tokens
from agents.generator import BEAMS, Generator
from agents.lm import LanguageModel
from benchmarks.caches import forget
from benchmarks.rounds import Row, by, in_turn, made, peak, ratio, shown
from benchmarks.split import CRITIC, PARTS, Split
from benchmarks.timed_models import TASK, TIMED, again, timed_model
from refiner_env.types import Critic, Problem
from trainers.rollout import play

CRITICS = ("oracle", "learned")
FLOOR = "floor"


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
    padding: float
    """The share of it in all prompts, the critic's included."""


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
    problems, lm.backend = shape.problems, AsTheyCome()
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


class AsTheyCome(Backend):
    """The library's `generate` on one batch of all prompts."""

    name = "as they come"

    def generate(self, lm: LanguageModel, prompts: Sequence[Tokens], decoding: Decoding) -> list[Tokens]:
        batch = lm.batch(prompts)
        options = {"do_sample": False, "num_beams": 1, "max_new_tokens": decoding.max_new_tokens}
        return lm.completed(lm.model.generate(**batch, **lm.start, **options), batch["input_ids"].shape[1])


@dataclass
class Asked:
    """What a model was asked in a rollout."""

    continued: dict[int | None, list[Tokens]] = field(default_factory=dict)
    """Prompts, by the token with which no completion begins."""
    scored: list[tuple[Tokens, Tokens]] = field(default_factory=list)
    beams: list[str] = field(default_factory=list)

    def once_more(self, lm: LanguageModel) -> None:
        """All of it at once."""
        with lm.inferring():
            for not_first, prompts in self.continued.items():
                lm.backend.generate(lm, prompts, Decoding(lm.max_new_tokens, not_first=not_first))
            if self.scored:
                lm.backend.log_probabilities(lm, *zip(*self.scored, strict=True))
            if self.beams:
                lm.likeliest(self.beams, BEAMS)


class Recorder(Backend):
    """Decodes as another back end, and notes of what."""

    name = "recorder"

    def __init__(self, inner: Backend) -> None:
        self.inner, self.asked = inner, Asked()

    def generate(self, lm: LanguageModel, prompts: Sequence[Tokens], decoding: Decoding) -> list[Tokens]:
        self.asked.continued.setdefault(decoding.not_first, []).extend(prompts)
        return self.inner.generate(lm, prompts, decoding)

    def log_probabilities(self, lm: LanguageModel, prompts: Sequence[Tokens], targets: Sequence[Tokens]) -> list[float]:
        self.asked.scored += zip(prompts, targets, strict=True)
        return self.inner.log_probabilities(lm, prompts, targets)


def record(model: LanguageModel, critic: str, shape: Shape) -> list[Asked]:
    """What our loop asks of the generator's model, and of the critic's."""
    writer, reviewer = again(model), again(model)
    notes = []
    for lm in (writer, reviewer):
        lm.backend = recorder = Recorder(lm.backend)
        notes.append(recorder.asked)
    likeliest = writer.likeliest

    def noted(prompts: Sequence[str], count: int) -> list[list[str]]:
        notes[0].beams += prompts
        return likeliest(prompts, count)

    with mock.patch.object(writer, "likeliest", noted):
        ours(writer, _critic(critic, reviewer), shape)
    return notes


def floor(model: LanguageModel, notes: Sequence[Asked]) -> Played:
    """The arithmetic alone."""
    models = [again(model) for _ in notes]
    with Split.taken() as split:
        for lm, asked in zip(models, notes, strict=True):
            asked.once_more(lm)
    return Played([], split, 0, _waste(*models))


def played(model: LanguageModel, loop: Loop, critic: str, shape: Shape) -> Played:
    """One rollout, with nothing remembered of any before."""
    forget()
    writer, reviewer = again(model), again(model)
    judge = _critic(critic, reviewer)
    with Split.taken() as split:
        hypotheses = loop(writer, judge, shape)
    return Played(hypotheses, split, writer.generated_tokens, _waste(writer, reviewer))


def _critic(name: str, lm: LanguageModel) -> str | Critic:
    return LearnedCritic(lm, TASK) if name == "learned" else name


def _waste(*models: LanguageModel) -> float:
    return 1 - sum(lm.passed_tokens for lm in models) / sum(lm.padded_tokens for lm in models)


def measure(name: str, shape: Shape, rounds: int) -> Iterator[Row]:
    """The rows of one model: for each critic the floor and the loops."""
    model = timed_model(name, shape.backend)
    few = replace(shape, episodes=min(shape.episodes, shape.places))
    for critic in CRITICS:
        contenders = {FLOOR: partial(floor, model, record(model, critic, shape))}
        contenders |= {loop: partial(played, model, LOOPS[loop], critic, shape) for loop in LOOPS}
        noted = record(model, critic, few)
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
                "share": {part: split.seconds[part] / second for part in PARTS if loop != FLOOR},
                "padding": middle.padding,
                "peak_mib": peak(_prepared, name, loop, critic, few, noted),
                "episodes": shape.episodes,
                "same_hypotheses": sum(a == b for a, b in zip(middle.hypotheses, written.hypotheses, strict=False)),
            }


def _prepared(name: str, loop: str, critic: str, shape: Shape, notes: Sequence[Asked]) -> Callable[[], object]:
    model = timed_model(name, shape.backend)
    played(model, ours, critic, replace(shape, episodes=2, places=2))  # what is loaded late is loaded
    return partial(floor, model, notes) if loop == FLOOR else partial(played, model, LOOPS[loop], critic, shape)


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
                split.add_row(critic, row["contender"], *shares, f"{100 * row['padding']:.1f}", same)
            table.add_section()
            split.add_section()
        yield table
        yield split
