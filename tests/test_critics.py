"""Critics without models: noise, ablations, votes, how they are named, and the boundary that failures end at."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refiner_env.critics import (
    Boundary,
    ConsensusCritic,
    ExecutionCritic,
    NoCritic,
    NoisyCritic,
    OracleCritic,
    ScalarCritic,
    TimedCritic,
    TypedCritic,
    resolve_critic,
)
from refiner_env.critics.naming import read_call
from refiner_env.errors import CriticError, OptionError, RefinerError, UnknownNameError
from refiner_env.tasks import TASKS, MathWordProblem
from refiner_env.tasks.phrases import NO_HINT
from refiner_env.types import Critic, Fault, Feedback, Problem, Task

HERE = Path(__file__).parent
ALL: dict[str, Task[Any]] = {name: TASKS.resolve(name)() for name in TASKS.names()}
TASK = MathWordProblem()
PROBLEM = TASK.generate(1, 1)
WRONG = TASK.perturb(PROBLEM, random.Random(0), "operator")
GOLD = str(PROBLEM.gold)
REJECTED = Feedback(False, "Hm.", (Fault("other", hint="Hm."),))
ACCEPTED = Feedback(True, NO_HINT)
FAILED = Feedback(False, "", failure="It sleeps.")

every_task = pytest.mark.parametrize("task", ALL.values(), ids=ALL)


class Says(Critic):
    """Gives these feedbacks again and again, in order, and remembers what it was asked."""

    def __init__(self, *feedback: Feedback, uses_gold: bool = False) -> None:
        self.feedback, self.uses_gold = feedback or (REJECTED,), uses_gold
        self.asked: list[tuple[Problem, str]] = []
        self.seeds: list[int] = []

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        said = [self.feedback[(len(self.asked) + i) % len(self.feedback)] for i in range(len(hypotheses))]
        self.asked += zip(problems, hypotheses, strict=True)
        return said

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)


class Unfinished(Critic):
    """Has no `critique`."""

    def __init__(self, task: Task[Any]) -> None:
        pass


class Weightless(Says):
    """Cannot be made."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__({}["weights"])


class Taskless(Says):
    """Is not made for a task."""

    def __init__(self) -> None:
        super().__init__()


def rejects(*faults: Fault) -> Feedback:
    return TASK.feedback(faults)


def cases(task: Task[Any], n: int) -> tuple[list[Problem], list[str]]:
    """Problems with right, wrong and unreadable hypotheses."""
    problems, rng = [task.generate(9, i) for i in range(n)], random.Random(9)
    texts = [(str(p.gold), task.perturb(p, rng), "?", "")[i % 4] for i, p in enumerate(problems)]
    return problems, texts


# ------------------------------------------------------------------------------------------------------ noise


@every_task
def test_without_noise_a_noisy_critic_is_its_inner_one(task: Task[Any]) -> None:
    problems, texts = cases(task, 60)
    said = NoisyCritic(task, "oracle", 0.0).critique(problems, texts)
    assert said == OracleCritic(task).critique(problems, texts) and {f.accepted for f in said} == {True, False}


@every_task
def test_random_feedback_asks_nobody_and_reads_back_to_the_same_faults(task: Task[Any]) -> None:
    problems, texts = cases(task, 600)
    inner = Says()
    said = NoisyCritic(task, inner, 1.0).critique(problems, texts)
    assert inner.asked == [] and len(said) == 600
    for feedback in said:
        read = task.read_feedback(feedback.text)
        assert (read.accepted, read.faults) == (feedback.accepted, feedback.faults)
    kinds = {fault.kind for feedback in said for fault in feedback.faults}
    assert kinds == set(task.fault_kinds) - {"other"}
    for n in (0, 1, 2):  # accepted, one fault, two faults: a third each, within five standard deviations
        assert abs(sum(len(f.faults) == n for f in said) - 200) < 5 * math.sqrt(600 * 2 / 9)


def test_random_feedback_names_steps_that_there_are() -> None:
    said = NoisyCritic(TASK, "oracle", 1.0).critique([PROBLEM] * 300, ["#0: add ( number0, number1 ) | #1: junk"] * 300)
    assert {fault.step for feedback in said for fault in feedback.faults} == {None, 0, 1}


