"""The contract of critics: each check fails on critics that break its rule, and on no others."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from refiner_env import Critic, Fault, Feedback, Problem, Task
from refiner_env.critics import CRITICS
from refiner_env.testing import CriticContract

GIVES_NOTHING_SENSIBLE = "critique gives a list of Feedback"


class Good(Critic):
    """Says how long a hypothesis is: bad critics change one thing about it."""

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return [self.one(problem, hypothesis) for problem, hypothesis in zip(problems, hypotheses, strict=True)]

    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, f"{len(hypothesis)} characters.", (Fault("other", hint="length"),))


class DropsTheLast(Good):
    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        said = super().critique(problems, hypotheses)
        return said[:-1] if len(said) > 1 else said


class SaysSomethingOfNothing(Good):
    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return super().critique(problems, hypotheses) or [Feedback(False, "Nothing to review.")]


class TurnsTheOrder(Good):
    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return super().critique(problems, hypotheses)[::-1]


class ComparesWithinTheBatch(Good):
    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        said = super().critique(problems, hypotheses)
        return [replace(one, text=f"{one.text} Of {len(said)}.") for one in said]


class ProbablyOfTheBatch(Good):
    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        said = super().critique(problems, hypotheses)
        return [replace(one, accept_probability=1 / len(said)) for one in said]


class PeeksAtGold(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(problem.gold == hypothesis, "")


class PeeksAtTheAnswer(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, "" if problem.answer is None else "It has an answer.")


class PeeksAtGoldMetadata(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, str(sorted(problem.gold_metadata))[:200])


class RaisesOnNothing(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, f"It starts with {hypothesis[0]}.")


class RaisesOnSurrogates(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, f"{len(hypothesis.encode())} bytes.")


class RaisesOnNestedBrackets(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        def depth(i: int) -> int:
            return 1 + depth(i + 1) if hypothesis[i : i + 1] == "(" else 0

        return Feedback(False, f"{depth(0)} brackets.")


class GoesOnAndOn(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, "Wrong. " * 5_000)


class EchoesTheHypothesis(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, f"What is {hypothesis}?")


class InventsKinds(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, "Ugly.", (Fault("style"),))


class PointsBesideTheHypothesis(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, "Here.", (Fault("other", span=(0, len(hypothesis) + 1)),))


class AcceptsWithFaults(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return replace(super().one(problem, hypothesis), accepted=True)


class AcceptsAndFails(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        failed = "a failure of its own" if len(hypothesis) == 100_000 else ""
        return Feedback(bool(failed), "", failure=failed)


class MoreThanCertain(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, "Wrong.", accept_probability=len(hypothesis) / 1000)


class DrawsWithoutASeed(Good):
    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        return Feedback(False, f"Wrong by {random.random()}.")


class DrawsOnSingleWords(Good):
    """Steady on whatever looks like a hypothesis; what Gymnasium's check writes does not."""

    def one(self, problem: Problem, hypothesis: str) -> Feedback:
        drawn = Feedback(False, f"Wrong by {random.random()}.")
        return super().one(problem, hypothesis) if len(hypothesis.split()) > 1 else drawn


class GetsTired(Good):
    """Its state outlives the seed, but shows late."""

    def __init__(self) -> None:
        self.calls = itertools.count()

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        said = super().critique(problems, hypotheses)
        return said if next(self.calls) < 20 else [replace(one, text="Wrong.") for one in said]


def failures(made: type[Critic], **attributes: Any) -> dict[str, str]:
    """Check -> message, of all checks that a critic fails."""

    class Contract(CriticContract):
        def critic(self, task: Task[Any]) -> Critic:
            return made()

    for name, value in attributes.items():
        setattr(Contract, name, value)
    found = {}
    for name in dir(Contract):
        if name.startswith("test_") and callable(getattr(Contract, name)):
            try:
                getattr(Contract(), name)()
            except Exception as error:
                found[name] = str(error)
    return found


