"""The back end vLLM: what it refuses; and, where it is installed, that it writes what `transformers` writes."""

from __future__ import annotations

import copy
import gc
import importlib.util
from pathlib import Path

import pytest
import torch

from agents.decoding import BACKENDS, DEFAULT, REFERENCE, Backend, Decoding, draws, freeze
from agents.lm import LanguageModel
from agents.lora import LoraOptions, add_adapter
from agents.models import BASE_FOLDER, build_model, load_model
from agents.vllm import VLLM
from refiner_env import ProceduralProblems
from refiner_env.errors import OptionError
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem

needs_vllm = pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vllm is not installed")
EQUAL, LENGTH = 0.995, 18


@pytest.fixture
def untaught(lm: LanguageModel) -> LanguageModel:
    return build_model("decoder-tiny", copy.deepcopy(lm.tokenizer))


@pytest.fixture(scope="module")
def taught(lm: LanguageModel, train: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A Llama in a folder, which has learned a little, so that its completions end here and there."""
    torch.manual_seed(0)
    model = build_model("decoder-tiny", copy.deepcopy(lm.tokenizer))
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=3e-3)
    for _ in range(70):
        model.loss([p.text for p in train[:20]], [p.gold or "" for p in train[:20]]).mean.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("llama")
    model.save(folder)
    return load_model(folder)


@pytest.fixture(scope="module")
def vllm(taught: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFINER_CACHE", str(tmp_path_factory.mktemp("cache")))
        return VLLM(taught)


# ------------------------------------------------------------------------------------------- what it refuses


def test_where_it_is_not_installed_it_says_how_to_get_it(
    untaught: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.vllm.find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"vllm is not installed: pip install -e '\.\[vllm\]'"):
        freeze(untaught, "vllm")
    assert untaught.backend is BACKENDS[DEFAULT]


def test_encoder_decoders_are_sent_to_another() -> None:
    with pytest.raises(OptionError, match="knows no encoder-decoders: take ctranslate2"):
        freeze(load_model(BASE_FOLDER), "vllm")


def test_whatever_it_raises_is_a_line(untaught: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in raises what cannot be sent from one process to another."""
    (tmp_path / "vllm.py").write_text(
        "class Odd(Exception):\n"
        "    def __init__(self, one, two):\n"
        "        super().__init__('head size 16\\nis not supported')\n"
        "def LLM(*args, **options):\n"
        "    raise Odd(1, 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OptionError, match="cannot load this model: Odd: head size 16 is not supported") as told:
        freeze(untaught, "vllm")
    assert "\n" not in str(told.value)


# ------------------------------------------------------------------------------------------- what it writes


@needs_vllm
def test_greedy_completions_are_those_of_the_reference(
    vllm: Backend, taught: LanguageModel, task: MathWordProblem
) -> None:
    prompts = taught.prompt_rows([p.text for p in ProceduralProblems(task, seed=5, size=2_000)[:]])
    with taught.inferring():
        wanted, found = (b.generate(taught, prompts, Decoding(LENGTH)) for b in (BACKENDS[REFERENCE], vllm))
    differing = [i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b]
    for i in differing:
        print(i, *taught.texts([wanted[i], found[i]]), sep="\n  ")
    assert len(differing) <= (1 - EQUAL) * len(prompts)
    assert any(row[-1] != taught.start["eos_token_id"] for row in wanted) and len(set(map(len, wanted))) > 2


@needs_vllm
@pytest.mark.parametrize("most", [1, LENGTH])
@pytest.mark.parametrize("forbidden", ["not_first", "never", "both"])
def test_forbidden_tokens_are_not_written(
    forbidden: str, most: int, vllm: Backend, taught: LanguageModel, train: list[Problem]
) -> None:
    prompts, reference = taught.prompt_rows([p.text for p in train]), BACKENDS[REFERENCE]
    with taught.inferring():
        free = reference.generate(taught, prompts, Decoding(LENGTH))
        first, later = free[0][0], free[0][2]
        options = {"not_first": {"not_first": first}, "never": {"never": later}}
        decoding = Decoding(most, **options.get(forbidden, {"not_first": first, "never": later}))
        wanted, found = (b.generate(taught, prompts, decoding) for b in (reference, vllm))
    assert sum(map(list.__eq__, wanted, found)) >= len(prompts) - 1
    assert found != [row[:most] for row in free] or (forbidden, most) == ("never", 1)


@needs_vllm
def test_log_probabilities_are_those_of_the_reference(
    vllm: Backend, taught: LanguageModel, train: list[Problem]
) -> None:
    prompts = taught.prompt_rows([p.text for p in train])
    targets = taught.target_rows([*(p.gold or "" for p in train[1:]), ""])
    with taught.inferring():
        wanted, found = (b.log_probabilities(taught, prompts, targets) for b in (BACKENDS[REFERENCE], vllm))
    assert found == pytest.approx(wanted, abs=1e-3) and min(wanted) < -1


@needs_vllm
def test_it_hands_on_sampling_and_texts_that_are_too_long(
    vllm: VLLM, taught: LanguageModel, train: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = taught.prompt_rows([p.text for p in train[:3]])
    sampling, default = Decoding(6, top_p=0.9, draws=draws(range(3), 6)), BACKENDS[DEFAULT]
    with taught.inferring():
        assert vllm.generate(taught, prompts, sampling) == default.generate(taught, prompts, sampling)
        monkeypatch.setattr(vllm, "longest", 5)
        monkeypatch.setattr(vllm, "engine", None)
        assert vllm.generate(taught, prompts, Decoding(6)) == default.generate(taught, prompts, Decoding(6))
        found, wanted = (b.log_probabilities(taught, prompts, prompts) for b in (vllm, default))
    assert found == wanted


@needs_vllm
def test_an_adapter_is_worked_in_and_engines_do_not_disturb_each_other(
    vllm: Backend, taught: LanguageModel, train: list[Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path))
    lm = load_model(taught.model.config.name_or_path)
    add_adapter(lm, LoraOptions(r=2))
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    prompts, decoding, state = lm.prompt_rows([p.text for p in train[:20]]), Decoding(LENGTH), torch.get_rng_state()
    other: Backend | None = VLLM(lm)
    assert torch.equal(torch.get_rng_state(), state) and not torch.distributed.is_initialized()
    with lm.inferring():
        adapted = other.generate(lm, prompts, decoding)
        assert adapted == BACKENDS[REFERENCE].generate(lm, prompts, decoding)
        other = None
        gc.collect()
        assert vllm.generate(taught, prompts, decoding) != adapted


@needs_vllm
def test_a_generation_config_that_changes_scores_is_refused(
    taught: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path))
    lm = taught.clone()
    lm.model.generation_config.repetition_penalty = 1.3
    with pytest.raises(OptionError, match="vllm knows no RepetitionPenaltyLogitsProcessor"):
        freeze(lm, "vllm")