@pytest.mark.parametrize("epsilon", [0.1, 0.25, 0.75])
def test_about_epsilon_of_the_feedback_is_replaced(epsilon: float) -> None:
    n, inner = 2000, Says()
    said = NoisyCritic(TASK, inner, epsilon).critique([PROBLEM] * n, [str(i) for i in range(n)])
    replaced = sum(feedback is not REJECTED for feedback in said)
    assert abs(replaced - epsilon * n) < 5 * math.sqrt(n * epsilon * (1 - epsilon))
    assert [text for _, text in inner.asked] == [str(i) for i in range(n) if said[i] is REJECTED]


def test_noise_follows_its_seed() -> None:
    problems, texts = cases(TASK, 200)

    def said(seed: int) -> list[Feedback]:
        return NoisyCritic(TASK, "oracle", 0.5, seed).critique(problems, texts)

    critic = NoisyCritic(TASK, "oracle", 0.5, 3)
    assert said(3) == said(3) == critic.critique(problems, texts) != said(4)
    assert critic.critique(problems, texts) != said(3)
    critic.seed(4)
    assert critic.critique(problems, texts) == said(4)


def test_noise_is_the_same_one_by_one() -> None:
    problems, texts = cases(TASK, 100)
    whole, single = (NoisyCritic(TASK, "oracle", 0.5, 1) for _ in range(2))
    one_by_one = [single.critique([p], [t])[0] for p, t in zip(problems, texts, strict=True)]
    assert whole.critique(problems, texts) == one_by_one


def test_noise_on_noise_is_independent() -> None:
    inner = Says()
    critic = NoisyCritic(TASK, NoisyCritic(TASK, inner, 0.5), 0.5)
    for seed in range(1000):
        critic.seed(seed)
        critic.critique([PROBLEM], [WRONG])
    assert abs(len(inner.asked) - 250) < 5 * math.sqrt(1000 * 3 / 16) and len(set(inner.seeds)) > 990


@pytest.mark.parametrize("epsilon", [-0.1, 1.5, math.nan, "much", None, True])
def test_a_probability_out_of_range_is_refused(epsilon: Any) -> None:
    with pytest.raises(OptionError, match=r"epsilon of a noisy critic is .*between 0 and 1"):
        NoisyCritic(TASK, "oracle", epsilon)


# -------------------------------------------------------------------------------------- ablations, and a clock


def test_a_scalar_critic_keeps_the_verdict_alone() -> None:
    sure = Feedback(False, "The operator in #0 is incorrect.", (Fault("operator", 0, "operator"),), 0.2)
    said = ScalarCritic(TASK, Says(sure, ACCEPTED, FAILED)).critique([PROBLEM] * 3, [WRONG] * 3)
    assert said == [Feedback(False, "", (), 0.2), ACCEPTED, FAILED]


def test_a_typed_critic_keeps_each_kind_once() -> None:
    faults = (Fault("operand", 0, "first"), Fault("missing_step", 1), Fault("operand", 2, "second"))
    said = TypedCritic(TASK, Says(rejects(*faults), ACCEPTED, FAILED)).critique([PROBLEM] * 3, [WRONG] * 3)
    kinds = Feedback(False, "operand, missing_step", (Fault("operand"), Fault("missing_step")))
    assert said == [kinds, ACCEPTED, FAILED]


@pytest.mark.parametrize("wrapper", [NoisyCritic, ScalarCritic, TypedCritic, TimedCritic])
@pytest.mark.parametrize("inner", ["oracle", "execution"])
def test_a_wrapper_sees_gold_where_its_inner_critic_may(wrapper: Callable[..., Critic], inner: str) -> None:
    assert wrapper(TASK, inner).uses_gold is (inner == "oracle")
    assert wrapper(TASK, inner).identity != wrapper(TASK, "none").identity


def test_a_timed_critic_counts_what_it_passes_on() -> None:
    critic = TimedCritic(TASK, "oracle")
    problems, texts = cases(TASK, 8)
    assert critic.critique(problems, texts) == OracleCritic(TASK).critique(problems, texts)
    critic.critique(problems[:3], texts[:3])
    assert (critic.calls, critic.reviews) == (2, 11) and critic.seconds > 0
    assert critic.identity == OracleCritic(TASK).identity


def test_a_timed_critic_counts_calls_that_fail() -> None:
    critic = TimedCritic(TASK, Raises(WRONG))
    with pytest.raises(RuntimeError):
        critic.critique([PROBLEM], [WRONG])
    assert (critic.calls, critic.reviews) == (1, 1)


# -------------------------------------------------------------------------------------------------- execution


