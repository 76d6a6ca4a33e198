"""The environments: Gymnasium's contract, stopping, what is shown and what is hidden, and the batched form."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import refiner_env
from refiner_env import (
    CriticEnv,
    CriticVectorEnv,
    ProceduralProblems,
    RefinerEnv,
    RefinerVectorEnv,
    register_critic,
    resolve_critic,
)
from refiner_env.critics import CRITICS, OracleCritic
from refiner_env.errors import DuplicateNameError, OptionError, RefinerError, UnknownNameError
from refiner_env.rewards import REWARDS
from refiner_env.spaces import TextSpace
from refiner_env.tasks.math_word_problem import MathWordProblem
from refiner_env.tasks.phrases import NO_HINT
from refiner_env.types import Attempt, Critic, Fault, Feedback, Problem, Scores, StopReason, Turn

HEAVY = ("learned", "self", "api", "human")
"""Critics with a model, a person or a server inside: the contract tests have them."""
IDS = [id for id in gym.registry if id.startswith("Refiner/") and id.split(".")[-1].removesuffix("-v0") not in HEAVY]
PURE = ["oracle", "none", "execution", "scalar", "typed"]
"""Critics without a model and without random numbers: in a batch or alone, they say the same to the last bit."""
TASK = MathWordProblem()
PROBLEMS = ProceduralProblems(TASK, seed=5, size=8)[:]
ROOT = Path(__file__).parents[1]


def gold(problem: Problem) -> str:
    assert problem.gold is not None
    return problem.gold


def wrong(problem: Problem, seed: int = 0) -> str:
    return TASK.perturb(problem, random.Random(seed))


class Spy(Critic):
    """Accepts everything or nothing, and remembers what it was shown."""

    def __init__(self, accepts: bool = False, uses_gold: bool = False) -> None:
        self.accepts = accepts
        self.uses_gold = uses_gold  # type: ignore[misc]
        self.batches: list[tuple[list[Problem], list[str]]] = []

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        self.batches.append((list(problems), list(hypotheses)))
        feedback = Feedback(True, NO_HINT) if self.accepts else Feedback(False, "Hm.", (Fault("other", hint="Hm."),))
        return [feedback] * len(hypotheses)


def started(problem: Problem = PROBLEMS[0], **kwargs: Any) -> RefinerEnv:
    """An environment with one problem, reset."""
    env = RefinerEnv(problems=[problem], **kwargs)
    env.reset(seed=0)
    return env


# ------------------------------------------------------------------------------------- Gymnasium's contract


def test_the_ids_are_there() -> None:
    assert {
        "Refiner/MathWordProblem-v0",
        "Refiner/MathWordProblem.oracle-v0",
        "Refiner/MathWordProblem.none-v0",
        "Refiner/MoralStories-v0",
    } <= set(IDS)


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("max_turns", [1, 2, 4])
def test_check_env_passes_without_a_warning(id: str, max_turns: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(id, max_turns=max_turns).unwrapped)


@pytest.mark.parametrize("id", IDS)
def test_rollouts_with_the_same_seed_are_equal(id: str) -> None:
    def rollout(seed: int) -> list[Any]:
        env = gym.make(id)
        env.action_space.seed(seed)
        seen: list[Any] = [env.reset(seed=seed)]
        for _ in range(20):
            seen.append(env.step(env.action_space.sample()))
            if seen[-1][2] or seen[-1][3]:
                seen.append(env.reset())
        return seen

    assert rollout(3) == rollout(3) != rollout(4)


def test_vector_rollouts_with_the_same_seed_are_equal() -> None:
    def rollout(seed: int) -> list[Any]:
        env = RefinerVectorEnv(3, max_turns=2)
        env.action_space.seed(seed)
        observations, infos = env.reset(seed=seed)
        seen = [observations["problem"], infos["uid"].tolist()]
        for _ in range(10):
            observations, rewards, *_ = env.step(env.action_space.sample())
            seen += [observations["problem"], observations["hypothesis"], observations["feedback"], rewards.tolist()]
        return seen

    assert rollout(3) == rollout(3) != rollout(4)


def test_reset_draws_all_problems() -> None:
    env = RefinerEnv(problems=PROBLEMS)
    env.reset(seed=0)
    assert {env.reset()[1]["index"] for _ in range(200)} == set(range(len(PROBLEMS)))


def test_make_needs_no_other_import() -> None:
    code = (
        "import gymnasium as gym; env = gym.make('refiner_env:Refiner/MathWordProblem-v0');"
        "print(sorted(env.reset(seed=0)[0])); print(env.step('hello')[0]['feedback'])"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert run.stdout.splitlines() == ["['feedback', 'hypothesis', 'problem', 'turn']", "The program cannot be read."]
    assert run.stderr == "" and run.returncode == 0


@pytest.mark.parametrize("id", IDS)
def test_specs_survive_json(id: str) -> None:
    text = gym.spec(id).to_json()
    assert json.loads(text)["kwargs"]["task"] == id.removeprefix("Refiner/").removesuffix("-v0").split(".")[0]
    assert EnvSpec.from_json(text).make().unwrapped.__class__ is (CriticEnv if ".Critic-" in id else RefinerEnv)


@pytest.mark.parametrize("id", IDS)
def test_make_vec_gives_the_batched_form(id: str) -> None:
    env = gym.make_vec(
        id,
        num_envs=3,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.DISABLED,
    )
    assert isinstance(env.unwrapped, CriticVectorEnv if ".Critic-" in id else RefinerVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    observations, _ = env.reset(seed=0)
    assert len(observations["problem"]) == 3
    observations, rewards, *_ = env.step(["hello"] * 3)
    assert observations["turn"].tolist() == [1] * 3 and rewards.shape == (3,)


def test_vector_observations_and_actions_lie_in_their_spaces() -> None:
    env = RefinerVectorEnv(3, problems=PROBLEMS)
    assert env.observation_space.contains(env.reset(seed=0)[0])
    for _ in range(6):
        actions = env.action_space.sample()
        assert env.action_space.contains(actions)
        observations, rewards, terminated, truncated, _ = env.step(actions)
        assert env.observation_space.contains(observations)
        assert rewards.shape == terminated.shape == truncated.shape == (3,)
        assert rewards.dtype == np.float64 and terminated.dtype == truncated.dtype == np.bool_


def test_it_works_inside_gymnasiums_vector_environment() -> None:
    env = SyncVectorEnv([lambda: gym.make("Refiner/MathWordProblem-v0", problems=PROBLEMS)] * 2)
    observations, infos = env.reset(seed=[1, 2])
    assert observations["hypothesis"] == ("", "") and observations["turn"].tolist() == [0, 0]
    answers = tuple(gold(PROBLEMS[i]) for i in infos["index"])
    observations, rewards, terminated, _, infos = env.step(answers)
    assert observations["hypothesis"] == answers and observations["feedback"] == (NO_HINT, NO_HINT)
    assert rewards.tolist() == [1.0, 1.0] and terminated.all() and infos["ir_exact"].all()


def test_rendering_shows_the_attempt_and_what_was_said() -> None:
    env = started(render_mode="ansi")
    env.step("hello")
    shown = env.render()
    assert shown is not None and shown.startswith(f"{PROBLEMS[0].text}\n[1] \x1b[1;4;31mhello\x1b[0m\n")
    assert "rejected: The program cannot be read." in shown and "equivalent no" in shown
    batched = RefinerVectorEnv(1, problems=PROBLEMS[:1], render_mode="ansi")
    batched.reset()
    batched.step(["hello"])
    assert batched.render() == (env.render(),)


def test_text_space_holds_any_text_up_to_its_length() -> None:
    space = TextSpace(max_length=5, seed=0)
    assert all(space.contains(x) for x in ("", "abcde", "\x00\n", "\ud800", "日本語"))
    assert not any(space.contains(x) for x in ("abcdef", 3, None, b"abc", ["a"]))
    samples = [space.sample() for _ in range(50)]
    assert all(map(space.contains, samples)) and len(set(samples)) > 20
    assert samples[0] == TextSpace(5, seed=0).sample()
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples)))) == samples
    assert space == TextSpace(5) != TextSpace(6) and "5" in repr(space)


# ------------------------------------------------------------------------------------------ what is observed


def test_the_first_observation_is_the_problem_alone() -> None:
    env = RefinerEnv(problems=PROBLEMS)
    observation, info = env.reset(options={"index": 3})
    assert observation == {"problem": PROBLEMS[3].text, "hypothesis": "", "feedback": "", "turn": 0}
    assert info == {"uid": PROBLEMS[3].uid, "index": 3}


def test_later_observations_hold_the_last_attempt_and_its_feedback() -> None:
    env = started(PROBLEMS[1])
    for turn, hypothesis in enumerate(["hello", wrong(PROBLEMS[1])], start=1):
        observation, _, _, _, _ = env.step(hypothesis)
        feedback = TASK.describe(TASK.diagnose(PROBLEMS[1], hypothesis))
        assert observation == {
            "problem": PROBLEMS[1].text,
            "hypothesis": hypothesis,
            "feedback": feedback,
            "turn": turn,
        }


def test_reset_forgets_the_last_episode() -> None:
    env = started()
    env.step("hello")
    observation, _ = env.reset()
    assert (observation["hypothesis"], observation["feedback"], observation["turn"]) == ("", "", 0)


def test_info_holds_the_turn_with_typed_faults_and_flat_scores() -> None:
    *_, info = started().step("hello")
    fault = Fault("syntax", hint="expected #0:, found 'hello'", span=(0, 5))
    feedback = Feedback(False, "The program cannot be read.", (fault,))
    scores = Scores(False, False, False, 0.0)
    assert info == {
        "turn": Turn("hello", feedback, scores, 0.0, None, {"equivalent": 0.0}),
        "ir_exact": False,
        "ir_equivalent": False,
        "answer": False,
        "similarity": 0.0,
        "accepted": False,
        "critic_failed": False,
        "stop": "",
        "reward_parts": {"equivalent": 0.0},
    }


def leaves(value: Any) -> Iterator[Any]:
    """Everything inside nested mappings, sequences, arrays and dataclasses; keys too."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        value = [getattr(value, f.name) for f in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def assert_hides_gold(problem: Problem, said: str, shown: Any) -> None:
    """Neither gold, nor one of its steps that was not `said` by the agent itself, nor the answer is shown."""
    steps_of_gold = [step.partition(": ")[2] for step in gold(problem).split(" | ")[:-1]]
    secrets = [s for s in [*steps_of_gold, gold(problem)] if s not in said]
    for leaf in leaves(shown):
        assert not isinstance(leaf, Problem)
        if isinstance(leaf, str):
            assert not [s for s in secrets if s in leaf], leaf
        elif isinstance(leaf, float):
            assert leaf != problem.answer