@pytest.mark.parametrize(
    ("made", "check", "rule"),
    [
        (DropsTheLast, "test_there_is_one_feedback_per_hypothesis", "for 13 of MathWordProblem there were 12"),
        (SaysSomethingOfNothing, "test_there_is_one_feedback_per_hypothesis", "for 0 of MathWordProblem there was 1"),
        (TurnsTheOrder, "test_a_batch_says_what_one_by_one_says", "in the order of the hypotheses"),
        (ComparesWithinTheBatch, "test_a_batch_says_what_one_by_one_says", "A batch says what one by one says"),
        (ProbablyOfTheBatch, "test_a_batch_says_what_one_by_one_says", "A batch says what one by one says"),
        (PeeksAtGold, "test_gold_is_not_used", "with gold"),
        (PeeksAtTheAnswer, "test_gold_is_not_used", "without uses_gold = True"),
        (PeeksAtGoldMetadata, "test_gold_is_not_used", "without uses_gold = True"),
        (RaisesOnSurrogates, "test_nothing_raises", "UnicodeEncodeError"),
        (RaisesOnNestedBrackets, "test_nothing_raises", "RecursionError"),
        (GoesOnAndOn, "test_texts_are_text_of_bounded_length", "at most 10000 characters"),
        (EchoesTheHypothesis, "test_texts_are_text_of_bounded_length", "it has 100009"),
        (InventsKinds, "test_faults_are_of_known_kinds_and_lie_in_the_hypothesis", "there was 'style'"),
        (PointsBesideTheHypothesis, "test_faults_are_of_known_kinds_and_lie_in_the_hypothesis", "A span lies in"),
        (AcceptsWithFaults, "test_a_verdict_agrees_with_what_is_said", "What is accepted has no faults"),
        (AcceptsAndFails, "test_a_verdict_agrees_with_what_is_said", "A failure accepts nothing"),
        (MoreThanCertain, "test_a_verdict_agrees_with_what_is_said", "in [0, 1]"),
        (DrawsWithoutASeed, "test_equal_seeds_give_equal_feedback", "deterministic = False"),
        (DrawsOnSingleWords, "test_its_environment_passes_gymnasiums_check", "observations are not equivalent"),
        (GetsTired, "test_rollouts_with_the_same_seed_are_equal", "Let seed() forget"),
    ],
)
def test_whoever_breaks_a_rule_fails_its_check_alone(made: type[Critic], check: str, rule: str) -> None:
    found = failures(made)
    assert list(found) == [check]
    assert rule in found[check]


def test_who_raises_on_nothing_is_told_on_what() -> None:
    found = failures(RaisesOnNothing)  # in its environment too, where one of the few sampled texts is empty
    assert "on '' (0 characters) of MathWordProblem there was IndexError" in found["test_nothing_raises"]


def test_every_check_is_failed_by_someone() -> None:
    (marks,) = [m for m in test_whoever_breaks_a_rule_fails_its_check_alone.pytestmark if m.name == "parametrize"]  # type: ignore[attr-defined]
    checks = {name for name in dir(CriticContract) if name.startswith("test_")}
    assert {check for _, check, _ in marks.args[1]} == checks


def test_whoever_keeps_the_rules_fails_nothing() -> None:
    assert failures(Good) == {}


@pytest.mark.parametrize("attributes", [{"deterministic": False}, {"deterministic": False, "uses_gold": True}])
def test_who_says_that_it_draws_may_draw(attributes: dict[str, Any]) -> None:
    assert failures(type("Drawing", (DrawsWithoutASeed,), attributes)) == {}


def test_who_says_that_it_uses_gold_may_use_it() -> None:
    assert failures(type("Oracle", (PeeksAtGold,), {"uses_gold": True})) == {}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (type("None", (Good,), {"critique": lambda self, problems, hypotheses: None}), GIVES_NOTHING_SENSIBLE),
        (type("Texts", (Good,), {"one": lambda self, problem, hypothesis: "Wrong."}), GIVES_NOTHING_SENSIBLE),
        (type("NoText", (Good,), {"one": lambda self, problem, hypothesis: Feedback(False, None)}), "A text is a str"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_feedback_is_named(made: type[Critic], said: str) -> None:
    assert any(said in message for message in failures(made).values())


def test_sizes_and_limits_are_the_authors_to_choose() -> None:
    assert failures(GoesOnAndOn, max_feedback_chars=50_000) == {}
    assert failures(ProbablyOfTheBatch, tolerance=1.0) == {}
    (message,) = failures(DropsTheLast, size=1, tasks=("snlr",)).values()
    assert "for 3 of SyntheticReasoning there were 2" in message


def test_a_check_is_left_out_by_name() -> None:
    assert failures(TurnsTheOrder, test_a_batch_says_what_one_by_one_says=None) == {}


def test_a_critic_may_be_named_like_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CRITICS, "_entries", {**CRITICS._entries, "dropping": lambda task: DropsTheLast()})

    class Named(CriticContract):
        spec = "dropping"

    with pytest.raises(AssertionError, match="One feedback per hypothesis"):
        Named().test_there_is_one_feedback_per_hypothesis()
