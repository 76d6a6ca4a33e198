"""What an environment costs beside the judging of hypotheses.

The vector environment against Gymnasium's `SyncVectorEnv` over as many single ones, on the same math word problems with
the oracle, in turn:

- random text, by Gymnasium's own `gymnasium.utils.performance.benchmark_vector_step` (sampling it is timed too);
- wrong hypotheses (perturbations of gold), new ones, and such as were judged before;
- new hypotheses with a learned critic inside: one call of its model for all, or one for each.

The floor is the judging alone in a plain loop: score, faults, feedback and reward of the same hypotheses; with the
learned critic, its one call.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.utils.performance import benchmark_vector_step
from gymnasium.vector import SyncVectorEnv
from rich.table import Table

from agents.critic import LearnedCritic
from benchmarks.caches import forget
from benchmarks.rounds import Row, in_turn, made, ratio, shown
from benchmarks.timed_models import TASK, TIMED, timed_model
from refiner_env import RefinerVectorEnv
from refiner_env.rewards import resolve_reward
from refiner_env.types import Attempt, Problem

ID = "Refiner/MathWordProblem-v0"
REWARD = resolve_reward("equivalent")

WORK = ("random text", "new hypotheses", "judged before", "learned critic")
OURS, THEIRS, FLOOR = "RefinerVectorEnv", "SyncVectorEnv", "floor"

Judge = Callable[[Sequence[Problem], Sequence[str]], object]


def measure(name: str, places: int, steps: int, rounds: int) -> Iterator[Row]:
    """A row for each environment and the floor; the learned critic has the model of this name."""
    problems, critic = TIMED[:], LearnedCritic(timed_model(name), TASK)
    makers: dict[str, Callable[..., Any]] = {
        OURS: partial(RefinerVectorEnv, places, problems=problems),
        THEIRS: lambda **rules: SyncVectorEnv([lambda: gym.make(ID, problems=problems, **rules)] * places),
        FLOOR: lambda **rules: None,
    }

    def of_round(make: Callable[..., Any]) -> dict[str, float]:
        """Microseconds for one step of one sub-environment, by kind of work."""
        env = make()
        gc.collect()
        gc.freeze()  # what stays for the whole benchmark is not to be searched for garbage in every step
        times = [1e6 / benchmark_vector_step(env, target_duration=1, seed=0) if env else 0.0]
        times += [_per_step(make(), problems, places, steps, judged=judged) for judged in (False, True)]
        reviewed = make(critic=critic, stop="never")
        times.append(_per_step(reviewed, problems, places, 1, judged=False, judge=critic.critique))
        return dict(zip(WORK, times, strict=True))

    taken = in_turn({contender: partial(of_round, make) for contender, make in makers.items()}, rounds)
    for work in WORK:
        times = {contender: [one[work] for one in of_rounds] for contender, of_rounds in taken.items()}
        yield {
            "part": "environment",
            "model": name,
            "work": work,
            "places": places,
            "microseconds": times,
            "to_floor": ratio(times[OURS], times[FLOOR]) if all(times[FLOOR]) else None,
            "theirs_to_ours": ratio(times[THEIRS], times[OURS]),
        }


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """The one table."""
    title = f"An environment step, {rows[0]['places']} places: ratios, and us (the fastest round)"
    table = made(title, ["hypotheses"], ["ours x floor", f"{THEIRS} x ours", "ours", THEIRS, FLOOR])
    for row in rows:
        least = [min(times) for times in row["microseconds"].values()]
        fastest = [f"{us:,.1f}" if 0 < us < 1_000 else f"{us:,.0f}" if us else "" for us in least]
        floor = shown(row["to_floor"]) if row["to_floor"] else ""
        table.add_row(row["work"], floor, shown(row["theirs_to_ours"]), *fastest)
    yield table


def _judge(problems: Sequence[Problem], hypotheses: Sequence[str]) -> None:
    for problem, hypothesis in zip(problems, hypotheses, strict=True):
        TASK.feedback(TASK.diagnose(problem, hypothesis))
        REWARD(Attempt(TASK, problem, hypothesis, TASK.score(problem, hypothesis), 0, None))


def _per_step(
    env: Any, problems: Sequence[Problem], n: int, steps: int, *, judged: bool, judge: Judge = _judge
) -> float:
    """The mean over `steps` with one wrong hypothesis each; without an environment, of the judging alone."""
    forget()
    rng = random.Random(0)
    places = env.reset(seed=0)[1]["index"].copy() if env else [rng.randrange(len(problems)) for _ in range(n)]
    seconds = 0.0
    for _ in range(steps):
        shown = [problems[i] for i in places]
        hypotheses = tuple([TASK.perturb(problem, rng) for problem in shown])
        if judged:
            _judge(shown, hypotheses)
        started = time.perf_counter()
        infos: dict[str, Any] = env.step(hypotheses)[4] if env else {"judged": judge(shown, hypotheses)}
        seconds += time.perf_counter() - started
        if "_index" in infos:
            places[infos["_index"]] = infos["index"][infos["_index"]]
    return 1e6 * seconds / (n * steps)