HIDDEN = [p for p in ProceduralProblems(TASK, seed=9, size=60) if isinstance(p.answer, float) and p.answer > 10]


@pytest.mark.parametrize("critic", [*PURE, "noisy", "consensus"])
def test_nothing_shown_holds_gold(critic: str) -> None:
    for problem in HIDDEN:
        env = RefinerEnv(problems=[problem], critic=critic, max_turns=9, stop="never")
        assert_hides_gold(problem, "", env.reset())
        for hypothesis in ("hello", "", "number99999", "x" * 3_000, "#0: add ( #0, number9 )", wrong(problem)):
            assert_hides_gold(problem, hypothesis, env.step(hypothesis))
            assert_hides_gold(problem, hypothesis, env.render())


@pytest.mark.parametrize("mode", AutoresetMode)
def test_nothing_shown_in_batches_holds_gold(mode: AutoresetMode) -> None:
    for problem in HIDDEN[:10]:
        env = RefinerVectorEnv(2, problems=[problem], max_turns=2, autoreset_mode=mode)
        assert_hides_gold(problem, "", env.reset())
        for hypothesis in ("hello", wrong(problem), "number99999"):
            assert_hides_gold(problem, wrong(problem), env.step([hypothesis, "hello"]))


def test_a_critic_without_gold_sees_none() -> None:
    spy = Spy()
    single = started(critic=spy)
    single.step("hello")
    batched = RefinerVectorEnv(2, problems=PROBLEMS, critic=spy)
    batched.reset()
    batched.step(["hello", "hello"])
    seen = [problem for problems, _ in spy.batches for problem in problems]
    assert len(seen) == 3
    assert all(p.gold is None and p.answer is None and p.text and p.metadata["numbers"] for p in seen)


