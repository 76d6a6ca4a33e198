"""Gymnasium's contract for every registered id: its own checks, its wrappers, its vector environments."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit, TransformReward
from gymnasium.wrappers import vector as batched
from test_envs import IDS, info_of, observation_of

from refiner_env import TASKS, CriticVectorEnv, ProceduralProblems, RefinerEnv, RefinerVectorEnv, resolve_critic
from refiner_env.errors import CriticError, OptionError, UnknownNameError
from refiner_env.memory import Memory
from refiner_env.types import Agent, Critic, Feedback, Problem

pytestmark = pytest.mark.filterwarnings("error")
IDS = [id for id in IDS if not any(heavy in id for heavy in (".learned-", ".self-", ".api-", ".human-"))]
"""Those without a model, a person or a server inside."""
TASK = TASKS.resolve("mwp")()
PROBLEMS = ProceduralProblems(TASK, seed=5, size=8)[:]


def gold(problem: Problem) -> str:
    assert problem.gold is not None
    return problem.gold


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("mode", AutoresetMode)
def test_batches_meet_the_vector_contract(id: str, mode: AutoresetMode) -> None:
    n = 4
    env = gym.make_vec(id, num_envs=n, max_turns=3, autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is mode
    env.action_space.seed(0)
    observations, infos = env.reset(seed=0)
    assert env.observation_space.contains(observations) and infos["_uid"].all()
    for _ in range(8):
        observations, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
        assert env.observation_space.contains(observations)
        assert rewards.shape == terminated.shape == truncated.shape == (n,)
        assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
        assert not (terminated & truncated).any()
        for key, values in infos.items():
            assert len(values) == n or isinstance(values, dict), key
            assert key.startswith("_") or infos["_" + key].dtype == np.bool_, key
        over = terminated | truncated
        if mode is AutoresetMode.SAME_STEP and over.any():
            assert infos["_final_info"].tolist() == infos["_final_obs"].tolist() == over.tolist()
        if mode is AutoresetMode.DISABLED and over.any():
            observations, _ = env.reset(options={"reset_mask": over})
            assert observations["turn"][over].tolist() == [0] * over.sum()
    env.close()


@pytest.mark.parametrize("id", IDS)
def test_vector_rollouts_with_the_same_seed_are_equal(id: str) -> None:
    def rollout(seed: int) -> list[Any]:
        env = gym.make_vec(id, num_envs=3, max_turns=2)
        env.action_space.seed(7)
        observations, _ = env.reset(seed=seed)
        seen: list[Any] = [observations["problem"]]
        for _ in range(8):
            observations, rewards, *_ = env.step(env.action_space.sample())
            seen += [{key: tuple(column) for key, column in observations.items()}, rewards.tolist()]
        return seen

    assert rollout(3) == rollout(3) != rollout(4)


@pytest.mark.parametrize("id", IDS)
def test_gymnasiums_wrappers_work(id: str) -> None:
    env = TransformReward(RecordEpisodeStatistics(TimeLimit(gym.make(id, max_turns=9), 3)), lambda r: 2 * r + 1)
    env.reset(seed=0)
    rewards = []
    for _ in range(3):
        _, reward, terminated, truncated, info = env.step("hello")
        rewards.append(float(reward))
        if terminated or truncated:
            break
    assert len(rewards) == 3 or terminated
    assert info["episode"]["l"] == len(rewards)
    assert info["episode"]["r"] == pytest.approx(sum((r - 1) / 2 for r in rewards))


@pytest.mark.parametrize("id", IDS)
def test_gymnasiums_vector_wrappers_work(id: str) -> None:
    inner = gym.make_vec(id, num_envs=3, max_turns=1, autoreset_mode=AutoresetMode.NEXT_STEP)
    env = batched.TransformReward(batched.RecordEpisodeStatistics(inner), lambda r: 2 * r + 1)
    env.reset(seed=0)
    _, rewards, terminated, _, infos = env.step(["hello"] * 3)
    assert terminated.all() and infos["_episode"].all()
    assert infos["episode"]["r"] == pytest.approx((rewards - 1) / 2)


@pytest.mark.parametrize("id", IDS)
def test_gymnasiums_own_batch_works(id: str) -> None:
    env = SyncVectorEnv([lambda: gym.make(id, max_turns=2)] * 2)
    observations, _ = env.reset(seed=[1, 2])
    assert env.observation_space.contains(observations)
    observations, *_ = env.step(("hello", "bye"))
    assert env.observation_space.contains(observations) and observations["turn"].tolist() in ([1, 1], [0, 1], [1, 0])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork in a process with threads
@pytest.mark.parametrize("id", ["Refiner/MathWordProblem-v0", "Refiner/MoralStories.Critic-v0"])
def test_batches_in_processes_work_without_shared_memory(id: str) -> None:
    env = AsyncVectorEnv([lambda: gym.make(id)] * 2, shared_memory=False)
    try:
        observations, infos = env.reset(seed=[1, 2])
        single = gym.make(id)
        assert single.reset(seed=2) == (observation_of(observations, 1), info_of(infos, 1))
        assert observation_of(env.step(("hello", "bye"))[0], 1) == single.step("bye")[0]
    finally:
        env.close()


def test_make_vec_takes_every_mode_of_gymnasium() -> None:
    for mode in ("sync", "vector_entry_point"):
        env = gym.make_vec("Refiner/MathWordProblem.noisy-v0", num_envs=2, vectorization_mode=mode, max_turns=3)
        env.reset(seed=0)
        assert env.step(("a", "b"))[0]["hypothesis"] == ("a", "b")


@pytest.mark.parametrize("mode", ["ansi", "human", None])
def test_every_render_mode_renders(mode: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    env = gym.make("Refiner/MathWordProblem-v0", problems=PROBLEMS, render_mode=mode)
    env.reset(seed=0, options={"index": 0})
    env.step("#0: add ( number0, \x1b[31m number1 ) | EOS")
    drawn = env.unwrapped.render()
    printed = capsys.readouterr().out
    shown = {"ansi": drawn, "human": printed, None: ""}[mode] or ""
    assert (drawn is None) is (mode != "ansi") and bool(printed) is (mode == "human")
    if mode:
        assert PROBLEMS[0].text.split()[0] in shown and "cannot be read" in shown and "\x1b[31m number1" not in shown


# ---------------------------------------------------------------------------------------- what reset chooses

SPLITS = {"train": PROBLEMS[:5], "test": PROBLEMS[5:]}


def test_reset_selects_a_split_until_another_is_named() -> None:
    env = RefinerEnv(problems=SPLITS)
    uids = {name: {p.uid for p in part} for name, part in SPLITS.items()}
    assert env.reset(seed=0)[1]["split"] == "train"
    for name in ("test", "train"):
        _, info = env.reset(options={"split": name, "index": 2})
        assert info == {"uid": SPLITS[name][2].uid, "index": 2, "split": name}
        assert {env.reset()[1]["uid"] for _ in range(60)} == uids[name]


def test_reset_selects_a_split_for_a_batch() -> None:
    env = RefinerVectorEnv(3, problems=SPLITS, autoreset_mode=AutoresetMode.SAME_STEP, max_turns=1)
    _, infos = env.reset(seed=0, options={"split": "test"})
    assert infos["split"].tolist() == ["test"] * 3
    for _ in range(5):
        *_, infos = env.step(["hello"] * 3)
        assert set(infos["uid"]) <= {p.uid for p in SPLITS["test"]}


@pytest.mark.parametrize("texts", [5, "ab", ["a"], ["a", 3]])
def test_hypotheses_that_do_not_fit_are_refused_and_change_nothing(texts: Any) -> None:
    env = CriticVectorEnv(3, problems=PROBLEMS)
    shown, _ = env.reset(seed=0)
    with pytest.raises(OptionError, match=r"hypothesis is .*give 2 texts"):
        env.reset(options={"index": [0, 1], "hypothesis": texts})
    assert env.step(["Hm."] * 3)[0]["problem"] == shown["problem"]


def test_a_hypothesis_where_it_is_written_is_refused_and_changes_nothing() -> None:
    env = RefinerEnv(problems=PROBLEMS)
    env.reset(options={"index": 0})
    with pytest.raises(OptionError, match="here you write it"):
        env.reset(options={"index": 1, "hypothesis": "z"})
    assert env.step("z")[0]["problem"] == PROBLEMS[0].text


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match=r"split 'tset'.*Did you mean 'test'.*Known: test, train"):
        RefinerEnv(problems=SPLITS).reset(options={"split": "tset"})
    with pytest.raises(UnknownNameError, match=r"split '\[\]'"):
        RefinerEnv(problems=SPLITS).reset(options={"split": []})
    with pytest.raises(OptionError, match=r"problems\['test'\] is empty"):
        RefinerEnv(problems={"train": PROBLEMS, "test": []})


# --------------------------------------------------------------------------------------------------- history


def test_history_shows_the_last_turns_oldest_first() -> None:
    env = RefinerEnv(problems=PROBLEMS, history=3, max_turns=9)
    observation, _ = env.reset(options={"index": 0})
    blank = {"hypothesis": "", "feedback": ""}
    assert observation["history"] == (blank, blank)
    said = []
    for turn in range(1, 5):
        observation, _, _, _, info = env.step(f"attempt {turn}")
        said.append({"hypothesis": f"attempt {turn}", "feedback": info["turn"].feedback.text})
        assert env.observation_space.contains(observation)
        shown = [blank, blank, *said][-3:]
        assert [*observation["history"], {k: observation[k] for k in blank}] == shown


def test_history_in_a_batch_is_that_of_single_environments() -> None:
    rules: dict[str, Any] = {"problems": PROBLEMS, "history": 2, "max_turns": 5, "stop": "never"}
    env, theirs = RefinerVectorEnv(2, **rules), SyncVectorEnv([lambda: RefinerEnv(**rules)] * 2)
    env.reset(options={"index": [0, 1]})
    for i, single in enumerate(theirs.envs):
        single.reset(options={"index": i})
    for turn in range(3):
        observations, *_ = env.step([f"a{turn}", f"b{turn}"])
        assert env.observation_space.contains(observations)
        both = [single.step(f"{'ab'[i]}{turn}")[0] for i, single in enumerate(theirs.envs)]
        for i in range(2):
            assert {k: v[i] for k, v in observations["history"][0].items()} == both[i]["history"][0]


def test_without_more_history_the_observation_is_the_papers() -> None:
    assert set(RefinerEnv(problems=PROBLEMS).reset(seed=0)[0]) == {"problem", "hypothesis", "feedback", "turn"}


def test_names_that_mean_nothing_are_refused_with_the_closest() -> None:
    for env in (RefinerEnv, RefinerVectorEnv):
        with pytest.raises(UnknownNameError, match=r"argument 'max_turn'\. Did you mean 'max_turns'"):
            env(max_turn=3)  # type: ignore[call-arg]
        with pytest.raises(UnknownNameError, match=r"reset option 'indx'\. Did you mean 'index'"):
            env(problems=PROBLEMS).reset(options={"indx": 1})


@pytest.mark.parametrize("history", [0, -1, "2", True])
def test_a_history_of_nothing_is_refused(history: Any) -> None:
    with pytest.raises(OptionError, match="history is"):
        RefinerEnv(history=history)


# ------------------------------------------------------------------------------------------ critics that fail


class Flaky(Critic):
    """Fails on what contains "bad"."""

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        if any("bad" in hypothesis for hypothesis in hypotheses):
            raise RuntimeError("out of memory")
        return [Feedback(False, "Hm.")] * len(hypotheses)


def test_a_failure_is_recorded_for_its_problem_alone_and_the_loop_goes_on() -> None:
    env = RefinerVectorEnv(3, problems=PROBLEMS, critic=Flaky(), on_critic_failure="record")
    env.reset(seed=0)
    observations, _, terminated, truncated, infos = env.step(["a", "bad", "c"])
    assert observations["feedback"] == ("Hm.", "", "Hm.") and not (terminated | truncated).any()
    assert infos["critic_failed"].tolist() == [False, True, False]
    assert infos["turn"][1].feedback.failure == "Flaky RuntimeError: out of memory"
    observations, *_ = env.step(["a", "b", "c"])
    assert observations["feedback"] == ("Hm.", "Hm.", "Hm.")


def test_a_failure_stops_the_run_by_default_with_one_line_and_changes_nothing() -> None:
    env = RefinerVectorEnv(2, problems=PROBLEMS, critic=Flaky())
    env.reset(seed=0)
    with pytest.raises(CriticError, match="Flaky RuntimeError: out of memory") as caught:
        env.step(["a", "bad"])
    assert "\n" not in str(caught.value)
    assert env.step(["a", "b"])[0]["turn"].tolist() == [1, 1]


# --------------------------------------------------------------------------------------- the critic as who acts

CRITIC_ID = "Refiner/MathWordProblem.Critic-v0"


def reviewing(**rules: Any) -> gym.Env[Any, Any]:
    return gym.make(CRITIC_ID, problems=PROBLEMS, **rules)


def test_the_critics_reward_is_what_its_feedback_gains_and_whether_its_verdict_is_right() -> None:
    class Mender(Agent):
        """Writes gold where the feedback says so."""

        def act(self, observations: Any) -> list[str]:
            by_text = {p.text: gold(p) for p in PROBLEMS}
            rows = zip(observations["problem"], observations["feedback"], strict=True)
            return [by_text[text] if said == "Mend it." else "hello" for text, said in rows]

    env = reviewing(generator=Mender(), right_share=0.0, judgment_weight=0.5)
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step("Mend it.")
    assert (reward, info["reward_parts"]) == (1.5, {"gain": 1.0, "judgment": 1.0}) and not terminated
    assert info["ir_equivalent"] and observation["turn"] == 1
    _, reward, _, _, info = env.step("Hm.")  # what was right is rejected, and broken
    assert (reward, info["reward_parts"]) == (-1.0, {"gain": -1.0, "judgment": 0.0})
    _, reward, terminated, _, info = env.step("No hint.")  # what is wrong is accepted
    assert (reward, terminated, info["stop"]) == (0.0, True, "accepted")


def test_accepting_what_is_right_pays() -> None:
    env = reviewing(right_share=1.0)
    observation, info = env.reset(seed=0)
    assert TASK.score(PROBLEMS[info["index"]], observation["hypothesis"]).ir_equivalent
    assert env.step("No hint.")[1:3] == (1.0, True)


def test_the_oracles_feedback_earns_more_than_noise() -> None:
    def mean_reward(critic: str) -> float:
        env = gym.make_vec(CRITIC_ID, num_envs=200, autoreset_mode=AutoresetMode.DISABLED, max_turns=2)
        observations, infos = env.reset(seed=1)
        problems = [env.unwrapped.referee.problems[i] for i in infos["index"]]  # type: ignore[attr-defined]
        feedback = resolve_critic(critic, TASK).critique(problems, observations["hypothesis"])
        return float(env.step([f.text for f in feedback])[1].mean())

    assert mean_reward("oracle") > mean_reward("noisy(oracle, 0.5)") + 0.1 > mean_reward("noisy(oracle, 1.0)") + 0.2


def test_a_frozen_generator_is_called_once_a_step_for_those_that_were_rejected() -> None:
    calls: list[list[str]] = []

    class Watched(Agent):
        def act(self, observations: Any) -> list[str]:
            calls.append(list(observations["feedback"]))
            return ["hello"] * len(observations["problem"])

    env = gym.make_vec(CRITIC_ID, num_envs=3, problems=PROBLEMS, generator=Watched(), first="generator")
    env.reset(seed=0)
    assert calls == [["", "", ""]]
    env.step(["Hm.", "No hint.", "Look again."])
    assert calls[1:] == [["Hm.", "Look again."]]


def test_nothing_shown_to_the_acting_critic_holds_gold() -> None:
    env = reviewing(right_share=0.0)
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        assert gold(PROBLEMS[info["index"]]) not in str((observation, info))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"generator": "scriptd"}, "Did you mean 'scripted'"),
        ({"generator": 3}, "generator is 3"),
        ({"first": "perturbations"}, "Did you mean 'perturbation'"),
        ({"generator": "math:pi"}, "generator is 3.14"),
        ({"right_share": 1.5}, "right_share is 1.5"),
        ({"right_share": "all"}, "right_share is 'all'"),
        ({"judgment_weight": "1"}, "judgment_weight is '1'"),
        ({"judgment_weight": float("nan")}, "judgment_weight is nan"),
    ],
)
def test_wrong_rules_are_refused_by_name_and_value(rules: dict[str, Any], said: str) -> None:
    with pytest.raises((OptionError, UnknownNameError), match=said):
        reviewing(**rules)


class Knowing(Agent):
    """Writes gold, and where it has tried that in the episode something else."""

    def __init__(self) -> None:
        self.memory = Memory()

    def act(self, observations: Any) -> list[str]:
        by_text = {p.text: gold(p) for p in PROBLEMS}
        rows = zip(observations["problem"], self.memory.tried(observations), strict=True)
        written = [by_text[text] if by_text[text] not in tried else "hello" for text, tried in rows]
        self.memory.add(observations, written)
        return written


def test_a_generator_that_remembers_forgets_the_episodes_before() -> None:
    env = reviewing(generator=Knowing(), right_share=0.0, max_turns=2)
    for _ in range(3):
        env.reset(options={"index": 0})
        assert [env.step("Hm.")[4]["ir_equivalent"] for _ in range(2)] == [True, False]


def test_copies_of_one_problem_side_by_side_remember_their_own() -> None:
    rules: dict[str, Any] = {"problems": PROBLEMS, "generator": Knowing(), "autoreset_mode": AutoresetMode.DISABLED}
    env = CriticVectorEnv(2, **rules)
    env.reset(options={"index": [0, 0], "hypothesis": ["hi", gold(PROBLEMS[0])]})
    assert env.step(["Hm.", "Hm."])[4]["ir_equivalent"].tolist() == [True, False]  # its own is not proposed again
    assert env.step(["Hm.", "Hm."])[4]["ir_equivalent"].tolist() == [False, False]
