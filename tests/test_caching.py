"""Feedback that is remembered: in memory, and in a file that several processes share."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Endpoint

from refiner_env.critics import Boundary, CachedCritic, caching, resolve_critic
from refiner_env.errors import DataError
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Critic, Fault, Feedback, Problem

if TYPE_CHECKING:
    from agents.lm import LanguageModel

TASK = MathWordProblem()
PROBLEM, OTHER = TASK.generate(7, 0), TASK.generate(7, 1)
ROOT = Path(__file__).parents[1]
SAID = Feedback(False, "Hm. \ud800", (Fault("operator", 1, "operator", None, (3, 6)), Fault("other", hint="Hm.")), 0.25)


class Counting(Critic):
    """Says of every hypothesis what `say` makes of it, and remembers what it was asked."""

    def __init__(self, say: Callable[[str], Feedback] = lambda z: SAID, name: str = "counting") -> None:
        self.say, self.name = say, name
        self.asked: list[list[str]] = []

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        self.asked.append(list(hypotheses))
        return [self.say(z) for z in hypotheses]

    @property
    def identity(self) -> str:
        return self.name


@pytest.fixture(params=["memory", "file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "new" / "cache") if request.param == "file" else ""


def test_only_what_is_new_is_asked_once_and_in_one_call(path: str) -> None:
    inner = Counting(lambda z: Feedback(False, z, (Fault("other", hint=z),)))
    critic = CachedCritic(TASK, inner, path)
    said = critic.critique([PROBLEM] * 4, ["a", "b", "a", "c"])
    assert [f.text for f in said] == ["a", "b", "a", "c"]
    said = critic.critique([PROBLEM] * 3, ["d", "c", "e"])
    assert [f.text for f in said] == ["d", "c", "e"]
    assert critic.critique([PROBLEM], ["a"])[0].text == "a" and critic.critique([], []) == []
    assert inner.asked == [["a", "b", "c"], ["d", "e"]]
    assert (critic.hits, critic.misses) == (3, 5)


def test_a_file_gives_back_what_was_said(tmp_path: Path) -> None:
    CachedCritic(TASK, Counting(), tmp_path / "cache").critique([PROBLEM], ["z \udfff"])
    later = CachedCritic(TASK, inner := Counting(), tmp_path / "cache")
    assert later.critique([PROBLEM], ["z \udfff"]) == [SAID] and inner.asked == []
    assert (later.hits, later.misses) == (1, 0)


def test_other_problems_hypotheses_and_critics_are_other_questions(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    CachedCritic(TASK, Counting(), file).critique([PROBLEM], ["z"])
    for problem, z, name in ((OTHER, "z", "counting"), (PROBLEM, "y", "counting"), (PROBLEM, "z", "another")):
        critic = CachedCritic(TASK, inner := Counting(name=name), file)
        critic.critique([problem], [z])
        assert inner.asked == [[z]]
    numbers = replace(PROBLEM, metadata={"numbers": (1.0, 2.0)})
    CachedCritic(TASK, inner := Counting(), file).critique([numbers], ["z"])
    assert inner.asked == [["z"]]


class Wants(Critic):
    """A critic as people write them: it says nothing of its identity."""

    def __init__(self, word: str) -> None:
        self.word = word

    def critique(self, problems: Sequence[Problem], hypotheses: Sequence[str]) -> list[Feedback]:
        return [Feedback(False, f"There is no {self.word}.")] * len(hypotheses)


def test_other_arguments_are_other_critics(tmp_path: Path) -> None:
    for word in ("#1", "#2"):
        (said,) = CachedCritic(TASK, Wants(word), tmp_path / "cache").critique([PROBLEM], ["z"])
        assert said.text == f"There is no {word}."


@pytest.mark.parametrize("uses_gold", [True, False])
def test_gold_tells_questions_apart_only_for_a_critic_that_sees_it(path: str, uses_gold: bool) -> None:
    inner = Counting()
    inner.uses_gold = uses_gold
    critic = CachedCritic(TASK, inner, path)
    for problem in (PROBLEM, replace(PROBLEM, gold=OTHER.gold), replace(PROBLEM, gold_metadata={"x": 1})):
        critic.critique([problem], ["z"])
    assert len(inner.asked) == (3 if uses_gold else 1) and critic.uses_gold == uses_gold


def test_failures_are_not_kept(path: str) -> None:
    failing = Feedback(False, "", failure="out of paper")
    inner = Counting(lambda z: failing if z == "bad" else SAID)
    critic = CachedCritic(TASK, inner, path)
    assert critic.critique([PROBLEM] * 3, ["bad", "good", "bad"]) == [failing, SAID, failing]
    inner.say = lambda z: SAID
    assert critic.critique([PROBLEM] * 2, ["bad", "good"]) == [SAID] * 2
    assert inner.asked == [["bad", "good"], ["bad"]]


def test_memory_holds_what_was_asked_for_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "IN_MEMORY", 2)
    critic = CachedCritic(TASK, inner := Counting())
    for z in ("a", "b", "a", "c", "a", "b"):
        critic.critique([PROBLEM], [z])
    assert inner.asked == [["a"], ["b"], ["c"], ["b"]]
    assert critic.critique([PROBLEM] * 3, ["x", "y", "z"]) == [SAID] * 3  # a batch may be larger


def test_what_a_random_critic_said_first_stays() -> None:
    critic = resolve_critic("cached(noisy(oracle, 0.5))", TASK)
    hypotheses = [f"#0: add ( number0, number{k} ) | EOS" for k in range(30)]
    first = critic.critique([PROBLEM] * 30, hypotheses)
    critic.seed(1)
    assert critic.critique([PROBLEM] * 30, hypotheses) == first
    assert critic.identity == resolve_critic("noisy(oracle, 0.5)", TASK).identity and critic.uses_gold


def test_a_second_run_sends_no_request(tmp_path: Path) -> None:
    with Endpoint(lambda request, number: (401, {}, {}) if "bad" in request else "No hint.") as server:
        named = f"api(m, {server.url}, cache={tmp_path / 'cache'})"
        for requests in (3, 4):  # the failed one again
            critic = resolve_critic(named, TASK)
            said = critic.critique([PROBLEM] * 4, ["a", "bad", "b", "a"])
            assert [f.accepted for f in said] == [True, False, True, True] and said[1].failure
            assert len(server.bodies) == requests
        assert not critic.deterministic and not critic.uses_gold


# --------------------------------------------------------------------------------------------------- the file


def _text(file: Path) -> None:
    file.write_text("what is this? " * 100)


def _foreign(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE accounts (id)")
    db.close()


def _columns(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE critic_feedback (id)")
    db.close()


def _row(text: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        CachedCritic(TASK, Counting(), file).critique([PROBLEM], ["z"])
        with sqlite3.connect(file) as db:
            db.execute("UPDATE critic_feedback SET feedback = ?", (text,))
        db.close()

    return change


@pytest.mark.parametrize(
    "spoil",
    [
        _text,
        _foreign,
        _columns,
        Path.mkdir,
        *map(_row, ["", "7", "[]", "{}", '{"faults": [7]}', '{"faults": [{"x": 1}]}']),
    ],
)
def test_a_file_that_is_no_cache_is_named_in_one_line_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    file = tmp_path / "cache"
    spoil(file)
    before = file.read_bytes() if file.is_file() else b""
    with pytest.raises(DataError, match=r"^The critic's cache '.*cache' cannot be used: .+\. Name a new file.*$"):
        CachedCritic(TASK, Counting(), file).critique([PROBLEM], ["z"])
    assert before == (file.read_bytes() if file.is_file() else b"")


def test_an_answer_that_cannot_be_written_is_not_asked_for_twice(tmp_path: Path) -> None:
    critic = CachedCritic(TASK, inner := Counting(), tmp_path / "cache")
    with sqlite3.connect(tmp_path / "cache") as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON critic_feedback BEGIN SELECT RAISE(ABORT, 'it is full'); END")
    db.close()
    with pytest.raises(DataError, match="it is full"):
        critic.critique([PROBLEM], ["x"])
    assert Boundary(critic, "record").ask([PROBLEM] * 2, ["z", "y"]) == [SAID] * 2
    assert inner.asked == [["x"], ["z", "y"]]


def test_two_that_ask_the_same_at_once_are_both_answered(tmp_path: Path) -> None:
    first = CachedCritic(TASK, Counting(), tmp_path / "cache")
    second = CachedCritic(TASK, Counting(lambda z: first.critique([PROBLEM], [z])[0]), tmp_path / "cache")
    assert second.critique([PROBLEM], ["z"]) == [SAID] and (first.misses, second.misses) == (1, 1)


def test_threads_share_a_file(tmp_path: Path) -> None:
    def work(k: int) -> list[Feedback]:
        critic = CachedCritic(TASK, Counting(), tmp_path / "cache")
        return [critic.critique([PROBLEM] * 2, [str(i), f"{k}/{i}"])[0] for i in range(10)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[SAID] * 10] * 4
    critic = CachedCritic(TASK, inner := Counting(), tmp_path / "cache")
    critic.critique([PROBLEM] * 50, [*map(str, range(10)), *(f"{k}/{i}" for k in range(4) for i in range(10))])
    assert inner.asked == []


WRITER = """
import sys
from refiner_env.critics import CachedCritic
from refiner_env.tasks import MathWordProblem
task, i = MathWordProblem(), 0
critic = CachedCritic(task, "execution", sys.argv[1])
while True:
    critic.critique([task.generate(7, 0)] * 2, [f"both {i}", f"{sys.argv[2]} {i}"])
    print(i, flush=True)
    i += 1