def test_an_oracle_sees_gold() -> None:
    spy = Spy(uses_gold=True)
    started(critic=spy).step("hello")
    assert spy.batches == [([PROBLEMS[0]], ["hello"])]


# -------------------------------------------------------------------------------------------------- stopping


def steps(env: RefinerEnv, hypotheses: Sequence[str]) -> list[tuple[bool, bool, str]]:
    """(terminated, truncated, stop) of each step."""
    return [(s[2], s[3], s[4]["stop"]) for s in map(env.step, hypotheses)]


ON = (False, False, "")
TRUNCATED = (False, True, "max_turns")


def test_the_critics_word_ends_the_episode_even_if_it_is_wrong() -> None:
    env = started(critic=Spy(accepts=True), stop="critic")
    assert steps(env, ["hello"]) == [(True, False, "accepted")]


def test_a_right_hypothesis_goes_on_until_the_critic_accepts() -> None:
    env = started(critic=Spy(accepts=False), stop="critic", max_turns=3)
    assert steps(env, [gold(PROBLEMS[0])] * 3) == [ON, ON, TRUNCATED]


def test_stop_by_gold_ignores_the_critic() -> None:
    env = started(critic=Spy(accepts=True), stop="gold")
    assert steps(env, ["hello", gold(PROBLEMS[0])]) == [ON, (True, False, "solved")]
    env = started(critic=Spy(accepts=False), stop="gold")
    assert steps(env, [gold(PROBLEMS[0])]) == [(True, False, "solved")]


