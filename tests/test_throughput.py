"""`refiner bench`: contenders do the same work, and the figures are told whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.vector import AutoresetMode

from agents.encoder_decoder import EncoderDecoder
from agents.lm import LanguageModel
from agents.models import BASE_FOLDER, load_model
from agents.prompts import generator_prompt
from benchmarks import learning_speed, rollout_speed, timed_models
from benchmarks.rounds import in_turn, peak, ratio, shown
from benchmarks.split import PARTS
from benchmarks.widening import widened
from refiner_env import RefinerVectorEnv
from refiner_env.cli import main
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Observations, Problem
from trainers.learning import Learner
from trainers.refiner import RefinerOptions, refiner_step

WIDER = {"d_model": 192, "d_ff": 640, "d_kv": 24, "num_heads": 10, "num_layers": 4, "num_decoder_layers": 3}


@pytest.fixture(scope="module")
def base() -> LanguageModel:
    """Pre-trained, so that completions end and differ."""
    lm = load_model(BASE_FOLDER)
    lm.max_new_tokens = 24
    return lm


def test_the_widened_model_writes_what_the_small_one_writes(base: LanguageModel) -> None:
    wide = EncoderDecoder(widened(base.model, pieces=4_000, **WIDER), base.tokenizer, max_new_tokens=24)
    problems = timed_models.TIMED[:64]
    prompts = [generator_prompt(p.text, ("#0: add ( number0, number1 ) | EOS", "x")) for p in problems[:32]]
    prompts += [generator_prompt(p.text) for p in problems[32:]]
    assert sum(p.numel() for p in wide.model.parameters()) > 2 * sum(p.numel() for p in base.model.parameters())
    assert wide.generate(prompts) == base.generate(prompts)
    golds = [p.gold or "" for p in problems]
    assert wide.probabilities(prompts, golds) == pytest.approx(base.probabilities(prompts, golds), rel=1e-3)
    assert wide.generate(prompts, top_p=0.9, seeds=range(64)) == base.generate(prompts, top_p=0.9, seeds=range(64))


@pytest.mark.parametrize("critic", rollout_speed.CRITICS)
def test_both_loops_write_the_same(base: LanguageModel, critic: str) -> None:
    shape = rollout_speed.Shape(episodes=7, places=3, turns=2)
    ours, plain = (rollout_speed.played(base, loop, critic, shape) for loop in rollout_speed.LOOPS.values())
    assert len(ours.hypotheses) == 7 and plain.hypotheses == ours.hypotheses
    assert {len(episode) for episode in ours.hypotheses} <= {1, 2}
    assert plain.split.calls["critic"] > ours.split.calls["critic"]  # one by one
    assert set(ours.split.seconds) <= set(PARTS) and plain.tokens >= ours.tokens > 0


@pytest.mark.parametrize("critic", rollout_speed.CRITICS)
def test_the_floor_decodes_what_our_loop_decodes(base: LanguageModel, critic: str) -> None:
    shape = rollout_speed.Shape(episodes=5, places=5, turns=2)
    writer, reviewer = rollout_speed.record(base, critic, shape)
    turns = sum(map(len, rollout_speed.played(base, rollout_speed.ours, critic, shape).hypotheses))
    assert asked(writer, "generate") == turns and asked(reviewer, "log_probabilities") == turns * (critic == "learned")
    assert rollout_speed.floor(base, [writer, reviewer]).split.total > 0
    for calls in (writer, reviewer):
        one = rollout_speed.at_once(calls)
        methods = {method for method, _ in calls}
        assert {method: asked(calls, method) for method in methods} == {method: len(given[0]) for method, given in one}


def asked(calls: Sequence[rollout_speed.Call], method: str) -> int:
    """How many prompts."""
    return sum(len(given[0]) for called, given in calls if called == method)


def of_one_length(lm: LanguageModel, problems: list[Problem]) -> list[Problem]:
    """Those whose gold is as long as that of the first: labels of a batch need no padding."""
    lengths = [len(row) for row in lm.target_rows([p.gold or "" for p in problems])]
    return [p for p, length in zip(problems, lengths, strict=True) if length == lengths[0]][:4]


def test_the_official_schedule_has_our_gradients_where_nothing_differs(
    base: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    """The same wrong hypotheses for both, none of them solved on the way, and labels without padding."""
    problems = of_one_length(base, train)
    wrong = {p.text: "#0: add ( number0, number0 ) | EOS" for p in problems}

    def propose(places: Any, observations: Observations, seed: int) -> list[str]:
        return [wrong[text] for text in observations["problem"]]

    env = RefinerVectorEnv(
        len(problems), task=task, problems=problems, max_turns=2, stop="gold", autoreset_mode=AutoresetMode.DISABLED
    )
    ours, theirs = Learner(base.clone(), 0.0), Learner(base.clone(), 0.0)
    figures = refiner_step(ours, env, range(len(problems)), propose, RefinerOptions(turns=2), 0)
    longest = len(base.target_rows([problems[0].gold or ""])[0])
    unused = ["not this one", wrong[problems[0].text]] * len(problems)
    loss = learning_speed.official_step(theirs.lm, task, problems, 2, lambda prompts: unused, longest)
    assert len(problems) > 1 and figures["solved"] == 0
    assert loss == pytest.approx(float(figures["loss"] + figures["last_turn_loss"]), rel=1e-5)
    for mine, other in zip(ours.trained.values(), theirs.trained.values(), strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_the_official_schedule_trains_on_padding(
    base: LanguageModel, task: MathWordProblem, train: list[Problem]
) -> None:
    lm, problems = base.clone(), of_one_length(base, train)
    longest = len(lm.target_rows([problems[0].gold or ""])[0])
    losses = [
        learning_speed.official_step(lm, task, problems, 1, lambda prompts: [""] * len(prompts), longest + more)
        for more in (0, 5)
    ]
    assert losses[1] != pytest.approx(losses[0], rel=1e-2)


def test_a_timed_step_leaves_the_weights_as_they_are(base: LanguageModel) -> None:
    lm = base.clone()
    before = {name: p.clone() for name, p in lm.trained().items()}
    for contender in learning_speed.SAMPLES:
        assert learning_speed.prepared(lm, contender, learning_speed.Shape(2, 2))(1) > 0
    assert all(torch.equal(before[name], p) for name, p in lm.trained().items())


def test_contenders_take_turns_and_ratios_are_of_one_round() -> None:
    order: list[str] = []
    taken = in_turn({name: lambda name=name: order.append(name) or len(order) for name in "ab"}, 2)
    assert order == ["a", "b", "b", "a"] and taken == {"a": [1, 4], "b": [2, 3]}
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == [3.0, 2.0, 4.0]
    assert shown([3.0, 2.0, 4.0]) == "3.00 [2.00, 4.00]" and shown([1.0, 1.0, 1.0]) == "1"


def filled(mebibytes: int) -> Any:
    return lambda: bytearray(mebibytes << 20)


def test_the_peak_is_that_of_the_work() -> None:
    assert peak(filled, 64) == pytest.approx(64, abs=8) if not torch.cuda.is_available() else True


def test_the_trained_model_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path))
    monkeypatch.setattr(timed_models, "STEPS", 1)
    folder = timed_models.warmed()
    assert folder.parent == tmp_path
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert timed_models.warmed() == folder and (folder / "model.safetensors").stat().st_mtime_ns == made
    assert load_model(folder).identity != load_model(BASE_FOLDER).identity


def test_the_command_shows_tables_and_writes_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("benchmarks.rollout_speed.peak", "benchmarks.learning_speed.peak"):
        monkeypatch.setattr(place, lambda *arguments: 1.0)
    monkeypatch.setattr("benchmarks.throughput.apart", lambda work, *arguments: work(*arguments))
    monkeypatch.setattr("benchmarks.scale.in_processes", lambda *arguments: iter([(2, 1.0, [1.5, 1.0, 2.0])]))
    monkeypatch.setattr("benchmarks.scale.PLACES", (1, 2))
    monkeypatch.setattr("benchmarks.environment_speed.benchmark_vector_step", lambda *args, **named: 100.0)
    monkeypatch.setenv("COLUMNS", "100")
    out = tmp_path / "figures.json"
    small = "--model refiner-tiny --rounds 1 --episodes 2 --places 2 --turns 1 --batch-size 2 --learning-turns 2"
    assert main(["bench", *small.split(), "--steps", "2", "--stream", "20", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert all(len(line) <= 100 for line in printed.splitlines()) and "…" not in printed
    figures = json.loads(out.read_text())
    assert figures["options"]["places"] == 2 and figures["machine"]["cores"] >= 1
    parts = [row["part"] for row in figures["rows"]]
    assert {part: parts.count(part) for part in dict.fromkeys(parts)} == {
        "rollout": 8,
        "learning": 3,
        "environment": 4,
        "scale": 2 + 4 + 3 + 1,
        "stream": 1,
    }
    rollout = figures["rows"][1]
    assert rollout["contender"] == "ours" and rollout["same_hypotheses"] == rollout["episodes"] == 2
    assert {"to_floor", "to_ours", "episodes_per_s", "turns_per_s", "tokens_per_s", "critic_calls_per_s"} <= set(
        rollout
    )
    assert sum(rollout["share"].values()) == pytest.approx(1.0) and 0 <= rollout["padding"] < 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--part", "rolout"], "Did you mean 'rollout'?"),
        (["--models", "61m"], "Unknown size of a timed model '61m'."),
        (["--models", "scratch:tinny"], "Did you mean 'tiny'?"),
        (["--models", ","], "--models , names no model: give one of 1m, 60m, 220m"),
        (["--rounds", "0"], "--rounds is 0: it must be at least 1."),
    ],
)
def test_what_cannot_be_timed_is_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *argv]) == 2
    assert said in capsys.readouterr().err
