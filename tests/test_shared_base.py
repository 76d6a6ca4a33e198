"""Adapters of one base share its weights and nothing else; bases of 4 and 8 bits."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agents import lora
from agents.lm import LanguageModel
from agents.lora import LoraOptions, add_adapter, merge
from agents.models import load_model, open_model
from benchmarks.adapters import stored
from benchmarks.train import main as train
from refiner_env.cli import main
from refiner_env.errors import OptionError
from refiner_env.tasks import MathWordProblem
from trainers.learning import Learner

PROMPTS = ["number0 apples and number1 pears", "how many figs are left"]
TARGETS = ["#0: add ( number0, number1 ) | EOS", "EOS"]
DATA = ["--data.n-train", "40", "--data.n-dev", "4", "--data.n-test", "4"]


@pytest.fixture
def adapters(base: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with adapters of the base that write different things."""
    folders = tmp_path / "a", tmp_path / "b"
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        lm = load_model(base)
        add_adapter(lm, LoraOptions(r=2 + seed))
        for name, weight in lm.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        lm.save(folder)
    return folders


def alone(load: Callable[[], Any]) -> Any:
    """What `load` gives where nothing is there to share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lora, "_FROZEN", {})
        return load()


def written(lm: LanguageModel) -> tuple[list[str], list[float]]:
    lm.max_new_tokens = 8
    return lm.generate(PROMPTS), lm.probabilities(PROMPTS, TARGETS)


def state(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in lm.model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def steps(lm: LanguageModel, between: Callable[[], Any]) -> Learner:
    """Three optimizer steps of two backward passes each; `between` is called before every pass."""
    torch.manual_seed(7)
    learner = Learner(lm, 0.01)
    for step in range(3):
        for _ in range(2):
            between()
            learner.backward(["u"] * len(PROMPTS), PROMPTS, TARGETS)
        learner.step(step / 3)
    return learner


def test_two_adapters_hold_one_base_and_write_what_each_writes_alone(adapters: tuple[Path, Path]) -> None:
    apart = [alone(lambda folder=folder: load_model(folder)) for folder in adapters]
    both = [load_model(folder) for folder in adapters]
    assert stored(*both) < 0.6 * stored(*apart)
    expected = [written(lm) for lm in apart]
    assert [written(lm) for lm in both] == expected and expected[0] != expected[1]
    assert [written(lm) for lm in both[::-1]] == expected[::-1]
    assert [lm.identity for lm in both] == [lm.identity for lm in apart]


def test_an_adapter_that_is_added_shares_too(base: Path, adapters: tuple[Path, Path]) -> None:
    lm = load_model(base)
    add_adapter(lm, LoraOptions())
    critic = load_model(adapters[1])
    assert stored(lm, critic) < 0.6 * (stored(lm) + stored(critic))


def test_training_one_while_the_other_acts_changes_it_as_training_alone_does(adapters: tuple[Path, Path]) -> None:
    apart = [alone(lambda folder=folder: load_model(folder)) for folder in adapters]
    steps(apart[0], lambda: None)
    generator, critic = (load_model(folder) for folder in adapters)
    before = state(critic)
    assert stored(generator, critic) < 0.6 * stored(*apart)

    learner = steps(generator, lambda: written(critic))
    assert same(state(generator), state(apart[0]))
    assert same(state(critic), before) and all(p.grad is None for p in critic.model.parameters())
    held = {id(p) for group in learner.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for name, p in generator.model.named_parameters() if "lora" in name}
    assert written(critic) == written(apart[1])


def test_a_critic_in_the_loop_shares_the_base_and_changes_nothing(
    base: Path, adapters: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = []
    share, outs = lora.share_base, [tmp_path / "shared", tmp_path / "apart"]

    def watched(name: str, weights: dict[str, torch.nn.Parameter]) -> None:
        before = {w.data_ptr() for w in weights.values()}
        share(name, weights)
        shared.append(bool(before - {w.data_ptr() for w in weights.values()}))

    flags = ["--lora", "--train.steps", "3", "--train.batch-size", "4", "--train.turns", "2", *DATA]
    flags += ["--critic", f"learned({adapters[1]}, threshold=0.0001)"]
    monkeypatch.setattr(LanguageModel.__init__, "__kwdefaults__", {"max_prompt_tokens": 1024, "max_new_tokens": 8})
    for out, sharing in zip(outs, (watched, lambda name, weights: None), strict=True):
        monkeypatch.setattr(lora, "share_base", sharing)
        assert train(["refiner", "--model", str(adapters[0]), "--out", str(out), *flags]) == 0
    assert shared.count(True) == 1
    figures = [[json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] for out in outs]
    assert figures[0] == figures[1] and len({line["loss"] for line in figures[0]}) == 3


def test_evaluate_shares_the_base_and_finds_what_separate_ones_find(
    adapters: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LanguageModel.__init__, "__kwdefaults__", {"max_prompt_tokens": 1024, "max_new_tokens": 8})
    flags = ["--generator", str(adapters[0]), "--critic", str(adapters[1]), "--split", "dev", *DATA]
    made: list[int] = []
    share = lora.share_base

    def watched(name: str, weights: dict[str, torch.nn.Parameter]) -> None:
        share(name, weights)
        made.append(sum(w.data_ptr() not in places for w in weights.values()))
        places.update(w.data_ptr() for w in weights.values())

    places: set[int] = set()
    for sharing in (watched, lambda name, weights: None):
        monkeypatch.setattr(lora, "share_base", sharing)
        assert main(["evaluate", *flags, "--episodes", str(tmp_path / sharing.__name__)]) == 0
    assert made[0] > 0 and made[1:] == [0]
    assert (tmp_path / "watched").read_text() == (tmp_path / "<lambda>").read_text()


def test_whole_models_of_a_base_share_nothing(base: Path, adapters: tuple[Path, Path]) -> None:
    adapter, one, two = load_model(adapters[0]), load_model(base), load_model(base)
    assert stored(adapter, one, two) == stored(adapter) + stored(one) + stored(two)
    before = written(adapter)
    steps(one, lambda: None)
    assert written(adapter) == before and same(state(two), state(load_model(base)))


def test_what_is_cloned_or_merged_leaves_the_other_as_it_was(adapters: tuple[Path, Path]) -> None:
    one, two = (load_model(folder) for folder in adapters)
    before = written(two)
    copy = one.clone()
    assert stored(one, two, copy) == stored(one, two) + stored(copy)
    merge(one)
    assert stored(one, two) == stored(one) + stored(two)
    assert written(two) == before and written(one)[1] == pytest.approx(written(copy)[1], rel=1e-3)


def test_a_model_that_grows_leaves_the_other_as_it_was(adapters: tuple[Path, Path]) -> None:
    one, two = (load_model(folder) for folder in adapters)
    before = written(two)
    one.add_tokens(["<entirely-new>"])
    assert len(one.tokenizer) == one.model.get_input_embeddings().weight.shape[0]
    assert two.model.get_input_embeddings().weight.shape[0] == len(two.tokenizer) and written(two) == before


def test_a_base_that_has_changed_on_disk_is_not_shared(
    base: Path, adapters: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, read = load_model(adapters[0]), LanguageModel.fit_vocabulary

    def changed(self: LanguageModel) -> None:
        read(self)
        with torch.no_grad():
            self.model.get_input_embeddings().weight.mul_(2)

    monkeypatch.setattr(LanguageModel, "fit_vocabulary", changed)
    two = load_model(adapters[1])
    weights = [lm.model.get_input_embeddings().weight for lm in (one, two)]
    assert torch.equal(weights[1], 2 * weights[0]) and not torch.equal(*weights)
    assert stored(one, two) > stored(one) + stored(two) - stored(load_model(base))


def test_what_nobody_uses_is_not_kept(adapters: tuple[Path, Path]) -> None:
    gc.collect()
    there = len(lora._FROZEN)
    lm = load_model(adapters[0])
    assert len(lora._FROZEN) > there
    del lm
    gc.collect()
    assert len(lora._FROZEN) == there


def test_lora_goes_on_with_an_adapter_and_takes_no_other_shape(adapters: tuple[Path, Path], tmp_path: Path) -> None:
    lm = load_model(adapters[0])
    add_adapter(lm, LoraOptions())
    add_adapter(lm, LoraOptions(r=2))
    lm.save(tmp_path / "saved")
    assert written(load_model(tmp_path / "saved")) == written(lm)
    for options, text in (
        (LoraOptions(r=5), r"--adapter\.r is 5, .* with 2"),
        (LoraOptions(targets=("wo",)), "already"),
    ):
        with pytest.raises(OptionError, match=text):
            add_adapter(lm, options)


# -------------------------------------------------------------------------------------------- 4 and 8 bits


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--adapter.bits", "4"], "--adapter.bits 4 needs --lora"),
        (["--adapter.r", "4"], "--adapter.r 4 needs --lora"),
        (["--adapter.bits", "8", "--lora"], "needs bitsandbytes: pip install"),
        (["--adapter.bits", "5", "--lora"], "Unknown value of --adapter.bits '5'"),
    ],
)
def test_adapters_that_cannot_be_are_one_line_before_anything_is_loaded(
    flags: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agents.lora.find_spec", lambda name: None)
    monkeypatch.setattr("benchmarks.train.load_splits", None)
    assert main(["train", "generator", "--out", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("bits", ["4", "8"])
def test_an_adapter_is_trained_beside_a_quantized_base_and_loaded_beside_the_whole(
    bits: str, base: Path, tmp_path: Path
) -> None:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    lm = open_model(str(base), MathWordProblem(), [], bits=bits)
    layers = [m for m in lm.model.modules() if isinstance(m, Linear4bit if bits == "4" else Linear8bitLt)]
    assert layers and not any(p.requires_grad for p in lm.model.parameters())
    out = tmp_path / "adapter"
    words = ["--model", str(base), "--lora", "--adapter.bits", bits, "--train.learning-rate", "0.05", *DATA]
    words += ["--train.steps", "2", "--train.batch-size", "4"]
    assert train(["generator", *words, "--out", str(out)]) == 0
    trained = load_file(out / "adapter_model.safetensors")
    assert any(name.endswith("lora_B.weight") and w.abs().max() > 0 for name, w in trained.items())
    assert {p.dtype for p in load_model(out).model.parameters()} == {torch.float32}
