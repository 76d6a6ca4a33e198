"""Worlds of rules and a fact: exact on the official files, pure, and as hard as their level says."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from refiner_env.tasks.inference import Inference, parse, render
from refiner_env.tasks.worlds import GENERAL, LEVELS, Rule, World, read_world, world

SIZES = {"train": 1_000, "val": 5_000, "test": 5_000}
BOB = "If Bob is big or sad, then Bob is red. If person is red, then person is hot. Bob is huge and hot."


@pytest.mark.parametrize("split", SIZES)
def test_the_official_conclusions_follow(corpora: Path, split: str) -> None:
    rows = json.loads((corpora / f"refiner/srn/srn_{split}.json").read_text(encoding="utf-8"))
    texts = [" ".join([*row["rules"], row["fact"]]) for row in rows]
    found = [made.answer for made in map(read_world, texts) if made]
    assert found == [re.sub("^The ", "", row["consequents"]) for row in rows] and len(rows) == SIZES[split]


def test_a_world_is_what_its_text_tells() -> None:
    assert read_world(BOB) == World(
        (Rule("Bob", ("big", "sad"), True, "red"), Rule("person", ("red",), False, "hot")), "Bob", ("huge", "hot")
    )
    for level in LEVELS:
        for i in range(200):
            problem = world(1, i, level)
            made = read_world(problem.text)
            assert made and (str(made), made.answer, render(made.derive())) == (
                problem.text,
                problem.answer,
                problem.gold,
            )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bob is red. Bob is hot.",
        "If Bob is red, then Dan is hot. Bob is red.",
        "If Bob is red and hot or sad, then Bob is big. Bob is red.",
        "Is Bob red? Bob is red.",
        BOB + " Who knows.",
    ],
)
def test_other_texts_tell_no_world(text: str) -> None:
    assert read_world(text) is None


def test_what_holds_already_is_no_conclusion() -> None:
    made = read_world(BOB)
    assert made and made.conclusions == ("red",) and made.answer == "Bob is red"
    assert render(made.derive()) == "#0: huge is big #1: Bob is red"


def test_a_conclusion_may_rest_on_another() -> None:
    made = read_world(BOB.replace("and hot", "and old"))
    assert made and made.answer == "Bob is red and hot"
    assert render(made.derive()) == "#0: huge is big #1: Bob is red #2: Bob is person #3: Bob is hot"


def test_a_rule_about_another_kind_does_not_fire() -> None:
    made = read_world("If an animal is red, then the animal is hot. Bob is red.")
    assert made and made.answer == "Nothing" and made.derive() == Inference(())


def test_worlds_follow_from_seed_index_and_level() -> None:
    assert world(3, 4, "maze") == world(3, 4, "maze")
    assert len({world(seed, i, level).text for seed in range(3) for i in range(50) for level in LEVELS}) > 700


def test_levels_are_what_they_say() -> None:
    drawn = {level: [read_world(world(2, i, level).text) for i in range(400)] for level in LEVELS}
    for level, settings in LEVELS.items():
        worlds = [made for made in drawn[level] if made]
        assert len(worlds) == 400 and all(len(made.rules) == settings.rules for made in worlds)
        assert any(rule.subject != made.one for made in worlds for rule in made.rules) is settings.classes
        assert any(word in GENERAL for made in worlds for word in made.said) is settings.synonyms
    steps = {level: sum(len(made.conclusions) for made in worlds if made) for level, worlds in drawn.items()}
    assert max(steps["easy"], steps["medium"], steps["hard"]) < 500 < 700 < steps["chain"] < 1_200 < steps["maze"]


def test_hard_worlds_are_distributed_as_the_official_ones(corpora: Path) -> None:
    rows = json.loads((corpora / "refiner/srn/srn_val.json").read_text(encoding="utf-8"))
    official = [made for row in rows if (made := read_world(" ".join([*row["rules"], row["fact"]])))]
    ours = [made for i in range(5_000) if (made := read_world(world(7, i).text))]

    def shares(worlds: list[World]) -> Counter[str]:
        counted: Counter[str] = Counter()
        for made in worlds:
            counted[f"{len(made.conclusions)} conclusions"] += 1
            counted["synonyms"] += sum(word in GENERAL for word in made.said)
            counted["two conditions"] += sum(len(rule.conditions) == 2 for rule in made.rules)
            counted["rules about the class"] += sum(rule.subject != made.one for rule in made.rules)
            counted[made.one] += 1
        return counted

    a, b = shares(official), shares(ours)
    assert set(a) == set(b)
    # Five standard deviations of a difference of two counts
    assert all(abs(a[key] - b[key]) < 5 * (a[key] + b[key]) ** 0.5 for key in a), (a, b)


def test_derived_steps_are_the_official_ones_nearly_always(corpora: Path) -> None:
    rows = json.loads((corpora / "refiner/srn/srn_test.json").read_text(encoding="utf-8"))
    same = 0
    for row in rows:
        made, official = read_world(" ".join([*row["rules"], row["fact"]])), parse(row["explanations"])
        same += made is not None and made.derive() == official
    assert same / len(rows) > 0.93


def test_steps_come_after_what_they_rest_on() -> None:
    rng = random.Random(0)
    for _ in range(300):
        made = read_world(world(9, rng.randrange(10**6), "maze").text)
        assert made
        told = {atom: k for k, atom in made.derive().atoms()}
        for conclusion, ways in made.supports.items():
            assert any(all(told.get(atom, 99) < told[conclusion] for atom in way) for way in ways)
