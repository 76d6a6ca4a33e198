"""The contract of critics as a test class, for whoever brings one:

    from refiner_env.testing import CriticContract

    class TestMine(CriticContract):
        spec = "mine"

pytest runs every check of it for every task; each says in one sentence which rule does not hold, and where.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from refiner_env.critics import resolve_critic
from refiner_env.envs import RefinerEnv
from refiner_env.tasks import TASKS, resolve_task
from refiner_env.types import Critic, Feedback, Problem, Task

SEED = 7

GARBAGE = (
    "",
    " \n\t\r",
    "x" * 100_000,
    "\x00\x07\x1b[31m\x7f\u200b\u202e\ufeff",
    "\ud800 lone \udfff",
    "<b>&amp;</b> [/bold] **x** `y` $z$ {0} %s %(a)d \\N{x} {{w}}",
    "</s><pad><unk> <extra_id_0> <|endoftext|> [INST] <hint> | EOH",
    "(" * 10_000 + ")" * 10_000,
    "[{(<" * 2_500,
    "[" + " " * 50_000,
    "number99999999999999999999 #99999999999999999999: add ( 1e999, nan )",
    " | ".join(f"#{k}: add ( #{k}, number{k} )" for k in range(500)),
    "日本語 🙂 \u0661\u0662 ﷽ e\u0301",
    "No hint.",
)
"""Hypotheses as a model may write them: no critic raises on any."""


class CriticContract:
    """What every critic holds to. Inherit it, name the critic in `spec` or make it in `critic`, and run pytest.

    A check that cannot fit is left out by name: `test_a_batch_says_what_one_by_one_says = None` and a reason beside it,
    where texts are sampled from a model.
    """

    spec: ClassVar[str] = ""
    """Whatever `resolve_critic` accepts: a registered name, `path/file.py:object`, arguments in brackets."""
    tasks: ClassVar[Sequence[str]] = tuple(TASKS.names())
    """The tasks that it is for."""
    size: ClassVar[int] = 6
    """Problems of each task; a right and a wrong hypothesis are reviewed for each."""
    max_feedback_chars: ClassVar[int] = 10_000
    """The longest text that it may say: an observation holds the feedback of every turn."""
    tolerance: ClassVar[float] = 1e-4
    """Between probabilities that should be equal: models pad their batches."""

    def critic(self, task: Task[Any]) -> Critic:
        """The critic of a task, for one check."""
        return resolve_critic(self.spec, task)

    def test_there_is_one_feedback_per_hypothesis(self) -> None:
        for task, critic, problems, hypotheses in self._reviews():
            for n in (0, 1, len(hypotheses)):
                said = _ask(critic, problems[:n], hypotheses[:n])
                assert len(said) == n, (
                    f"One feedback per hypothesis: for {n} of {task.name} there {_are(len(said))}. "
                    "Give one for each, with accepted=False and no text where there is nothing to say."
                )

    def test_a_batch_says_what_one_by_one_says(self) -> None:
        for task, critic, problems, hypotheses in self._reviews():
            if not self._repeats(critic, problems, hypotheses):
                continue
            batch = _ask(critic, problems, hypotheses)
            critic.seed(SEED)
            pairs = zip(_visible(critic, problems), hypotheses, strict=True)
            alone = [said for problem, hypothesis in pairs for said in critic.critique([problem], [hypothesis])]
            rule = "A batch says what one by one says"
            if sorted(map(repr, batch)) == sorted(map(repr, alone)):
                rule = "Feedback stands in the order of the hypotheses"
            self._assert_same(alone, batch, hypotheses, f"{rule}: of {task.name}", "alone", "in a batch")

    def test_gold_is_not_used(self) -> None:
        for task, critic, problems, hypotheses in self._reviews():
            if critic.uses_gold or not self._repeats(critic, problems, hypotheses):
                continue
            blind = _ask(critic, problems, hypotheses)
            others = [*problems[2:], *problems[:2]]
            swapped = [
                replace(problem, gold=other.gold, answer=other.answer, gold_metadata=other.gold_metadata)
                for problem, other in zip(problems, others, strict=True)
            ]
            rule = f"Gold is used without uses_gold = True: of {task.name}"
            for shown, name in ((problems, "with gold"), (swapped, "with the gold of another problem")):
                critic.seed(SEED)
                self._assert_same(blind, critic.critique(shown, hypotheses), hypotheses, rule, "without gold", name)

    def test_nothing_raises(self) -> None:
        for task, hypothesis, outcome in self._outcomes():
            if isinstance(outcome, Exception):
                raise AssertionError(
                    f"No hypothesis raises: on {hypothesis!r:.60} ({len(hypothesis)} characters) of {task.name} there "
                    f"was {type(outcome).__name__}: {outcome}. What cannot be reviewed is not accepted."
                ) from outcome

    def test_texts_are_text_of_bounded_length(self) -> None:
        for task, hypothesis, said in self._feedback():
            assert isinstance(said.text, str), (
                f"A text is a str: on {hypothesis!r:.60} of {task.name} {said.text!r:.60}."
            )
            assert len(said.text) <= self.max_feedback_chars, (
                f"A text has at most {self.max_feedback_chars} characters: on {hypothesis!r:.60} of {task.name} it has "
                f"{len(said.text)}. Cut it, or raise max_feedback_chars."
            )

    def test_faults_are_of_known_kinds_and_lie_in_the_hypothesis(self) -> None:
        for task, hypothesis, said in self._feedback():
            for fault in said.faults:
                assert fault.kind in {*task.fault_kinds, "other"}, (
                    f"Faults are of the task's kinds, or 'other': on {hypothesis!r:.60} there was {fault.kind!r}. "
                    f"{task.name} knows {', '.join(task.fault_kinds)}."
                )
                start, end = fault.span or (0, 0)
                assert 0 <= start <= end <= len(hypothesis), (
                    f"A span lies in the hypothesis: on {hypothesis!r:.60} of {task.name} ({len(hypothesis)} "
                    f"characters) there was {fault.span}."
                )

    def test_a_verdict_agrees_with_what_is_said(self) -> None:
        for task, hypothesis, said in self._feedback():
            where = f"on {hypothesis!r:.60} of {task.name} there was {said!r:.300}"
            assert not (said.accepted and said.faults), f"What is accepted has no faults: {where}."
            assert not (said.accepted and said.failure), f"A failure accepts nothing: {where}."
            likely = said.accept_probability
            assert likely is None or 0 <= likely <= 1, f"accept_probability is None or in [0, 1]: {where}."

    def test_equal_seeds_give_equal_feedback(self) -> None:
        for task, critic, problems, hypotheses in self._reviews():
            if critic.deterministic:
                first, again = (_ask(critic, problems, hypotheses) for _ in range(2))
                rule = (
                    "Equal seeds, equal feedback; draw from random numbers that seed() starts anew, or say "
                    f"deterministic = False: of {task.name}"
                )
                self._assert_same(first, again, hypotheses, rule, "at first", f"after the same seed({SEED})")

    def test_its_environment_passes_gymnasiums_check(self) -> None:
        for task, critic, problems, hypotheses in self._reviews():
            env = RefinerEnv(task=task, critic=critic)
            steady = self._repeats(critic, problems, hypotheses)
            env.spec = EnvSpec("Refiner/Contract-v0", nondeterministic=not steady)
            env.action_space.seed(SEED)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:  # rendering and closing are not the critic's
                    check_env(env, skip_render_check=True, skip_close_check=True)
                except Exception as error:
                    raise AssertionError(f"check_env passes: of {task.name} it says {error}") from error

    def test_rollouts_with_the_same_seed_are_equal(self) -> None:
        for task, critic, problems, hypotheses in self._reviews():
            if self._repeats(critic, problems, hypotheses):
                first, again = (_rollout(task, critic, hypotheses) for _ in range(2))
                for step, (one, other) in enumerate(zip(first, again, strict=True)):
                    assert one == other, (
                        f"Rollouts with the same seed are equal: of {task.name} step {step} gave {one!r:.300}, then "
                        f"{other!r:.300}. Let seed() forget whatever the critic remembers."
                    )

    def _reviews(self) -> Iterator[tuple[Task[Any], Critic, list[Problem], list[str]]]:
        """(task, critic, problems, hypotheses) of every task: a right and a wrong one of each problem, and a guess."""
        for name in self.tasks:
            task, rng = resolve_task(name), random.Random(SEED)
            problems = [task.generate(SEED, k) for k in range(self.size)]
            pairs = [(p, z) for p in problems for z in (task.rephrase(p, rng), task.perturb(p, rng))]
            pairs.append((problems[0], task.guess))
            yield task, self.critic(task), [p for p, _ in pairs], [z for _, z in pairs]

    @classmethod
    @cache  # four checks look at it, and a model takes its time over garbage
    def _outcomes(cls) -> list[tuple[Task[Any], str, Feedback | Exception]]:
        """(task, hypothesis, feedback or what was raised) of all hypotheses, and of garbage, one by one."""
        rows: list[tuple[Task[Any], str, Feedback | Exception]] = []
        for task, critic, problems, hypotheses in cls()._reviews():
            said = _ask(critic, problems, hypotheses)
            rows += [(task, hypothesis, one) for hypothesis, one in zip(hypotheses, said, strict=False)]
            for hypothesis in _garbage(task):
                try:
                    rows += [(task, hypothesis, one) for one in _ask(critic, problems[:1], [hypothesis])]
                except Exception as error:
                    rows.append((task, hypothesis, error))
        return rows

    def _feedback(self) -> Iterator[tuple[Task[Any], str, Feedback]]:
        """(task, hypothesis, feedback), where nothing was raised."""
        yield from ((task, z, said) for task, z, said in self._outcomes() if isinstance(said, Feedback))

    def _repeats(self, critic: Critic, problems: Sequence[Problem], hypotheses: Sequence[str]) -> bool:
        """Whether it says the same again, so that comparisons mean something; that it should is a check of its own."""
        if not critic.deterministic:
            return False
        first, again = (_ask(critic, problems, hypotheses) for _ in range(2))
        return all(map(self._same, first, again))

    def _same(self, a: Feedback, b: Feedback) -> bool:
        p, q = a.accept_probability, b.accept_probability
        near = p == q or (p is not None and q is not None and math.isclose(p, q, abs_tol=self.tolerance))
        return near and replace(a, accept_probability=q) == b

    def _assert_same(
        self,
        expected: Sequence[Feedback],
        said: Sequence[Feedback],
        hypotheses: Sequence[str],
        rule: str,
        first: str,
        then: str,
    ) -> None:
        for hypothesis, one, other in zip(hypotheses, expected, said, strict=False):  # how many is a check of its own
            assert self._same(one, other), (
                f"{rule}, {hypothesis!r:.60} got {first} {one!r:.300}, {then} {other!r:.300}."
            )


def _ask(critic: Critic, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
    """What a critic says after `seed(SEED)`, shown what environments show it."""
    critic.seed(SEED)
    said = critic.critique(_visible(critic, problems), hypotheses)
    assert isinstance(said, list | tuple) and all(isinstance(one, Feedback) for one in said), (
        f"critique gives a list of Feedback: for {len(hypotheses)} hypotheses there was {said!r:.80}."
    )
    return list(said)


def _visible(critic: Critic, problems: Sequence[Problem]) -> list[Problem]:
    return [problem if critic.uses_gold else problem.without_gold() for problem in problems]


def _garbage(task: Task[Any]) -> list[str]:
    """`GARBAGE`, and what would be right in another task."""
    others = [TASKS.resolve(name)() for name in TASKS.names() if name != task.name]
    return [*GARBAGE, *(other.generate(SEED, 0).gold or "" for other in others)]


def _rollout(task: Task[Any], critic: Critic, hypotheses: Sequence[str]) -> list[Any]:
    """All that an environment gives for these hypotheses, infos aside."""
    env = RefinerEnv(task=task, critic=critic)
    seen: list[Any] = [env.reset(seed=SEED)]
    for hypothesis in hypotheses:
        observation, reward, terminated, truncated, _ = env.step(hypothesis)
        seen.append((observation, reward, terminated, truncated))
        if terminated or truncated:
            seen.append(env.reset())
    return seen


def _are(count: int) -> str:
    return "was 1" if count == 1 else f"were {count}"