@every_task
def test_the_execution_critic_says_what_its_task_can_check(task: Task[Any]) -> None:
    problems, texts = cases(task, 40)
    blind = [problem.without_gold() for problem in problems]
    critic = ExecutionCritic(task)
    said = critic.critique(blind, texts)
    assert not critic.uses_gold and said == [task.feedback(task.check(p, t)) for p, t in zip(blind, texts, strict=True)]
    assert all(feedback.accepted for feedback in said[::4])  # gold
    assert not any(feedback.accepted for feedback in said[2::4] + said[3::4])  # unreadable


def test_nobody_accepts_nothing_and_says_nothing() -> None:
    assert NoCritic(TASK).critique([PROBLEM] * 2, [GOLD, WRONG]) == [Feedback(False, "")] * 2


# -------------------------------------------------------------------------------------------------- consensus

A, B, C = Fault("operator", 0, "operator"), Fault("operand", 1, "first"), Fault("missing_step", 2)


@pytest.mark.parametrize(
    ("votes", "by_vote", "by_union"),
    [
        ([ACCEPTED, ACCEPTED, ACCEPTED], [], []),
        ([ACCEPTED, ACCEPTED, rejects(A)], [], [A]),
        ([ACCEPTED, rejects(A), rejects(A, B)], [A], [A, B]),
        ([rejects(A), rejects(A, B), rejects(C, B)], [A, B], [A, B, C]),
        ([ACCEPTED, rejects(A, B)], [A, B], [A, B]),  # a tie does not accept
        ([rejects(B), rejects(A)], [B], [B, A]),  # agreed on nothing: the first one is followed
        ([ACCEPTED, ACCEPTED, rejects(A), rejects(B)], [A], [A, B]),
        ([rejects(A, A), rejects(B), rejects(C)], [A], [A, B, C]),  # saying it twice is one vote
        ([FAILED, ACCEPTED], [], []),
        ([FAILED, ACCEPTED, rejects(A)], [A], [A]),
        ([FAILED, rejects(A)], [A], [A]),
    ],
)
def test_votes_and_unions(votes: list[Feedback], by_vote: list[Fault], by_union: list[Fault]) -> None:
    for rule, faults in (("vote", by_vote), ("union", by_union)):
        (said,) = ConsensusCritic(TASK, *map(Says, votes), rule=rule).critique([PROBLEM], [WRONG])
        assert said.accepted is not bool(faults) and set(said.faults) == set(faults), rule
        assert set(TASK.read_feedback(said.text).faults) == set(faults)


def test_faults_in_other_words_are_told_apart() -> None:
    first, second = (TASK.read_feedback(text) for text in ("Look at it. Try again.", "Count them. Try again."))
    (both,) = ConsensusCritic(TASK, Says(first), Says(second), rule="union").critique([PROBLEM], [WRONG])
    assert both.text.count(".") == 3 and {"Look at it.", "Count them.", "Try again."} == {f.hint for f in both.faults}
    (agreed,) = ConsensusCritic(TASK, Says(first), Says(second)).critique([PROBLEM], [WRONG])
    assert agreed.text == "Try again."


def test_faults_without_a_place_are_named_by_their_kind() -> None:
    (said,) = ConsensusCritic(TASK, TypedCritic(TASK, Says(rejects(A, C)))).critique([PROBLEM], [WRONG])
    assert said.faults == (Fault("operator"), Fault("missing_step")) and said.text == "operator missing_step"
    (said,) = ConsensusCritic(TASK, Says(Feedback(False, "?", (Fault("typo", 3),)))).critique([PROBLEM], [WRONG])
    assert said.text == "typo"


def test_where_all_members_fail_the_consensus_fails() -> None:
    assert ConsensusCritic(TASK, Says(FAILED), Says(FAILED)).critique([PROBLEM], [WRONG]) == [FAILED]


def test_a_member_that_raises_has_no_say() -> None:
    said = ConsensusCritic(TASK, Raises("b"), Says(REJECTED)).critique([PROBLEM] * 2, ["a", "b"])
    assert said == [REJECTED, REJECTED]
    assert ConsensusCritic(TASK, Raises("b")).critique([PROBLEM], ["b"])[0].failure.startswith("Raises ")


def test_members_see_gold_only_where_they_may() -> None:
    blind, seeing = Says(), Says(uses_gold=True)
    critic = ConsensusCritic(TASK, blind, seeing)
    critic.critique([PROBLEM], [WRONG])
    assert critic.uses_gold and not ConsensusCritic(TASK, blind).uses_gold
    assert blind.asked == [(PROBLEM.without_gold(), WRONG)] and seeing.asked == [(PROBLEM, WRONG)]