def test_stop_by_gold_asks_for_equivalence() -> None:
    problem = next(p for p in PROBLEMS if TASK.rephrase(p, random.Random(1)) != p.gold)
    env = started(problem, stop="gold")
    assert steps(env, [TASK.rephrase(problem, random.Random(1))]) == [(True, False, "solved")]


def test_never_uses_all_turns() -> None:
    env = started(critic=Spy(accepts=True), stop="never", max_turns=3)
    assert steps(env, [gold(PROBLEMS[0])] * 3) == [ON, ON, TRUNCATED]


def test_the_oracle_accepts_gold_and_nothing_else() -> None:
    env = started()
    assert steps(env, [wrong(PROBLEMS[0]), gold(PROBLEMS[0])]) == [ON, (True, False, "accepted")]


def test_acceptance_on_the_last_turn_is_no_truncation() -> None:
    env = started(max_turns=2)
    assert steps(env, ["hello", gold(PROBLEMS[0])])[-1] == (True, False, "accepted")


def test_turns_used_up_truncate() -> None:
    env = started(max_turns=2)
    assert steps(env, ["hello", "hello"]) == [ON, TRUNCATED]


def test_a_one_turn_environment_terminates() -> None:
    assert steps(started(max_turns=1), ["hello"]) == [(True, False, "max_turns")]
    assert steps(started(max_turns=1), [gold(PROBLEMS[0])]) == [(True, False, "accepted")]


def test_stop_reasons_are_told_apart_in_the_turn() -> None:
    for stop, reason in (("critic", StopReason.ACCEPTED), ("gold", StopReason.SOLVED)):
        *_, info = started(stop=stop).step(gold(PROBLEMS[0]))
        assert info["turn"].stop is reason


# --------------------------------------------------------------------------------------------------- rewards

SUM = Problem("sum", "number0 and number1?", "#0: add ( number0, number1 ) | EOS", 4.0, {"numbers": (2.0, 2.0)})


@pytest.mark.parametrize(
    ("hypothesis", "exact_match", "equivalent", "answer"),
    [
        ("#0: add ( number0, number1 ) | EOS", 1.0, 1.0, 1.0),
        ("#0:ADD(number0,number1)<END>", 1.0, 1.0, 1.0),
        ("#0: add ( number1, number0 ) | EOS", 0.0, 1.0, 1.0),
        ("#0: multiply ( number0, number1 ) | EOS", 0.0, 0.0, 1.0),
        ("#0: subtract ( number0, number1 ) | EOS", 0.0, 0.0, 0.0),
        ("hello", 0.0, 0.0, 0.0),
    ],
)
def test_rewards_by_name(hypothesis: str, exact_match: float, equivalent: float, answer: float) -> None:
    for name, value in (("exact_match", exact_match), ("equivalent", equivalent), ("answer", answer)):
        assert started(SUM, reward=name).step(hypothesis)[1] == value


def test_bleu_falls_with_distance_from_gold() -> None:
    hypotheses = [gold(SUM), "#0: add ( number1, number0 ) | EOS", "#0: add", "hello", ""]
    rewards = [started(SUM, reward="bleu").step(h)[1] for h in hypotheses]
    assert rewards == sorted(rewards, reverse=True) and len(set(rewards)) >= 4
    assert rewards[0] == pytest.approx(1.0) and rewards[-1] == 0.0


@pytest.mark.parametrize("reward", REWARDS.names())
def test_rewards_lie_between_0_and_1(reward: str) -> None:
    for problem in [SUM, *PROBLEMS]:
        for hypothesis in (gold(problem), wrong(problem), gold(problem) * 3, "hello", "", "\x00", "add " * 5_000):
            value = started(problem, reward=reward).step(hypothesis)[1]
            assert isinstance(value, float) and 0.0 <= value <= 1.0, hypothesis


def test_a_reward_may_be_any_function() -> None:
    def shortness(attempt: Attempt) -> float:
        assert attempt.problem.gold and isinstance(attempt.scores, Scores)
        return 1.0 / (1 + len(attempt.hypothesis))

    env = started(reward=shortness)
    _, reward, _, _, info = env.step("abc")
    assert reward == info["turn"].reward == 0.25


# ------------------------------------------------------------------------------------------- the batched form


def info_of(infos: dict[str, Any], i: int) -> dict[str, Any]:
    """Sub-environment i's part of the infos of a batch."""
    return {
        key: info_of(value, i) if isinstance(value, dict) else value[i]
        for key, value in infos.items()
        if not key.startswith("_") and infos["_" + key][i]
    }


def observation_of(observations: Any, i: int) -> dict[str, Any]:
    return {key: values[i] for key, values in observations.items()}


