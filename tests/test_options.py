"""Options of commands: flags from dataclass fields, ranges, choices, nested groups, help."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.options import Parser, add_options, option, read_options, section, to_dict, validate


@dataclass(frozen=True)
class Inner:
    learning_rate: float = option(0.5, "peak learning rate", low=0.0, high=1.0)
    name: str = option("", "what to call it")
    weights: tuple[float, ...] = option((1.0,), "weights", low=0.0)


@dataclass(frozen=True)
class Outer:
    steps: int = option(400, "optimizer steps", low=1)
    loss: str = option("sum", "how losses are put together", choices=("sum", "mean"))
    shuffle: bool = option(True, "another order each epoch")
    quiet: bool = option(False, "print nothing")
    seeds: tuple[int, ...] = option((0, 1), "seeds", low=0)
    share: float = option(0.5, "fraction kept", high=0.9)
    warm_start: Inner = section(Inner, "before all else")


def parse(*argv: str, defaults: Any = None) -> Outer:
    defaults = defaults or Outer()
    parser = Parser(prog="refiner test")
    add_options(parser, defaults)
    read: Outer = read_options(defaults, vars(parser.parse_args(argv)))
    return read


def help_text(defaults: Any) -> str:
    parser = Parser(prog="refiner test")
    add_options(parser, defaults)
    return " ".join(parser.format_help().split())


# --------------------------------------------------------------------------------------------------- values


def test_nothing_given_leaves_the_defaults() -> None:
    assert parse() == Outer()


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--steps", "7"], "steps", 7),
        (["--loss", "mean"], "loss", "mean"),
        (["--share", "0.25"], "share", 0.25),
        (["--seeds", "3"], "seeds", (3,)),
        (["--seeds", "3", "4", "5"], "seeds", (3, 4, 5)),
        (["--no-shuffle"], "shuffle", False),
        (["--shuffle"], "shuffle", True),
        (["--quiet"], "quiet", True),
        (["--no-quiet"], "quiet", False),
        (["--warm-start.learning-rate", "0.1"], "warm_start", Inner(learning_rate=0.1)),
        (["--warm-start.name", "x"], "warm_start", Inner(name="x")),
    ],
)
def test_a_flag_sets_its_field_and_no_other(argv: list[str], field: str, value: Any) -> None:
    options = parse(*argv)
    assert getattr(options, field) == value and type(getattr(options, field)) is type(value)
    others = {**to_dict(options)} | {field: to_dict(Outer())[field]}
    assert others == to_dict(Outer())


def test_what_is_not_given_keeps_the_presets_value() -> None:
    preset = Outer(steps=9, shuffle=False, seeds=(7,), warm_start=Inner(learning_rate=0.25))
    assert parse(defaults=preset) == preset
    changed = parse("--warm-start.name", "x", "--shuffle", defaults=preset)
    assert changed == Outer(steps=9, shuffle=True, seeds=(7,), warm_start=Inner(learning_rate=0.25, name="x"))
    assert preset.warm_start.name == ""


def test_flags_stop_at_the_next_flag() -> None:
    assert parse("--seeds", "1", "2", "--steps", "3") == Outer(seeds=(1, 2), steps=3)


def test_options_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Outer().steps = 3  # type: ignore[misc]


def test_options_become_plain_json() -> None:
    assert json.loads(json.dumps(to_dict(Outer(seeds=(2,))))) == {
        "steps": 400,
        "loss": "sum",
        "shuffle": True,
        "quiet": False,
        "seeds": [2],
        "share": 0.5,
        "warm_start": {"learning_rate": 0.5, "name": "", "weights": [1.0]},
    }


# ------------------------------------------------------------------------------------------- wrong values


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--steps", "0"], "--steps is 0: it must be at least 1."),
        (["--steps", "-5"], "--steps is -5: it must be at least 1."),
        (["--share", "0.95"], "--share is 0.95: it must be at most 0.9."),
        (["--seeds", "1", "-2"], "--seeds is -2: it must be at least 0."),
        (["--warm-start.learning-rate", "1.5"], "--warm-start.learning-rate is 1.5: it must be between 0.0 and 1.0."),
        (["--warm-start.learning-rate", "-0.1"], "--warm-start.learning-rate is -0.1: it must be between 0.0 and 1.0."),
        (["--warm-start.learning-rate", "nan"], "--warm-start.learning-rate is nan: it must be between 0.0 and 1.0."),
        (["--warm-start.weights", "1", "nan"], "--warm-start.weights is nan: it must be at least 0.0."),
        (["--share", "nan"], "--share is nan: it must be at most 0.9."),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(argv: list[str], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(*argv)
    assert str(caught.value) == said


@pytest.mark.parametrize("argv", [["--steps", "1"], ["--share", "0.9"], ["--warm-start.learning-rate", "0"]])
def test_ranges_include_their_ends(argv: list[str]) -> None:
    parse(*argv)


def test_a_value_that_is_no_choice_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"value of --loss 'maen'. Did you mean 'mean'. Known: mean, sum"):
        parse("--loss", "maen")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--steps", "many"], "Argument --steps: invalid int value: 'many'."),
        (["--steps", "1.5"], "Argument --steps: invalid int value: '1.5'."),
        (["--seeds"], "Argument --seeds: expected at least one argument."),
        (["--stpes", "1"], "Unknown option '--stpes'. Did you mean '--steps'?"),
        (["--stpes=1"], "Unknown option '--stpes'. Did you mean '--steps'?"),
        (["--learning-rate", "1"], "Unknown option '--learning-rate'. Did you mean '--warm-start.learning-rate'?"),
        (["--xyzzy"], "Unknown option '--xyzzy'."),
        (["--seed", "1"], "Unknown option '--seed'. Did you mean '--seeds'?"),
        (["x"], "Unexpected argument 'x'."),
        (["--quiet", "yes"], "Unexpected argument 'yes'."),
        (["two\nlines"], r"Unexpected argument 'two\nlines'."),
    ],
)
def test_what_is_no_option_is_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError) as caught:
        parse(*argv)
    assert str(caught.value) == f"{said} `refiner test --help` lists the options."
    assert capsys.readouterr() == ("", "")


def test_options_made_in_code_are_checked_too() -> None:
    validate(Outer())
    with pytest.raises(OptionError, match="--steps is 0"):
        validate(Outer(steps=0))
    with pytest.raises(OptionError, match=r"--warm-start\.learning-rate is 2"):
        validate(Outer(warm_start=Inner(learning_rate=2.0)))
    with pytest.raises(OptionError, match=r"--part\.steps is 0"):
        validate(Outer(steps=0), "part.")


# ----------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize(
    "line",
    [
        "--steps STEPS optimizer steps (default: 400; at least 1)",
        "--loss LOSS how losses are put together (default: sum; one of sum, mean)",
        "--shuffle, --no-shuffle another order each epoch (default: True)",
        "--quiet, --no-quiet print nothing (default: False)",
        "--seeds SEEDS [SEEDS ...] seeds (default: 0 1; at least 0)",
        "--warm-start.learning-rate LEARNING_RATE peak learning rate (default: 0.5; between 0.0 and 1.0)",
        "--warm-start.name NAME what to call it (default: not given)",
        "--share SHARE fraction kept (default: 0.5; at most 0.9)",
    ],
)
def test_help_shows_meaning_default_and_limits(line: str) -> None:
    assert line in help_text(Outer())


def test_help_groups_nested_options() -> None:
    text = help_text(Outer())
    assert text.rindex("--share") < text.index("warm_start:") < text.rindex("--warm-start.name")


def test_help_may_hold_a_percent_sign() -> None:
    @dataclass(frozen=True)
    class Options:
        share: str = option("10%", "paper: 10% of the data")

    assert "paper: 10% of the data (default: 10%)" in help_text(Options())