def test_the_members_by_default_err_independently() -> None:
    problems, texts = [PROBLEM] * 500, [WRONG] * 500
    for seed in (None, 7):
        critic = ConsensusCritic(TASK)
        if seed is not None:
            critic.seed(seed)
        first, second, third = (member.critique(problems, texts) for member in critic.critics)
        assert first != second != third != first
    oracle = OracleCritic(TASK).critique(problems, texts)
    critic.seed(7)
    voted = critic.critique(problems, texts)
    wrong = [sum(a != b for a, b in zip(said, oracle, strict=True)) for said in (voted, first, second, third)]
    assert wrong[0] < 0.75 * min(wrong[1:])


# ----------------------------------------------------------------------------------------- how they are named


@pytest.mark.parametrize(
    ("text", "name", "args", "kwargs"),
    [
        ("oracle", "oracle", (), {}),
        (" oracle ", "oracle", (), {}),
        ("noisy()", "noisy", (), {}),
        ("noisy(oracle, 0.25)", "noisy", ("oracle", 0.25), {}),
        (" noisy ( oracle , epsilon = 0.25, ) ", "noisy", ("oracle",), {"epsilon": 0.25}),
        ("noisy(scalar(noisy(oracle, 0.5)), seed=3)", "noisy", ("scalar(noisy(oracle, 0.5))",), {"seed": 3}),
        ("consensus('a, b', \"c)(\", rule='union')", "consensus", ("a, b", "c)("), {"rule": "union"}),
        ("f(it's, don't)", "f", ("it's, don't",), {}),
        ("f([1, 2], {'a': (3, 4)}, None, True, -1e-3)", "f", ([1, 2], {"a": (3, 4)}, None, True, -0.001), {}),
        ("f(a==b, {[]: 1}, 1 +)", "f", ("a==b", "{[]: 1}", "1 +"), {}),
        ("my/critic.py:make(runs/critic, top=2)", "my/critic.py:make", ("runs/critic",), {"top": 2}),
        ("runs/critic (best)/x", "runs/critic (best)/x", (), {}),
        ("f(" + "-" * 5000 + "1)", "f", ("-" * 5000 + "1",), {}),
    ],
)
def test_calls_are_read(text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert read_call(text) == (name, args, kwargs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noisy(oracle", "brackets of 'noisy.oracle' do not match"),
        ("noisy(oracle) and more", "brackets .* do not match"),
        ("noisy(oracle))", "brackets or quotes .* do not match"),
        ("noisy((oracle)", "brackets or quotes .* do not match"),
        ("noisy(oracle)(3)", "brackets or quotes .* do not match"),
        ("noisy('oracle)", "brackets or quotes .* do not match"),
        ("(oracle)", "brackets .* do not match"),
        (")", "brackets .* do not match"),
        ("noisy(oracle,, 0.25)", "empty argument"),
        ("noisy(, 0.25)", "empty argument"),
        ("noisy(epsilon=0.25, oracle)", "'oracle' follows a named argument"),
        ("noisy(epsilon=0.25, epsilon=0.5)", "gives 'epsilon' twice"),
        ("noisy(oracle, 0.25, 0, 1)", "'noisy' cannot be made so: too many .* critic='oracle', epsilon=0.25, seed=0"),
        ("noisy(oracle, eps=0.25)", "unexpected keyword argument 'eps'.*epsilon=0.25"),
        ("noisy(oracle, critic=oracle)", "multiple values for argument 'critic'"),
        ("oracle(3)", "takes the task, and: nothing"),
        ("noisy(oracle, lots)", "epsilon of a noisy critic is 'lots'"),
        ("noisy(oracle, seed=[1])", r"seed of a noisy critic is \[1\]"),
        ("noisy(3)", "critic is 3: give a name"),
        ("noisy(orcale)", "Did you mean 'oracle'"),
        ("scalar(noisy(oracle, 7))", "epsilon of a noisy critic is 7"),
        ("consensus(oracle, rule=union2)", "Did you mean 'union'"),
        ("builtins:dict", "it must be a Critic, or make one from a task"),
        ("math:pi", "'math:pi' is 3.14"),
        ("builtins:repr", "which is no Critic"),
        ("builtins:repr(", "brackets .* do not match"),
        ("no/such/folder", "'no/such/folder' is no critic: there is no such folder"),
        (str(HERE), "is no critic: the folder holds no model"),
        (f"{HERE.parent}/agents/refiner-tiny(0.5)", "as in learned.*agents/refiner-tiny, threshold=0.5"),
        (f"{__name__}:Unfinished", "cannot be made: TypeError: .* abstract .* critique"),
        (f"{__name__}:Weightless", r"cannot be made: KeyError: 'weights' \(test_critics.py, line [0-9]+\)"),
        (f"{__name__}:Taskless", "takes no task: give it one"),
        ("x" * 5000, "Unknown critic"),
        ("\0", "Unknown critic"),
        ("", "Unknown critic"),
    ],
)
def test_what_names_no_critic_gets_one_line(text: str, message: str) -> None:
    with pytest.raises(RefinerError, match=message) as caught:
        resolve_critic(text, TASK)
    assert "\n" not in str(caught.value)


def test_critics_are_made_with_their_arguments() -> None:
    noisy = resolve_critic("noisy(scalar(execution), epsilon=0.5)", TASK)
    assert isinstance(noisy, NoisyCritic) and isinstance(noisy.inner, ScalarCritic) and noisy.epsilon == 0.5
    assert isinstance(noisy.inner.inner, ExecutionCritic) and not noisy.uses_gold
    union = resolve_critic("consensus(execution, typed(oracle), 'noisy(oracle, 0.1)', rule=union)", TASK)
    assert isinstance(union, ConsensusCritic) and union.rule == "union"
    assert list(map(type, union.critics)) == [ExecutionCritic, TypedCritic, NoisyCritic]
    assert resolve_critic(noisy, TASK) is noisy
    long = resolve_critic(f"consensus({', '.join(['noisy(oracle, 0.25)'] * 40)})", TASK)
    assert isinstance(long, ConsensusCritic) and len(long.critics) == 40


# ----------------------------------------------------------------------------------------------- the boundary


class Raises(Critic):
    """Raises where this hypothesis is in the batch; accepts all others."""

    def __init__(self, on: str, error: BaseException | None = None) -> None:
        self.on, self.error = on, error or RuntimeError("no such\nluck")

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        if self.on in hypotheses:
            raise self.error
        return [ACCEPTED] * len(hypotheses)


class Gives(Critic):
    """Gives whatever this function makes of the hypotheses."""

    def __init__(self, make: Callable[[Sequence[str]], Any]) -> None:
        self.make = make

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        made: list[Feedback] = self.make(hypotheses)
        return made


def failures(critic: Critic, texts: Sequence[str], timeout: float | None = None) -> list[str]:
    """What a recording boundary says of each text; accepting ones give ""."""
    said = Boundary(critic, "record", timeout).ask([PROBLEM] * len(texts), texts)
    for feedback in said:
        assert feedback == (Feedback(False, "", failure=feedback.failure) if feedback.failure else ACCEPTED)
    return [feedback.failure for feedback in said]


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_hypothesis_that_a_critic_raises_on_costs_no_other_its_feedback(timeout: float | None) -> None:
    assert failures(Raises("b"), ["a", "b", "c"], timeout) == ["", "Raises RuntimeError: no such luck", ""]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda texts: [ACCEPTED] * (len(texts) - 1), "Gives gave 0 feedbacks for 1 hypotheses"),
        (lambda texts: [ACCEPTED] * (len(texts) + 1), "Gives gave 2 feedbacks for 1 hypotheses"),
        (lambda texts: None, "Gives gave None for 1 hypotheses"),
        (lambda texts: ACCEPTED, "Gives gave Feedback(accepted=True"),
        (lambda texts: iter([ACCEPTED]), "Gives gave <list_iterator"),
        (lambda texts: texts, "Gives gave 'a', which is no Feedback"),
        (lambda texts: [Feedback(True, None)] * len(texts), "Gives gave Feedback(accepted=True, text=None"),  # type: ignore[arg-type]
        (lambda texts: [replace(ACCEPTED, accepted=np.True_)], "Gives gave Feedback(accepted=np.True_"),
        (lambda texts: [replace(ACCEPTED, failure="It sleeps.")], "Gives gave Feedback(accepted=True"),
        (lambda texts: [replace(ACCEPTED, faults=("operator",))], "Gives gave Feedback(accepted=True"),
        (lambda texts: [replace(ACCEPTED, accept_probability=1.5)], "Gives gave Feedback(accepted=True"),
        (lambda texts: [replace(ACCEPTED, accept_probability=np.float32(0.5))], "Gives gave Feedback(accepted=True"),
        (lambda texts: 1 / 0, "Gives ZeroDivisionError: division by zero"),
        (lambda texts: dict[str, Any]()["key"], "Gives KeyError: 'key'"),
        (lambda texts: len(None), "Gives TypeError: object of type 'NoneType' has no len()"),  # type: ignore[arg-type]
        (lambda texts: (_ for _ in ()).throw(TimeoutError()), "Gives TimeoutError"),
    ],
)
def test_what_is_no_feedback_is_a_failure(make: Callable[[Sequence[str]], Any], reason: str) -> None:
    (failure,) = failures(Gives(make), ["a"])
    assert failure.startswith(reason) and len(failure) < 400 and "\n" not in failure
    with pytest.raises(CriticError, match=r"^The critic failed: Gives .*on_critic_failure='record'") as caught:
        Boundary(Gives(make)).ask([PROBLEM], ["a"])
    assert "\n" not in str(caught.value) and reason in str(caught.value)