@pytest.mark.parametrize("stop", ["critic", "gold", "never"])
@pytest.mark.parametrize("critic", PURE)
def test_a_batch_equals_as_many_single_environments(stop: Any, critic: str) -> None:
    n = len(PROBLEMS)
    batched = RefinerVectorEnv(
        n, problems=PROBLEMS, critic=critic, stop=stop, max_turns=3, autoreset_mode=AutoresetMode.DISABLED
    )
    singles = [RefinerEnv(problems=PROBLEMS, critic=critic, stop=stop, max_turns=3) for _ in range(n)]
    observations, infos = batched.reset(options={"index": list(range(n))})
    for i, env in enumerate(singles):
        assert env.reset(options={"index": i}) == (observation_of(observations, i), info_of(infos, i))
    over = np.zeros(n, dtype=bool)
    for turn in range(3):
        # Sub-environment i is right at turn i mod 4, so some are right at once and some never.
        actions = [gold(p) if turn == i % 4 else wrong(p, seed=turn) for i, p in enumerate(PROBLEMS)]
        observations, rewards, terminated, truncated, infos = batched.step(actions)
        for i in np.flatnonzero(~over):
            mine = (observation_of(observations, i), rewards[i], terminated[i], truncated[i], info_of(infos, i))
            assert singles[i].step(actions[i]) == mine
        over |= terminated | truncated
    assert over.all()


def gymnasiums_batch(problem: Problem, mode: AutoresetMode) -> SyncVectorEnv:
    """Three single environments of at most three turns, batched by Gymnasium."""
    return SyncVectorEnv([lambda: RefinerEnv(problems=[problem], max_turns=3)] * 3, autoreset_mode=mode)


def play_three_ways(env: Any, problem: Problem, rounds: int) -> Iterator[tuple[Any, ...]]:
    """Three sub-environments on one problem: right at once, right at the second turn, never right."""
    right, not_right = gold(problem), wrong(problem)
    yield env.reset(seed=0)
    for turn in range(rounds):
        yield env.step((right, right if turn % 3 == 1 else not_right, not_right))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_autoreset_is_gymnasiums(mode: AutoresetMode) -> None:
    problem = PROBLEMS[0]
    ours = RefinerVectorEnv(3, problems=[problem], max_turns=3, autoreset_mode=mode)
    theirs = gymnasiums_batch(problem, mode)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"] is mode
    pairs = zip(play_three_ways(ours, problem, 8), play_three_ways(theirs, problem, 8), strict=True)
    for (observations, *ends, infos), (their_observations, *their_ends, their_infos) in pairs:
        for i in range(3):
            assert observation_of(observations, i) == observation_of(their_observations, i)
            assert info_of(infos, i) == info_of(their_infos, i)
        assert [e.tolist() for e in ends] == [e.tolist() for e in their_ends]


def test_without_autoreset_the_mask_resets_as_in_gymnasium() -> None:
    problem = PROBLEMS[0]
    mode = AutoresetMode.DISABLED
    ours = RefinerVectorEnv(3, problems=[problem], max_turns=3, autoreset_mode=mode)
    theirs = gymnasiums_batch(problem, mode)
    ours.reset(), theirs.reset()
    for turn in range(8):
        actions = (gold(problem), gold(problem) if turn % 3 == 1 else "hello", wrong(problem))
        mine, other = ours.step(actions), theirs.step(actions)
        for a, b in zip(mine[1:4], other[1:4], strict=True):
            assert a.tolist() == b.tolist()
        over = mine[2] | mine[3]
        for env, (observations, *_) in ((ours, mine), (theirs, other)):
            assert observations["hypothesis"] == actions
            if over.any():
                observations, infos = env.reset(options={"reset_mask": over.copy()})
                for i in range(3):
                    assert (observations["hypothesis"][i] == "") == over[i]
                    assert ("uid" in info_of(infos, i)) == over[i]


