"""Splits: nothing stands in two of them, sizes are exact, and everything follows from the options."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data import (
    SOURCES,
    Audit,
    DataOptions,
    Splits,
    carve_dev,
    check_disjoint,
    content_hash,
    load_splits,
    require_problems,
    text_key,
)
from refiner_env.errors import DataError, OptionError, UnknownNameError
from refiner_env.tasks import MathWordProblem
from refiner_env.tasks.stories import LEVELS, story
from refiner_env.types import Problem


def problem(text: str, uid: str = "", numbers: tuple[float, ...] = (1.0, 2.0), gold: str = "number0 | EOS") -> Problem:
    return Problem(uid or text, text, gold, numbers[0], {"numbers": numbers})


def splits(train: list[Problem], dev: list[Problem], test: list[Problem]) -> Splits:
    return Splits("made", train, dev, test, Audit())


def texts(problems: Any) -> list[str]:
    return [p.text for p in problems]


# --------------------------------------------------------------------------------------------------- corpus


@pytest.mark.parametrize(
    "text", ["Bryan's books ?", "bryan 's  BOOKS", "Bryan\u2019s\u00a0books!", "\uff22ryan_s books"]
)
def test_text_keys_ignore_case_space_and_punctuation(text: str) -> None:
    assert text_key(problem(text)) == "bryansbooks"


def test_text_keys_keep_words_and_placeholders() -> None:
    assert text_key(problem("has number0 pens")) != text_key(problem("has number1 pens"))
    assert text_key(problem("deux œufs")) != text_key(problem("deux ufs"))


def test_audits_add_up() -> None:
    total = Audit(3, 2, 1, 1, {"a": 1}, ("x",)) + Audit(4, 4, 0, 0, {"a": 2, "b": 1}, ("y",))
    assert total == Audit(7, 6, 1, 1, {"a": 3, "b": 1}, ("x", "y"))


def test_dev_is_carved_by_text() -> None:
    problems = [problem(f"Text {i % 40}{'.' * (i % 3)}", uid=str(i)) for i in range(100)]
    train, dev = carve_dev(problems, 0.2, seed=1)
    assert 18 <= len(dev) <= 20
    assert sorted(p.uid for p in train + dev) == sorted(p.uid for p in problems)
    assert not {text_key(p) for p in train} & {text_key(p) for p in dev}
    assert [int(p.uid) for p in dev] == sorted(int(p.uid) for p in dev)
    assert carve_dev(problems, 0.2, seed=1) == (train, dev)
    assert carve_dev(problems, 0.2, seed=2) != (train, dev)


def test_a_share_of_zero_leaves_dev_empty() -> None:
    problems = [problem("a"), problem("b")]
    assert carve_dev(problems, 0.0, seed=0) == (tuple(problems), ())


@pytest.mark.parametrize(("first", "second"), [("train", "dev"), ("train", "test"), ("dev", "test")])
def test_a_text_in_two_splits_is_an_error(first: str, second: str) -> None:
    parts = {name: [problem(f"only {name}")] for name in ("train", "dev", "test")}
    check_disjoint(splits(**parts))
    parts[first].append(problem("Shared text .", uid="here"))
    parts[second].append(problem("shared  text?", uid="there"))
    with pytest.raises(DataError) as caught:
        check_disjoint(splits(**parts))
    assert all(part in str(caught.value) for part in (first, second, "here", "there", "shared  text?"))


def test_a_text_twice_in_one_split_is_none() -> None:
    check_disjoint(splits([problem("a", numbers=(1.0,)), problem("a", numbers=(2.0,))], [], []))


def test_the_content_hash_sees_texts_numbers_gold_order_and_splits() -> None:
    a, b = problem("a"), problem("b")
    base = content_hash(splits([a, b], [], []))
    assert len(bytes.fromhex(base)) == 8
    assert content_hash(splits([replace(a, uid="other"), b], [], [])) == base
    changed = [
        splits([problem("a "), b], [], []),
        splits([problem("a", numbers=(1.0, 3.0)), b], [], []),
        splits([problem("a", gold="number1 | EOS"), b], [], []),
        splits([b, a], [], []),
        splits([a], [b], []),
        splits([a], [], [b]),
        splits([a, b, b], [], []),
    ]
    assert len({base, *map(content_hash, changed)}) == len(changed) + 1


# -------------------------------------------------------------------------------------------------- stories

SMALL = DataOptions(n_train=60, n_dev=20, n_test=30)


def test_stories_have_exact_sizes_and_distinct_texts() -> None:
    made = load_splits(MathWordProblem(), SMALL)
    assert [len(part) for part in made.parts.values()] == [60, 20, 30]
    everything = [p for part in made.parts.values() for p in part]
    assert len({text_key(p) for p in everything}) == len({p.uid for p in everything}) == 110
    assert (made.audit.kept, made.audit.rows - made.audit.skipped) == (110, 110)


def test_stories_follow_from_the_seed() -> None:
    assert load_splits(MathWordProblem(), SMALL) == load_splits(MathWordProblem(), SMALL)
    hashes = {content_hash(load_splits(MathWordProblem(), replace(SMALL, seed=seed))) for seed in range(3)}
    assert len(hashes) == 3


def test_stories_of_a_level() -> None:
    hard = load_splits(MathWordProblem(), replace(SMALL, level="hard"))
    assert [len(part) for part in hard.parts.values()] == [60, 20, 30]
    for problem in (p for part in hard.parts.values() for p in part):
        _, level, seed, index = problem.uid.split("/")
        assert level == "hard" and problem == story(int(seed), int(index), "hard")
    assert load_splits(MathWordProblem(), replace(SMALL, level="medium")) == load_splits(MathWordProblem(), SMALL)
    assert len({content_hash(load_splits(MathWordProblem(), replace(SMALL, level=level))) for level in LEVELS}) == len(
        LEVELS
    )


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"level of MathWordProblem 'hrad'. Did you mean 'hard'\?.*easy.*medium"):
        load_splits(MathWordProblem(), DataOptions(level="hrad"))


def few_texts(n_texts: int) -> Any:
    """A generator with so few texts that the streams of the splits are sure to meet."""

    def generate(self: MathWordProblem, seed: int, index: int, level: str) -> Problem:
        return problem(f"text {random.Random(f'{seed}/{index}').randrange(n_texts)}", uid=f"{seed}/{index}")

    return generate


def test_train_gives_way_to_dev_and_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MathWordProblem, "generate", few_texts(60))
    less, more = (load_splits(MathWordProblem(), DataOptions(n_train=n, n_dev=10, n_test=20)) for n in (5, 30))
    assert (len(less.train), len(more.train), len(more.dev), len(more.test)) == (5, 30, 10, 20)
    assert (less.dev, less.test) == (more.dev, more.test)
    assert less.train == more.train[:5]
    assert more.audit.skipped > 0


def test_stories_that_are_used_up_are_an_option_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MathWordProblem, "generate", few_texts(60))
    with pytest.raises(OptionError, match=r"n-train is 31.*only 30"):
        load_splits(MathWordProblem(), DataOptions(n_train=31, n_dev=10, n_test=20))


# ----------------------------------------------------------------------------------------------------- SVAMP


def test_svamp_splits(corpora: Path) -> None:
    made = load_splits(MathWordProblem(), DataOptions("svamp"), corpora)
    assert len(made.train) + len(made.dev) == 3138
    assert 310 <= len(made.dev) <= 314
    assert [p.uid for p in made.test] == [f"svamp/dev/{i}" for i in range(1000)]
    assert (made.audit.rows, made.audit.disagreements, made.audit.repairs) == (4138, 6, {"rounded_answer": 12})
    assert len(load_splits(MathWordProblem(), DataOptions("svamp", on_disagreement="drop"), corpora).train) < len(
        made.train
    )


def test_limited_sizes_are_nested(corpora: Path) -> None:
    options = DataOptions("svamp", n_train=50, n_dev=10)
    made = load_splits(MathWordProblem(), options, corpora)
    assert [len(part) for part in made.parts.values()] == [50, 10, 1000]
    more = load_splits(MathWordProblem(), replace(options, n_train=80, n_test=7), corpora)
    assert (more.train[:50], more.dev, len(more.test)) == (made.train, made.dev, 7)
    assert load_splits(MathWordProblem(), replace(options, seed=1), corpora).train != made.train


def test_more_than_there_is_is_an_option_error(corpora: Path) -> None:
    with pytest.raises(OptionError, match=r"n-test is 1001.*1000"):
        load_splits(MathWordProblem(), DataOptions("svamp", n_test=1001), corpora)


SVAMP_ROW = "{} number0 ?,3,number0,3"


def write_svamp(root: Path, train: list[str], test: list[str]) -> Path:
    (root / "svamp").mkdir()
    for name, questions in (("train", train), ("dev", test)):
        lines = ["Question,Numbers,Equation,Answer", *(SVAMP_ROW.format(q) for q in questions), ""]
        (root / "svamp" / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


def test_the_environment_variable_names_the_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFINER_DATA", str(write_svamp(tmp_path, ["a", "b", "c", "d"], ["e"])))
    made = load_splits(MathWordProblem(), DataOptions("svamp", dev_share=0.25))
    assert [len(part) for part in made.parts.values()] == [3, 1, 1]


def test_a_test_text_among_the_training_texts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'A number0 \?'"):
        load_splits(MathWordProblem(), DataOptions("svamp"), write_svamp(tmp_path, ["a", "b"], ["A"]))


def test_missing_corpora_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFINER_DATA", raising=False)
    with pytest.raises(DataError) as unset:
        load_splits(MathWordProblem(), DataOptions("svamp"))
    with pytest.raises(DataError) as missing:
        load_splits(MathWordProblem(), DataOptions("svamp"), tmp_path)
    for text, path in ((unset, "REFINER_DATA"), (missing, str(tmp_path / "svamp" / "train.csv"))):
        assert all(part in str(text.value) for part in (path, "arkilpatel/SVAMP", "dev.csv"))


# --------------------------------------------------------------------------------------------------- options


def test_unknown_sources_get_the_closest_name() -> None:
    with pytest.raises(UnknownNameError, match=r"data source 'swamp'. Did you mean 'svamp'\?.*procedural.*--out"):
        load_splits(MathWordProblem(), DataOptions("swamp"))


def test_sources_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SOURCES, "_entries", dict(SOURCES._entries))
    SOURCES.register("mine", lambda task, options, root: splits([problem("a")] * options.n_train, [], [problem("b")]))
    assert len(load_splits(MathWordProblem(), DataOptions("mine", n_train=4)).train) == 4


@pytest.mark.parametrize("change", [{"dev_share": 0.95}, {"n_train": -1}, {"seed": -1}])
def test_options_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        load_splits(MathWordProblem(), replace(SMALL, **change))


def test_nothing_heavy_is_imported_before_something_is_saved(tmp_path: Path) -> None:
    code = (
        "import sys, data; from refiner_env.tasks import MathWordProblem;"
        "data.load_splits(MathWordProblem(), data.DataOptions(n_train=5, n_dev=5, n_test=5));"
        "import pathlib, data.cli;"
        "path = pathlib.Path(sys.argv[1]); path.write_text('Question,Numbers,Equation,Answer');"
        "data.cli.main(['audit', str(path)]); data.cli.main(['show', *'--n-train 5 --n-dev 5 --n-test 5'.split()]);"
        "sys.exit(sorted({'torch', 'datasets', 'transformers', 'pyarrow'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")], env=None, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_empty_split_is_refused_by_name() -> None:
    splits = load_splits(MathWordProblem(), DataOptions(n_train=5, n_dev=2, n_test=2))
    require_problems(MathWordProblem(), splits)
    with pytest.raises(OptionError, match="The dev split of 'synthetic problems' is empty"):
        require_problems(MathWordProblem(), replace(splits, dev=()))