def test_one_that_is_no_feedback_costs_no_other_its_own() -> None:
    critic = Gives(lambda texts: [None if text == "b" else ACCEPTED for text in texts])
    assert failures(critic, ["a", "b"]) == ["", "Gives gave None, which is no Feedback with a text"]


def test_a_timeout_of_its_own_is_no_hang() -> None:
    critic = Raises("b", TimeoutError("the server is slow"))
    assert failures(critic, ["a", "b"]) == ["", "Raises TimeoutError: the server is slow"]


def test_a_failure_that_a_critic_reports_itself_counts_too() -> None:
    assert failures(Says(ACCEPTED, FAILED), ["a", "b"]) == ["", "It sleeps."]
    with pytest.raises(CriticError, match=r"The critic failed: It sleeps\."):
        Boundary(Says(ACCEPTED, FAILED)).ask([PROBLEM] * 2, ["a", "b"])


def test_a_boundary_hides_gold_from_whoever_may_not_see_it() -> None:
    for uses_gold, seen in ((False, PROBLEM.without_gold()), (True, PROBLEM)):
        critic = Says(uses_gold=uses_gold)
        assert Boundary(critic).ask([PROBLEM], [WRONG]) == [REJECTED] and critic.asked == [(seen, WRONG)]


def test_nobody_is_asked_about_nothing() -> None:
    critic = Says()
    assert Boundary(critic).ask([], []) == [] and Boundary(Raises("a")).ask([], []) == [] and critic.asked == []


