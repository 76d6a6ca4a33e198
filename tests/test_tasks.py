"""The contract of every registered task, over thousands of procedural problems."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refiner_env.tasks import TASKS
from refiner_env.types import ParseFailure, Problem, Task

ALL: dict[str, Task[Any]] = {name: TASKS.resolve(name)() for name in TASKS.names()}
LEVELS = [(name, level) for name, task in ALL.items() for level in task.levels]
SIZE = 500
"""Problems of each level."""


def problems(name: str, level: str, size: int = SIZE) -> list[Problem]:
    return [ALL[name].generate(17, i, level) for i in range(size)]


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_gold_is_right_and_reads_as_it_is_rendered(name: str, level: str) -> None:
    task, rng = ALL[name], random.Random(level)
    for problem in problems(name, level):
        scores = task.score(problem, problem.gold or "")
        assert scores.ir_exact and scores.ir_equivalent and scores.answer and scores.similarity == 1.0, problem
        assert task.diagnose(problem, problem.gold or "") == ()
        other = task.rephrase(problem, rng)
        assert task.score(problem, other).ir_equivalent, (problem, other)
        assert task.right_share(problem, problem.gold or "") == task.right_share(problem, other) == 1.0
        assert task.check(problem.without_gold(), problem.gold or "") == ()
        for text in (problem.gold or "", other):
            ir = task.parse(text)
            assert not isinstance(ir, ParseFailure) and task.parse(task.render(ir)) == ir
        assert (problem.gold or "?") not in problem.text


@pytest.mark.parametrize("name", ALL)
def test_every_perturbation_is_found_out(name: str) -> None:
    task, rng, found = ALL[name], random.Random(name), Counter[str]()
    for problem in (p for level in task.levels for p in problems(name, level)):
        for kind in task.perturbations:
            faults = task.diagnose(problem, wrong := task.perturb(problem, rng, kind))
            assert faults and not task.score(problem, wrong).ir_equivalent, (problem, wrong)
            assert {fault.kind for fault in faults} <= set(task.fault_kinds) - {"other"}
            said = task.read_feedback(task.describe(faults))
            assert not said.accepted and [f.kind for f in said.faults] == [f.kind for f in faults]
            assert 0.0 <= task.right_share(problem, wrong) < 1.0, (problem, wrong)
            found.update({fault.kind for fault in faults})
    named = set(task.perturbations) & set(task.fault_kinds)
    assert named and all(found[kind] >= SIZE / 5 for kind in named), found


@pytest.mark.parametrize("name", ALL)
def test_what_shows_without_gold_does_not_depend_on_it(name: str) -> None:
    task, rng, found = ALL[name], random.Random(name), 0
    for problem in (p for level in task.levels for p in problems(name, level, 60)):
        other = task.generate(18, 1)
        misled = replace(problem, gold=other.gold, answer=other.answer, gold_metadata=other.gold_metadata)
        for text in (problem.gold or "", "?", *(task.perturb(problem, rng, kind) for kind in task.perturbations)):
            faults = task.check(problem.without_gold(), text)
            assert faults == task.check(problem, text) == task.check(misled, text)
            said = task.read_feedback(task.describe(faults))
            assert [(f.kind, f.step, f.slot) for f in said.faults] == [(f.kind, f.step, f.slot) for f in faults]
            found += bool(faults)
    assert found > 60


@pytest.mark.parametrize("name", ALL)
def test_wrong_hypotheses_have_some_right_places_and_unreadable_ones_none(name: str) -> None:
    task, rng, shares = ALL[name], random.Random(name), list[float]()
    for problem in problems(name, task.default_level, 200):
        shares += [task.right_share(problem, task.perturb(problem, rng)) for _ in range(3)]
        assert task.right_share(problem, "?") == task.right_share(problem, "") == 0.0
    assert len(set(shares)) > 1 and 0.2 < sum(shares) / len(shares) < 0.9


@pytest.mark.parametrize("name", ALL)
def test_problems_follow_from_seed_index_and_level(name: str) -> None:
    task = ALL[name]
    assert task.default_level in task.levels and task.generate(1, 2) == task.generate(1, 2, task.default_level)
    drawn = [task.generate(seed, i, level).text for seed in (1, 2) for i in range(200) for level in task.levels]
    assert drawn == [task.generate(seed, i, level).text for seed in (1, 2) for i in range(200) for level in task.levels]
    assert len(set(drawn)) > 0.6 * len(drawn)


@pytest.mark.parametrize("name", ALL)
def test_only_gold_is_hidden_with_gold(name: str) -> None:
    problem = ALL[name].generate(1, 1)
    blind = problem.without_gold()
    assert (blind.gold, blind.answer, blind.gold_metadata) == (None, None, {})
    assert (blind.uid, blind.text, blind.metadata) == (problem.uid, problem.text, problem.metadata)
    assert (problem.gold or "?") not in repr(blind)


@pytest.mark.parametrize("name", ALL)
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_nothing_raises_whatever_is_written(name: str, data: st.DataObject) -> None:
    task, rng = ALL[name], random.Random(0)
    problem = task.generate(5, data.draw(st.integers(0, 200)))
    gold, other = problem.gold or "", task.generate(6, data.draw(st.integers(0, 200)))
    words = gold.split()
    text = data.draw(
        st.one_of(
            st.text(),
            st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")),
            st.integers(0, len(gold)).map(lambda n: gold[:n]),
            st.permutations(words).map(" ".join),
            st.lists(st.sampled_from([*words, *(other.gold or "").split(), "\n", "#9:"])).map(" ".join),
            st.just(other.gold or ""),
        )
    )
    faults, scores = task.diagnose(problem, text), task.score(problem, text)
    assert scores.ir_equivalent is not bool(faults) and 0.0 <= scores.similarity <= 1.0
    assert scores.ir_equivalent or not scores.ir_exact
    assert task.same(problem.without_gold(), text, text)
    shows, share = task.check(problem.without_gold(), text), task.right_share(problem, text)
    assert shows == task.check(problem, text) and {f.kind for f in shows} <= set(task.fault_kinds) - {"other"}
    assert 0.0 <= share <= 1.0 and (share == 1.0) is scores.ir_equivalent
    assert all(0 <= f.span[0] <= f.span[1] <= len(text) for f in (*faults, *shows) if f.span)
    said = task.feedback(faults)
    assert said.text and said.accepted is not bool(faults) and task.read_feedback(said.text).accepted == said.accepted
    assert isinstance(task.edit(problem.text, text, faults, rng), str)
    assert isinstance(task.edit(text, text, task.read_feedback(text).faults, rng), str)
    if not isinstance(ir := task.parse(text), ParseFailure):
        task.execute(ir, problem)
        assert task.parse(task.render(ir)) == ir


@pytest.mark.parametrize("name", ALL)
def test_the_scripted_editor_follows_the_oracle(name: str) -> None:
    task, rng, right = ALL[name], random.Random(3), 0
    for problem in problems(name, task.default_level, 60):
        hypothesis = task.guess
        for _ in range(60):
            if not (faults := task.diagnose(problem, hypothesis)):
                right += 1
                break
            hypothesis = task.edit(problem.text, hypothesis, faults, rng)
    assert task.diagnose(problems(name, task.default_level, 1)[0], task.guess) or right
    assert right > (0 if name == "MoralStories" else 20)  # the phrases of a story are seldom those of its norm
