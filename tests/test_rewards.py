"""Rewards: the value of each by example, sums of them, and the share of right places."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from refiner_env.errors import OptionError, RefinerError, UnknownNameError
from refiner_env.rewards import REWARDS, Reward, resolve_reward
from refiner_env.tasks import TASKS, MathWordProblem, MoralStories, SyntheticReasoning
from refiner_env.types import Attempt, Problem, Task

ALL: dict[str, Task[Any]] = {name: TASKS.resolve(name)() for name in TASKS.names()}
MATH = MathWordProblem()
GOLD = "#0: add ( number0, number1 ) | #1: subtract ( #0, number2 ) | EOS"
STORY = Problem("story", "How many are left?", GOLD, 9.0, {"numbers": (8.0, 3.0, 2.0)})
RULES = (
    "If Bob is big or sad, then Bob is red. If person is hot, then person is old. "
    "If Bob is weak and old, then Bob is slow. If person is fast, then person is soft."
)
STEPS = "#0: huge is big #1: Bob is person #2: Bob is hot #3: Bob is red and old"
WORLD = Problem("world", f"{RULES} Bob is huge and hot.", STEPS, "Bob is red and old")
NORM = Problem(
    "norm",
    "<|SIT|> Ann is at work. <|INT|> Ann wants a pen. <|I_ACT|> Ann steals a pen. <|NRM|>",
    "It's wrong to steal pens from your office. <|M_ACT|> Ann buys a pen.",
    "Ann buys a pen.",
)


def attempt(hypothesis: str, problem: Problem = STORY, task: Task[Any] = MATH, before: str | None = None) -> Attempt:
    turn = 0 if before is None else 1
    return Attempt(task, problem, hypothesis, task.score(problem, hypothesis), turn, before)


def value(reward: Any, hypothesis: str, before: str | None = None) -> float:
    return resolve_reward(reward)(attempt(hypothesis, before=before))[0]


FLIPPED = "#0: add ( number1, number0 ) | #1: subtract ( #0, number2 ) | EOS"
LUCKY = "#0: subtract ( number0, number2 ) | #1: add ( #0, number1 ) | EOS"
NEAR = "#0: add ( number0, number1 ) | #1: add ( #0, number2 ) | EOS"


@pytest.mark.parametrize(
    ("hypothesis", "exact_match", "equivalent", "answer"),
    [
        (GOLD, 1, 1, 1),
        (GOLD.replace(" ", ""), 1, 1, 1),
        (FLIPPED, 0, 1, 1),
        (LUCKY, 0, 0, 1),
        (NEAR, 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_right_or_not(hypothesis: str, exact_match: float, equivalent: float, answer: float) -> None:
    expected = {"exact_match": exact_match, "equivalent": equivalent, "answer": answer}
    assert {name: value(name, hypothesis) for name in expected} == expected


def test_bleu_is_1_for_gold_alone_and_falls_with_distance() -> None:
    values = [value("bleu", text) for text in (GOLD, FLIPPED, "#0: add ( number0, number1 ) | EOS", "")]
    assert values[0] == pytest.approx(1.0) and values == sorted(values, reverse=True) and values[-1] == 0.0
    assert len(set(values)) == 4


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [(None, GOLD, 1), (None, NEAR, 0), (NEAR, GOLD, 1), (NEAR, "", 0), (FLIPPED, GOLD, 0), (GOLD, NEAR, -1)],
)
def test_improvement_is_right_now_minus_right_before(before: str | None, now: str, expected: float) -> None:
    assert value("improvement", now, before) == expected


def test_turns_count_from_the_second() -> None:
    assert [value("turns", GOLD), value("turns", GOLD, NEAR), value("turns", NEAR, NEAR)] == [0, 1, 1]
    assert value("turns", "?", "?") == resolve_reward("turns")(replace(attempt("?", before="?"), turn=7))[0] == 1


# ------------------------------------------------------------------------------------ the share of right places


@pytest.mark.parametrize(
    ("hypothesis", "share"),
    [
        (GOLD, 1),
        (FLIPPED, 1),
        (NEAR, 5 / 6),  # one operator
        ("#0: add ( number0, number2 ) | #1: add ( #0, number2 ) | EOS", 4 / 6),
        ("#0: add ( number0, number1 ) | #1: subtract ( number2, #0 ) | EOS", 4 / 6),  # swapped
        ("#0: add ( number0, number1 ) | EOS", 3 / 6),  # a step is missing
        (GOLD.replace(" | EOS", " | #2: add ( #1, number0 ) | EOS"), 6 / 9),  # a step too many
        ("#0: multiply ( number0, number9 ) | #1: subtract ( #0, number2 ) | EOS", 4 / 6),
        ("number0 | EOS", 0),
        ("#0: add ( number0,", 0),
        ("", 0),
    ],
)
def test_right_slots_of_a_program(hypothesis: str, share: float) -> None:
    assert value("dense", hypothesis) == pytest.approx(share)


def test_a_bare_number_is_right_or_not() -> None:
    bare = Problem("bare", "How many?", "number1 | EOS", 3.0, {"numbers": (8.0, 3.0)})
    shares = [MATH.right_share(bare, text) for text in ("number1 | EOS", "number0", "#0: add ( number1, number1 )")]
    assert shares == [1, 0, 0]


def test_what_stops_execution_is_no_further_place() -> None:
    zero = replace(STORY, metadata={"numbers": (8.0, 3.0, 0.0)})
    divided = "#0: add ( number0, number1 ) | #1: divide ( #0, number2 ) | EOS"
    assert [fault.kind for fault in MATH.diagnose(zero, divided)] == ["operator", "division_by_zero"]
    assert MATH.right_share(zero, divided) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("hypothesis", "share"),
    [
        (STEPS, 1),
        ("#0: Bob is hot #1: huge is big #2: Bob is person #3: Bob is red and old", 1),
        ("#0: huge is big #1: Bob is person #2: Bob is hot #3: Bob is slow", 3 / 4),  # the conclusion
        ("#0: huge is big #1: Bob is person #2: Bob is red and old", 3 / 4),  # a link is missing
        ("#0: Bob is hot #1: Bob is red and old", 2 / 4),  # implicit knowledge is missing twice
        ("#0: tiny is small #1: huge is big #2: Bob is person #3: Bob is hot #4: Bob is red and old", 4 / 5),
        ("#0: huge is old #1: Bob is person #2: Bob is hot #3: Bob is red and old", 3 / 4),  # in place of another
        ("#0: The argument is invalid!!", 0),
        ("Bob is red", 0),
        ("", 0),
    ],
)
def test_right_steps_of_reasoning(hypothesis: str, share: float) -> None:
    assert SyntheticReasoning().right_share(WORLD, hypothesis) == pytest.approx(share)


def test_where_nothing_follows_every_step_is_wrong() -> None:
    nobody = Problem("nobody", f"{RULES} Bob is blue and clean.", "#0: The argument is invalid!!", "Nothing")
    shares = [SyntheticReasoning().right_share(nobody, text) for text in (str(nobody.gold), "#0: Bob is red", STEPS)]
    assert shares == [1, 0, 0]


@pytest.mark.parametrize(
    ("hypothesis", "share"),
    [
        ("It's wrong to steal pens from your office.", 1),
        ("You shouldn't steal pens from your office.", 1),
        ("It's good to steal pens from your office.", 0.5),
        ("It's wrong to paint the fence blue.", 0),
        ("It's good to paint the fence blue.", 0),
        ("?", 0),
    ],
)
def test_judgment_and_action_are_the_places_of_a_norm(hypothesis: str, share: float) -> None:
    assert MoralStories().right_share(NORM, hypothesis) == share


@pytest.mark.parametrize("name", ALL)
def test_dense_is_1_for_what_is_equivalent_alone(name: str) -> None:
    task, rng, dense = ALL[name], random.Random(name), resolve_reward("dense")
    for i in range(150):
        problem, other = task.generate(3, i), task.generate(4, i)
        texts = [str(problem.gold), task.rephrase(problem, rng), str(other.gold), task.guess, "?"]
        texts += [task.perturb(problem, rng, kind) for kind in task.perturbations]
        for text in texts:
            tried = attempt(text, problem, task)
            share, parts = dense(tried)
            assert parts == {"dense": share} and 0 <= share <= 1
            assert (share == 1) is tried.scores.ir_equivalent, (problem, text)


# ------------------------------------------------------------------------------------------------------- sums


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("answer", 1),
        ("0.5*answer", 0.5),
        (" 0.8 * answer+0.2*dense ", 0.8 + 0.2 * 2 / 6),
        ("answer - equivalent", 1),
        ("-turns", -1),
        ("- 0.1*turns + answer", 0.9),
        ("+answer", 1),
        ("1e-2*answer + .5*turns", 0.51),
        ("answer + answer", 2),
        ("answer - 3*answer", -2),
        ({"answer": 2, "turns": -0.5}, 1.5),
        ({"answer": 0.0}, 0),
        ({REWARDS.resolve("answer"): 2.0}, 2),
        (REWARDS.resolve("answer"), 1),
        (lambda attempt: len(attempt.hypothesis), len(LUCKY)),
        ("tests.test_rewards:half", 0.5),
        ({"tests.test_rewards:half": 2, "turns": 1}, 2),
    ],
)
def test_sums_and_mappings(reward: Any, expected: float) -> None:
    assert MATH.right_share(STORY, LUCKY) == pytest.approx(2 / 6)
    assert value(reward, LUCKY, before=NEAR) == pytest.approx(expected)


def half(attempt: Attempt) -> float:
    """A reward of one's own."""
    return 0.5