"""


def test_processes_share_a_file_and_may_be_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache")]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True, cwd=ROOT) for name in "ab"]
    for writer in writers:
        assert writer.stdout
        assert [writer.stdout.readline() for _ in range(5)] == [f"{i}\n" for i in range(5)]
    for writer in writers:
        writer.kill()
        writer.communicate()
    inner = Counting(name=resolve_critic("execution", TASK).identity)
    critic = CachedCritic(TASK, inner, tmp_path / "cache")
    hypotheses = [f"{name} {i}" for name in ("both", "a", "b") for i in range(5)]
    said = critic.critique([PROBLEM] * 15, hypotheses)
    assert said == resolve_critic("execution", TASK).critique([PROBLEM] * 15, hypotheses) and inner.asked == []


# ---------------------------------------------------------------------------------- the identity of learned ones


def test_the_identity_tells_weights_threshold_mode_and_back_end_apart(lm: LanguageModel) -> None:
    import torch

    from agents.critic import LearnedCritic
    from agents.decoding import BACKENDS, REFERENCE
    from agents.self_critic import SelfCritic

    other, shorter = lm.clone(), lm.clone()
    shorter.max_new_tokens -= 1
    critics: list[Critic] = [
        LearnedCritic(lm, TASK),
        LearnedCritic(lm, TASK, 0.25),
        LearnedCritic(lm, TASK, 0.5, "solution"),
    ]
    critics += [LearnedCritic(other, TASK), LearnedCritic(shorter, TASK), SelfCritic(lm, TASK), SelfCritic(lm, TASK, 0)]
    assert critics[0].identity == critics[3].identity == LearnedCritic(lm, TASK).identity
    with torch.no_grad():
        next(other.model.parameters())[0, 0] += 1e-3
    otherwise = lm.clone()
    otherwise.backend = BACKENDS[REFERENCE]
    critics += [LearnedCritic(otherwise, TASK), SelfCritic(otherwise, TASK)]
    found = [critic.identity for critic in critics]
    assert len(set(found)) == len(found)


def test_a_critic_that_was_trained_on_is_asked_anew(lm: LanguageModel, tmp_path: Path) -> None:
    import torch

    from agents.critic import LearnedCritic

    model: Any = lm.clone()
    critic = CachedCritic(TASK, LearnedCritic(model, TASK), tmp_path / "cache")
    critic.critique([PROBLEM], ["z"])
    with torch.no_grad():
        next(model.model.parameters())[0, 0] += 1e-3
    critic.critique([PROBLEM], ["z"])
    assert (critic.hits, critic.misses) == (0, 2)
