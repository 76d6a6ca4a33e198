"""What is drawn follows from what it is drawn for, so that batches, places and the order of episodes change nothing."""

from __future__ import annotations

import pytest
from gymnasium.vector import AutoresetMode

from agents.generator import Generator, Retrier
from agents.lm import LanguageModel
from refiner_env import CriticVectorEnv, RefinerVectorEnv, draws
from refiner_env.draws import Draws
from refiner_env.scripted import ScriptedEditor
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Agent, Episode
from trainers.rollout import play, rollout

TASK = MathWordProblem()
PROBLEMS = [TASK.generate(6, i) for i in range(40)]
NOISE = ("noisy(oracle, 0.5)", "noisy(consensus(noisy, noisy(typed, 0.4, seed=7)), 0.3)")


def drawn(source: Draws, *keys: str) -> list[float]:
    return [source.of(key).random() for key in keys]


def test_the_nth_time_follows_from_seed_and_key_alone() -> None:
    one = drawn(Draws(1), "a", "a", "a")
    assert len({*one, *drawn(Draws(1), "b", "b"), *drawn(Draws(2), "a", "a")}) == 7
    assert drawn(Draws(1), "b", "a", "c", "a", "b", "a")[1::2] == one


def test_numbers_are_the_same_in_every_process() -> None:
    assert Draws(0).of("a").getrandbits(32) == 2153034168
    assert Draws("scripted 0").of("\ud800").getrandbits(32) == 3958224744


def test_what_came_up_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "REMEMBERED", 2)
    source = Draws(0)
    first, second = drawn(source, "a", "a")
    drawn(source, "b", "a", "c")  # "a" came up after "b"
    assert drawn(source, "a") not in ([first], [second]) and drawn(source, "b") == drawn(Draws(0), "b")


def played(agent: Agent, critic: str, num_envs: int, turns: int = 4) -> list[Episode]:
    """Episodes on all problems in order, after `reset` with a seed."""
    env = RefinerVectorEnv(
        num_envs,
        task=TASK,
        problems=PROBLEMS,
        critic=critic,
        max_turns=turns,
        stop="critic",
        autoreset_mode=AutoresetMode.DISABLED,
    )
    env.reset(seed=5, options={"index": []})
    ended = dict(rollout(env, agent, range(len(PROBLEMS))))
    return [ended[number] for number in range(len(PROBLEMS))]


@pytest.mark.parametrize("critic", NOISE)
def test_the_same_seed_gives_the_same_episodes_in_any_number_of_places(critic: str) -> None:
    one, three, many = (played(ScriptedEditor(TASK, 3), critic, n) for n in (1, 3, 64))
    assert one == three == many
    assert {len(e.turns) for e in one} >= {1, 2, 4} and played(ScriptedEditor(TASK, 4), critic, 3) != one


@pytest.mark.parametrize("agent", [Generator, Retrier])
def test_samples_are_the_same_in_any_number_of_places(lm: LanguageModel, agent: type[Generator | Retrier]) -> None:
    model = lm.clone()
    model.max_new_tokens = 8

    def written(n: int, seed: int = 0) -> list[list[str]]:
        episodes = play(agent(model, 0.9, seed), TASK, PROBLEMS[:6], critic="none", turns=3, stop="never", num_envs=n)
        return [[turn.hypothesis for turn in e.turns] for e in episodes]

    one = written(1)
    assert one == written(4) == written(64) != written(4, 1)
    assert all(len(set(texts)) > 1 for texts in one)


def test_the_answers_to_a_critic_do_not_depend_on_the_number_of_places() -> None:
    said = [TASK.describe(TASK.diagnose(p, TASK.guess)) for p in PROBLEMS]

    def answers(n: int) -> list[str]:
        env = CriticVectorEnv(n, AutoresetMode.DISABLED, task=TASK, problems=PROBLEMS, max_turns=2)
        env.reset(seed=5, options={"index": []})
        found: list[str] = []
        for start in range(0, len(PROBLEMS), n):
            places = range(start, min(start + n, len(PROBLEMS)))
            env.reset(options={"index": places})
            actions = [said[i] for i in places] + [""] * (n - len(places))
            found += env.step(actions)[0]["hypothesis"][: len(places)]
        return found

    assert answers(1) == answers(3) == answers(64)