def test_without_autoreset_an_ended_episode_stays_as_it_was() -> None:
    env = RefinerVectorEnv(2, problems=PROBLEMS, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(options={"index": [0, 1]})
    env.step([gold(PROBLEMS[0]), "hello"])
    observations, rewards, terminated, truncated, infos = env.step([None, "bye"])  # type: ignore[list-item]
    assert observations["hypothesis"] == (gold(PROBLEMS[0]), "bye")
    assert observations["feedback"][0] == NO_HINT and observations["turn"].tolist() == [1, 2]
    assert rewards.tolist() == [0.0, 0.0]
    assert terminated.tolist() == [True, False] and truncated.tolist() == [False, False]
    assert info_of(infos, 0) == {}


def test_the_critic_is_called_once_a_step_for_the_live_ones() -> None:
    spy = Spy()
    env = RefinerVectorEnv(
        3, problems=PROBLEMS, critic=spy, stop="gold", max_turns=3, autoreset_mode=AutoresetMode.DISABLED
    )
    env.reset(options={"index": [0, 1, 2]})
    assert spy.batches == []
    env.step(["a", gold(PROBLEMS[1]), "c"])
    env.step(["d", "e", "f"])
    env.step([gold(PROBLEMS[0]), "h", "i"])
    shown = [([p.uid for p in problems], hypotheses) for problems, hypotheses in spy.batches]
    uids = [p.uid for p in PROBLEMS]
    assert shown == [
        (uids[:3], ["a", gold(PROBLEMS[1]), "c"]),
        ([uids[0], uids[2]], ["d", "f"]),
        ([uids[0], uids[2]], [gold(PROBLEMS[0]), "i"]),
    ]


@pytest.mark.parametrize("mode", [AutoresetMode.DISABLED, AutoresetMode.NEXT_STEP])
def test_the_critic_is_not_called_for_nothing(mode: AutoresetMode) -> None:
    spy = Spy(accepts=True)
    env = RefinerVectorEnv(2, problems=PROBLEMS, critic=spy, autoreset_mode=mode)
    env.reset(seed=0)
    env.step(["a", "b"])
    env.step(["c", "d"])  # both are over: they rest, or begin anew
    assert [hypotheses for _, hypotheses in spy.batches] == [["a", "b"]]


def test_fewer_indices_than_environments_leave_the_others_out() -> None:
    spy = Spy()
    env = RefinerVectorEnv(4, problems=PROBLEMS, critic=spy, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    observations, infos = env.reset(options={"index": [3, 1]})
    assert observations["problem"][:2] == (PROBLEMS[3].text, PROBLEMS[1].text)
    assert infos["_uid"].tolist() == [True, True, False, False] and infos["index"][:2].tolist() == [3, 1]
    _, _, terminated, _, infos = env.step(["a", "b", "c", "d"])
    assert terminated.tolist() == [False, False, True, True]
    assert [hypotheses for _, hypotheses in spy.batches] == [["a", "b"]]
    assert infos["_turn"].tolist() == [True, True, False, False]


def test_the_mask_chooses_who_is_reset() -> None:
    env = RefinerVectorEnv(3, problems=PROBLEMS, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(options={"index": [0, 1, 2]})
    env.step(["a", "b", "c"])
    options = {"reset_mask": np.array([False, True, False]), "index": [4, 5, 6]}
    observations, infos = env.reset(options=options)
    assert observations["problem"] == (PROBLEMS[0].text, PROBLEMS[5].text, PROBLEMS[2].text)
    assert observations["hypothesis"] == ("a", "", "c") and observations["turn"].tolist() == [1, 0, 1]
    assert infos["_uid"].tolist() == [False, True, False]
    assert set(options) == {"reset_mask", "index"}


def test_observations_are_not_changed_by_later_steps() -> None:
    env = RefinerVectorEnv(1, problems=PROBLEMS)
    before, _ = env.reset(seed=0)
    env.step(["hello"])
    assert before["turn"].tolist() == [0] and before["hypothesis"] == ("",)


# ---------------------------------------------------------------------------------------------- odd actions

GARBAGE = {
    "empty": "",
    "long": "x" * 10_000,
    "longer than an observation": "#" * 200_000,
    "control characters": "\x00\x1b[31m\r\n\t\x7f",
    "unicode": "日本語 \u0663\uff11\u202e",
    "lone surrogate": "\ud800",
    "nested": "(" * 5_000,
    "markup": "</s><pad><extra_id_0>",
}


@pytest.mark.parametrize("reward", REWARDS.names())
@pytest.mark.parametrize("action", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_typed_fault_and_no_error(action: str, reward: str) -> None:
    env = started(reward=reward)
    observation, value, terminated, truncated, info = env.step(action)
    assert env.observation_space.contains(observation)
    assert 0.0 <= value <= 1.0 and not terminated and not truncated
    assert [f.kind for f in info["turn"].feedback.faults] in (["syntax"], ["too_long"])
    assert info["turn"].hypothesis == action
    assert observation["hypothesis"] == action[:100_000]


def test_garbage_in_a_batch_is_typed_faults_and_no_error() -> None:
    env = RefinerVectorEnv(len(GARBAGE), problems=PROBLEMS)
    env.reset(seed=0)
    observations, _, _, _, infos = env.step(list(GARBAGE.values()))
    assert env.observation_space.contains(observations)
    assert {f.kind for turn in infos["turn"] for f in turn.feedback.faults} == {"syntax", "too_long"}


def test_feedback_of_any_length_stays_in_its_space() -> None:
    class Chatty(Critic):
        def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
            return [Feedback(False, "blah " * 50_000, (Fault("other"),))] * len(hypotheses)

    env = started(critic=Chatty())
    observation, *_ = env.step("hello")
    assert env.observation_space.contains(observation)


# --------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"max_turns": 0}, "max_turns is 0"),
        ({"max_turns": -3}, "max_turns is -3"),
        ({"max_turns": "4"}, "max_turns is '?4"),
        ({"max_turns": 2.5}, "max_turns is 2.5"),
        ({"stop": "critics"}, "'critics'.*Did you mean 'critic'.*gold, never"),
        ({"stop": None}, "stop.*None"),
        ({"critic": "oracel"}, "critic 'oracel'.*Did you mean 'oracle'"),
        ({"critic": "nowhere.at_all:Critic"}, "nowhere.at_all:Critic"),
        ({"critic": 3}, "critic.*3"),
        ({"reward": "exact"}, "reward 'exact'.*Did you mean 'exact_match'"),
        ({"reward": 3}, "reward.*3"),
        ({"task": "MathWordProblems"}, "task 'MathWordProblems'.*Did you mean 'MathWordProblem'"),
        ({"task": 3}, "task.*3"),
        ({"problems": []}, "problems is empty"),
        ({"problems": 3}, "problems.*3"),
        ({"problems": "svamp"}, "problems is 'svamp'.*sequence of Problem"),
        ({"problems": {"dev": ["x"]}}, r"problems\['dev'\] is \['x'\].*sequence of Problem"),
        ({"problems": {PROBLEMS[0].uid}}, "problems is {.*sequence of Problem"),
        ({"problems": ["How many?"]}, r"problems is \['How many\?'\].*sequence of Problem"),
        ({"critic": OracleCritic}, "critic is <class .*OracleCritic'>.* a class has to be called with its task"),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [RefinerEnv, RefinerVectorEnv])
def test_wrong_arguments_are_refused_by_name_and_value(
    make: Callable[..., Any], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(RefinerError, match=said):
        make(**kwargs)


@pytest.mark.parametrize("num_envs", [0, -1, "2"])
def test_wrong_numbers_of_environments_are_refused(num_envs: Any) -> None:
    with pytest.raises(OptionError, match=f"num_envs is '?{num_envs}"):
        RefinerVectorEnv(num_envs)


@pytest.mark.parametrize("index", [-1, 8, 10**9, "first", 1.5])
def test_an_index_that_is_no_place_is_refused(index: Any) -> None:
    with pytest.raises(OptionError, match=rf"index is '?{index}.*8 problems, 0 to 7"):
        RefinerEnv(problems=PROBLEMS).reset(options={"index": index})
    with pytest.raises(OptionError, match=rf"index is '?{index}.*8 problems, 0 to 7"):
        RefinerVectorEnv(2, problems=PROBLEMS).reset(options={"index": [0, index]})


def test_an_autoreset_mode_may_be_named() -> None:
    env = RefinerVectorEnv(2, AutoresetMode.SAME_STEP.value, problems=PROBLEMS, max_turns=1)  # type: ignore[arg-type]
    env.reset(seed=0)
    assert "final_obs" in env.step(["a", "b"])[4] and env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    with pytest.raises(UnknownNameError, match=r"autoreset_mode 'Same'.*SameStep"):
        RefinerVectorEnv(2, "Same")  # type: ignore[arg-type]


def test_an_index_may_come_from_numpy() -> None:
    assert RefinerEnv(problems=PROBLEMS).reset(options={"index": np.int64(2)})[1]["index"] == 2
    _, infos = RefinerVectorEnv(2, problems=PROBLEMS).reset(options={"index": np.array([2, 5])})
    assert infos["index"].tolist() == [2, 5]


def test_more_indices_than_environments_are_refused() -> None:
    with pytest.raises(OptionError, match=r"3 entries.*num_envs=2"):
        RefinerVectorEnv(2, problems=PROBLEMS).reset(options={"index": [0, 1, 2]})


def test_a_single_index_is_refused_for_a_batch() -> None:
    with pytest.raises(OptionError, match=r"index.*5"):
        RefinerVectorEnv(2, problems=PROBLEMS).reset(options={"index": 5})


@pytest.mark.parametrize("size", [1, 3])
def test_a_mask_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(OptionError, match="reset_mask"):
        RefinerVectorEnv(2, problems=PROBLEMS).reset(options={"reset_mask": np.ones(size, dtype=np.bool_)})


@pytest.mark.parametrize("action", [None, 3, b"hello", ["hello"]])
def test_actions_that_are_no_text_are_refused(action: Any) -> None:
    with pytest.raises(OptionError, match=rf"text.*{type(action).__name__}"):
        started().step(action)
    batched = RefinerVectorEnv(2, problems=PROBLEMS)
    batched.reset()
    with pytest.raises(OptionError, match=rf"text.*{type(action).__name__}"):
        batched.step(["hello", action])


@pytest.mark.parametrize("actions", [["a"], ["a", "b", "c"], [], "a", "hello"])
def test_batches_of_another_length_are_refused(actions: Any) -> None:
    env = RefinerVectorEnv(2, problems=PROBLEMS)
    env.reset()
    with pytest.raises(OptionError, match="2 environments"):
        env.step(actions)


def test_one_text_is_no_batch_of_characters() -> None:
    env = RefinerVectorEnv(2, problems=PROBLEMS)
    env.reset()
    with pytest.raises(OptionError, match="ab"):
        env.step("ab")


def test_refused_actions_change_nothing() -> None:
    env = RefinerVectorEnv(2, problems=PROBLEMS[:1])
    env.reset()
    env.step([gold(PROBLEMS[0]), "a"])  # the first one is over and begins anew with the next step
    with pytest.raises(OptionError):
        env.step(["b", None])  # type: ignore[list-item]
    observations, *_ = env.step(["b", "c"])
    assert observations["hypothesis"] == ("", "c") and observations["turn"].tolist() == [0, 2]


def test_a_refused_index_changes_nothing() -> None:
    env = RefinerVectorEnv(2, problems=PROBLEMS)
    env.reset(options={"index": [0, 1]})
    with pytest.raises(OptionError):
        env.reset(options={"index": [2, 99]})
    observations, *_ = env.step(["a", "b"])
    assert observations["problem"] == (PROBLEMS[0].text, PROBLEMS[1].text)


def test_an_unknown_id_gets_the_closest_one() -> None:
    with pytest.raises(gym.error.NameNotFound, match=r"Did you mean.*MathWordProblem"):
        gym.make("Refiner/MathWordProblm-v0")


# ------------------------------------------------------------------------------------------ critics as plug-ins


@pytest.fixture
def registries() -> Iterator[None]:
    """Critics and ids registered in a test are gone after it."""
    ids, critics = dict(gym.registry), dict(CRITICS._entries)
    yield
    for registry, before in ((gym.registry, ids), (CRITICS._entries, critics)):
        registry.clear()
        registry.update(before)


@pytest.mark.usefixtures("registries")
def test_a_registered_critic_has_its_environment() -> None:
    register_critic("grumpy", lambda task: Spy())
    env = gym.make("Refiner/MathWordProblem.grumpy-v0")
    env.reset(seed=0)
    assert env.step("hello")[0]["feedback"] == "Hm."
    vector = gym.make_vec("Refiner/MathWordProblem.grumpy-v0", num_envs=2)
    vector.reset(seed=0)
    assert vector.step(["a", "b"])[0]["feedback"] == ("Hm.", "Hm.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.usefixtures("registries")
def test_a_critics_name_is_taken_once() -> None:
    with pytest.raises(DuplicateNameError, match="'oracle'"):
        register_critic("oracle", OracleCritic)
    assert CRITICS.resolve("oracle") is OracleCritic


@pytest.mark.usefixtures("registries")
def test_a_critics_name_that_makes_no_id_is_refused_whole() -> None:
    with pytest.raises(RefinerError, match="my critic!"):
        register_critic("my critic!", OracleCritic)
    assert "my critic!" not in CRITICS.names()


def test_a_critic_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from refiner_env import Critic, Feedback\n"
        "class Nice(Critic):\n"
        "    def __init__(self, task): self.task = task\n"
        "    def critique(self, problems, hypotheses): return [Feedback(True, 'Fine.') for _ in hypotheses]\n"
    )
    env = started(critic=f"{path}:Nice")
    observation, _, terminated, _, info = env.step("hello")
    assert observation["feedback"] == "Fine." and terminated and info["accepted"]


def test_a_critic_may_be_an_object_or_a_path_in_a_module() -> None:
    spy = Spy()
    assert resolve_critic(spy, TASK) is spy
    assert isinstance(resolve_critic("refiner_env.critics:OracleCritic", TASK), OracleCritic)


def test_unknown_critics_get_the_closest_name_and_advice() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'none'.*package.module:object"):
        resolve_critic("nome", TASK)


def test_a_critic_that_skips_a_hypothesis_is_named() -> None:
    class Forgetful(Critic):
        def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
            return [Feedback(True, NO_HINT)]

    env = RefinerVectorEnv(2, problems=PROBLEMS, critic=Forgetful())
    env.reset()
    with pytest.raises(RefinerError, match=r"Forgetful.*1.*2"):
        env.step(["a", "b"])


def test_procedural_problems_are_a_sequence() -> None:
    problems = ProceduralProblems(TASK, seed=5, size=8)
    assert len(problems) == 8 and list(problems) == PROBLEMS
    assert problems[-1] == problems[7] == TASK.generate(5, 7)
    assert problems[2:4] == [problems[2], problems[3]]
    for index in (8, -9):
        with pytest.raises(IndexError, match=f"{index} of 8"):
            problems[index]


def test_public_names_are_there() -> None:
    assert all(hasattr(refiner_env, name) for name in refiner_env.__all__)
