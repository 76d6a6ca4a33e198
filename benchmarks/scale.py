"""How the throughput of our rollout changes with places, turns, critics and processes; and a stream of problems."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial

from gymnasium.vector import AutoresetMode
from rich.table import Table

from agents.critic import LearnedCritic
from benchmarks.caches import forget
from benchmarks.rollout_speed import Shape, ours, played
from benchmarks.rounds import MEBIBYTE, Row, alone, by, in_turn, made, most_resident, now, ratio, seconds, shown
from benchmarks.timed_models import TASK, again, timed_model
from refiner_env import ProceduralProblems, RefinerVectorEnv
from refiner_env.critics import ConsensusCritic
from refiner_env.scripted import ScriptedEditor

PLACES = (1, 4, 16, 64, 256, 1_024)
TURNS = (1, 2, 3, 4)
CRITICS = (1, 2, 4)
PROCESSES = 2


def measure(name: str, shape: Shape, rounds: int) -> Iterator[Row]:
    """The rows of one model; all but those of processes are of one round."""
    model = timed_model(name, shape.backend)
    few = replace(shape, episodes=max(1, shape.episodes // 2))

    def row(what: str, number: int, played: Shape, taken: float) -> Row:
        rate = number * played.episodes / taken if what == "processes" else played.episodes / taken
        return {
            "part": "scale",
            "model": name,
            "what": what,
            "number": number,
            "episodes": played.episodes,
            "episodes_per_s": rate,
        }

    for places in PLACES:
        one = replace(few, places=places, episodes=max(places, few.episodes // 2))
        yield row("places", places, one, played(model, ours, "oracle", one).split.total)
    for turns in TURNS:
        one = replace(few, turns=turns)
        yield row("turns", turns, one, played(model, ours, "oracle", one).split.total)
    for count in CRITICS:
        forget()
        judge = ConsensusCritic(TASK, *[LearnedCritic(again(model), TASK) for _ in range(count)])
        yield row("learned critics", count, few, seconds(partial(ours, again(model), judge, few)))
    for count, taken, gain in in_processes(name, few, rounds):
        yield {**row("processes", count, few, taken), "to_one": gain}


def in_processes(name: str, shape: Shape, rounds: int) -> Iterator[tuple[int, float, list[float]]]:
    """(processes, seconds, throughput against one of them), each with a core of its own and the same to play.

    None where there are fewer cores than that.
    """
    cores = sorted(os.sched_getaffinity(0))[:PROCESSES]
    if len(cores) < PROCESSES:
        return
    with ExitStack() as stack:
        workers = [stack.enter_context(alone(core)) for core in cores]

        def taken(count: int) -> float:
            def together() -> None:
                for one in [worker.submit(_play, name, shape) for worker in workers[:count]]:
                    one.result()

            return seconds(together)

        taken(PROCESSES)  # loads the model
        counts = tuple(range(1, PROCESSES + 1))
        times = in_turn({str(count): partial(taken, count) for count in counts}, rounds)
        for count in counts:
            gain = ratio([count * one for one in times["1"]], times[str(count)])
            yield count, statistics.median(times[str(count)]), gain


def _play(name: str, shape: Shape) -> None:
    played(_loaded(name, shape.backend), ours, "oracle", shape)


_loaded = cache(timed_model)


def stream(problems: int) -> Row:
    """So many episodes of a scripted editor with the oracle, in 64 places: their rate, and the peak memory."""
    source = ProceduralProblems(TASK, seed=4, size=problems)
    env = RefinerVectorEnv(64, problems=source, max_turns=3, autoreset_mode=AutoresetMode.SAME_STEP)
    agent = ScriptedEditor(TASK)
    observations, _ = env.reset(seed=0)
    ended = half = 0
    started = now()
    while ended < problems:
        observations, _, terminated, truncated, _ = env.step(agent.act(observations))
        ended += int((terminated | truncated).sum())
        if not half and 2 * ended >= problems:
            half = most_resident()
    return {
        "part": "stream",
        "model": "scripted",
        "episodes": ended,
        "episodes_per_s": ended / (now() - started),
        "mib_after_half": half / MEBIBYTE,
        "mib_after_all": most_resident() / MEBIBYTE,
    }


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """Episodes a second of each model, against the first figure of each kind."""
    for name, of_model in by("model", rows):
        table = made(f"Our rollout, {name}: episodes a second", [""], ["number", "episodes/s", "x the first"])
        for what, of_kind in by("what", of_model):
            for row in of_kind:
                rate = row["episodes_per_s"]
                gain = shown(row["to_one"]) if "to_one" in row else f"{rate / of_kind[0]['episodes_per_s']:.2f}"
                table.add_row(what, f"{row['number']:,}", f"{rate:,.1f}", gain)
            table.add_section()
        yield table


def stream_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """The one table."""
    title = "A stream of problems, scripted editor"
    table = made(title, [], ["episodes", "episodes/s", "MiB after half", "MiB after all"])
    for row in rows:
        figures = (row[key] for key in ("episodes", "episodes_per_s", "mib_after_half", "mib_after_all"))
        table.add_row(*(f"{figure:,.0f}" for figure in figures))
    yield table