def test_the_parts_are_told_before_weights() -> None:
    total, parts = resolve_reward("0.8*answer + 0.2*dense - 0.1*turns")(attempt(NEAR, before="?"))
    assert parts == {"answer": 0.0, "dense": pytest.approx(5 / 6), "turns": 1.0}
    assert total == pytest.approx(0.2 * 5 / 6 - 0.1)


@pytest.mark.parametrize("given", ["much", None])
def test_a_function_that_gives_no_number_is_named(given: Any) -> None:
    def mine(attempt: Attempt) -> Any:
        return given

    with pytest.raises(OptionError, match=f"reward 'mine' gave {given!r}: it must give a finite number"):
        resolve_reward(mine)(attempt("x"))


def test_functions_of_one_name_are_told_apart() -> None:
    first, second = (lambda attempt: 1.0), (lambda attempt: 2.0)
    total, parts = resolve_reward({first: 1.0, second: 10.0})(attempt(GOLD))
    assert total == 21.0 and sorted(parts.values()) == [1.0, 2.0]


def test_a_reward_is_itself() -> None:
    reward = resolve_reward("0.5*dense")
    assert isinstance(reward, Reward) and resolve_reward(reward) is reward


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        ("", OptionError, "'' cannot be read"),
        ("answer dense", OptionError, "'answer dense' cannot be read: write a name, or a sum as"),
        ("answer +", OptionError, "cannot be read"),
        ("0.5 answer", OptionError, "cannot be read"),
        ("answer*0.5", OptionError, "cannot be read"),
        ("answer ++ dense", OptionError, "cannot be read"),
        ("0.5*", OptionError, "cannot be read"),
        ("0.5*mine.py:half", OptionError, "file.py:object stands alone"),
        ({"answer": float("nan")}, OptionError, "is nan: it must be a finite number"),
        ({"answer": float("inf")}, OptionError, "is inf: it must be a finite number"),
        ("1.2.3*answer", OptionError, "weight '1.2.3'"),
        ("awnser", UnknownNameError, "reward 'awnser'. Did you mean 'answer'"),
        ("0.5*answer + 0.5*dens", UnknownNameError, "reward 'dens'. Did you mean 'dense'"),
        ({"dens": 1.0}, UnknownNameError, "Did you mean 'dense'"),
        ({"answer": "much"}, OptionError, "weight of the reward 'answer' is 'much'"),
        ({"answer": True}, OptionError, "weight of the reward 'answer' is True"),
        ({}, OptionError, "reward is empty"),
        (3, OptionError, "reward is 3"),
        (None, OptionError, "reward is None"),
        ({3: 1.0}, OptionError, "reward is 3"),
        ("nowhere:reward", RefinerError, "no module 'nowhere'"),
        ("tests.test_rewards:hal", RefinerError, "has no 'hal'"),
    ],
)
def test_what_is_no_reward_gets_one_line(reward: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        resolve_reward(reward)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", REWARDS.names())
def test_garbage_has_a_reward_and_no_error(name: str) -> None:
    for text in ("", "?", "\x00\n", "#0: add ( number99, #7 ) | EOS", "#" * 5000, "\ud800"):
        got = value(name, text, before=text)
        assert got == 1.0 if name == "turns" else 0.0 <= got < 0.3, (text, got)