class Hangs(Critic):
    """Waits to be let go; then accepts."""

    def __init__(self) -> None:
        self.go, self.calls = threading.Event(), 0

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        self.calls += 1
        assert self.go.wait(30)
        return [ACCEPTED] * len(hypotheses)


@contextmanager
def hanging() -> Iterator[Hangs]:
    critic = Hangs()
    try:
        yield critic
    finally:
        critic.go.set()


def test_a_critic_that_hangs_is_left_behind_is_busy_and_recovers() -> None:
    with hanging() as critic:
        boundary = Boundary(critic, "record", 0.05)
        hung = boundary.ask([PROBLEM] * 2, ["a", "b"])
        assert hung == [Feedback(False, "", failure="Hangs no feedback within 0.05 s")] * 2 and critic.calls == 1
        (busy,) = boundary.ask([PROBLEM], ["c"])
        assert busy.failure == "Hangs still busy with an earlier call after another 0.05 s" and critic.calls == 1
        critic.go.set()
        boundary.timeout = 30
        assert boundary.ask([PROBLEM], ["d"]) == [ACCEPTED] and critic.calls == 2


def test_a_critic_that_hangs_stops_the_run_where_it_should() -> None:
    with hanging() as critic, pytest.raises(CriticError, match=r"Hangs no feedback within 0\.05 s"):
        Boundary(critic, "stop", 0.05).ask([PROBLEM], ["a"])


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("on_failure", ["stop", "record"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_whoever_wants_to_stop_is_not_held_back(error: BaseException, on_failure: str, timeout: float | None) -> None:
    with pytest.raises(type(error)):
        Boundary(Raises("a", error), on_failure, timeout).ask([PROBLEM], ["a"])


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, "soon"])
def test_a_limit_that_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(OptionError, match=r"critic_timeout is .*seconds above 0, or None"):
        Boundary(Says(), "stop", timeout)


def test_an_unknown_way_to_fail_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'record'"):
        Boundary(Says(), "records")
