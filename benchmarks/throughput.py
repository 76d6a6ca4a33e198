"""`python -m benchmarks.throughput`: what an environment costs beside the judging of hypotheses.

The vector environment against Gymnasium's `SyncVectorEnv` over as many single ones, on the same math word problems with
the oracle, in turn, the fastest of several rounds each:

- random text, by Gymnasium's own `gymnasium.utils.performance.benchmark_vector_step` (sampling it is timed too);
- wrong hypotheses (perturbations of gold), new ones, and such as were judged before.

The floor is the judging alone in a plain loop: score, faults, feedback and reward of the same hypotheses. And with a
learned critic inside: model calls in a step, and the time of one.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.utils.performance import benchmark_vector_step
from gymnasium.vector import SyncVectorEnv
from rich.console import Console
from rich.table import Table

from refiner_env import ProceduralProblems, RefinerVectorEnv
from refiner_env.critics import TimedCritic, resolve_critic
from refiner_env.rewards import resolve_reward
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Attempt, Critic, Problem

ID = "Refiner/MathWordProblem-v0"
TASK = MathWordProblem()
REWARD = resolve_reward("equivalent")


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--num-envs", type=int, default=64, help="sub-environments (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="steps of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each, in turn (default: %(default)s)")
    parser.add_argument("--critic", default="learned", help="the critic with a model (default: %(default)s)")
    args = parser.parse_args(argv)
    problems = ProceduralProblems(TASK, seed=3, size=2_000)[:]
    console = Console()
    console.print(overhead(problems, args.num_envs, args.steps, args.rounds))
    console.print(with_model(problems, args.num_envs, args.critic, args.rounds))
    return 0


def single_ones(n: int, problems: Sequence[Problem], **rules: Any) -> SyncVectorEnv:
    """Gymnasium's batch of single environments."""
    return SyncVectorEnv([lambda: gym.make(ID, problems=problems, **rules)] * n)


def overhead(problems: Sequence[Problem], n: int, steps: int, rounds: int) -> Table:
    """Microseconds for one step of one sub-environment."""
    contenders: dict[str, Callable[[], Any]] = {
        "RefinerVectorEnv": lambda: RefinerVectorEnv(n, problems=problems),
        "SyncVectorEnv": lambda: single_ones(n, problems),
        "floor": lambda: None,
    }
    figures: dict[str, list[list[float]]] = {name: [[], [], []] for name in contenders}
    for k in range(rounds):
        for name, make in contenders.items():
            random_text, new, known = figures[name]
            env = make()
            gc.collect()
            gc.freeze()  # what stays for the whole benchmark is not to be searched for garbage in every step
            if env:
                random_text.append(1e6 / benchmark_vector_step(env, target_duration=1, seed=k))
            new.append(_per_step(make(), problems, n, steps, seed=k, judged=False))
            known.append(_per_step(make(), problems, n, steps, seed=k, judged=True))
    table = Table("", "random text", "new hypotheses", "judged before", title=f"us an env-step, N={n}, oracle")
    best = {name: [min(times, default=float("nan")) for times in columns] for name, columns in figures.items()}
    for name, columns in best.items():
        table.add_row(name, *("" if us != us else f"{us:.1f}" for us in columns))
    ours, theirs, floor = best["RefinerVectorEnv"], best["SyncVectorEnv"], best["floor"]
    table.add_row("ratio", *(f"{b / a:.1f}" for a, b in zip(ours, theirs, strict=True)))
    above = [(b - f) / (a - f) for a, b, f in zip(ours, theirs, floor, strict=True)]
    table.add_row("ratio above the floor", *("" if ratio != ratio else f"{ratio:.1f}" for ratio in above))
    return table


def _per_step(env: Any, problems: Sequence[Problem], n: int, steps: int, *, seed: int, judged: bool) -> float:
    """The mean over `steps` with one wrong hypothesis each; without an environment, of the judging alone."""
    rng = random.Random(f"{seed}/{judged}/{type(env).__name__}")  # nobody profits from what another has judged
    places = env.reset(seed=seed)[1]["index"].copy() if env else [rng.randrange(len(problems)) for _ in range(n)]
    seconds = 0.0
    for _ in range(steps):
        shown = [problems[i] for i in places]
        hypotheses = [TASK.perturb(problem, rng) for problem in shown]
        if judged:
            _judge(shown, hypotheses)
        started = time.perf_counter()
        infos = env.step(hypotheses)[4] if env else _judge(shown, hypotheses)
        seconds += time.perf_counter() - started
        if "_index" in infos:
            places[infos["_index"]] = infos["index"][infos["_index"]]
    return 1e6 * seconds / (n * steps)


def _judge(problems: Sequence[Problem], hypotheses: Sequence[str]) -> dict[str, Any]:
    for problem, hypothesis in zip(problems, hypotheses, strict=True):
        TASK.feedback(TASK.diagnose(problem, hypothesis))
        REWARD(Attempt(TASK, problem, hypothesis, TASK.score(problem, hypothesis), 0, None))
    return {}


def with_model(problems: Sequence[Problem], n: int, name: str, rounds: int) -> Table:
    """Calls of a critic with a model in one step, and the milliseconds of a step: one batch, or one by one."""
    critic: Critic = resolve_critic(name, TASK)
    table = Table("", "calls a step", "ms a step", title=f"N={n}, critic {name}")
    times: dict[str, list[float]] = {"RefinerVectorEnv": [], "SyncVectorEnv": []}
    calls = dict.fromkeys(times, 0)
    rng = random.Random(0)
    for k in range(rounds):
        for contender in times:
            timed = TimedCritic(TASK, critic)
            rules: dict[str, Any] = {"critic": timed, "stop": "never"}
            vector = contender == "RefinerVectorEnv"
            env: Any = RefinerVectorEnv(n, problems=problems, **rules) if vector else single_ones(n, problems, **rules)
            places = env.reset(seed=k)[1]["index"]
            hypotheses = tuple([TASK.perturb(problems[i], rng) for i in places])
            started = time.perf_counter()
            env.step(hypotheses)
            times[contender].append(1e3 * (time.perf_counter() - started))
            calls[contender] = timed.calls
    for contender, taken in times.items():
        table.add_row(contender, str(calls[contender]), f"{min(taken):.0f}")
    table.add_row("ratio", "", f"{min(times['SyncVectorEnv']) / min(times['RefinerVectorEnv']):.1f}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
