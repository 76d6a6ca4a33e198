"""Decoding back ends: each writes what `transformers` writes, and finds it as likely."""

from __future__ import annotations

import importlib.util
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from agents.critic import LearnedCritic
from agents.decoder_only import DecoderOnly
from agents.decoding import BACKENDS, DEFAULT, REFERENCE, Backend, Decoding, Row, draws, freeze
from agents.encoder_decoder import EncoderDecoder
from agents.lm import LanguageModel
from agents.lora import LoraOptions, add_adapter
from agents.models import BASE_FOLDER, load_model, open_model
from refiner_env import ProceduralProblems
from refiner_env.cli import main
from refiner_env.decoding import AUTO, DECODERS, frozen, told
from refiner_env.errors import OptionError, UnknownNameError
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem
from trainers.learning import Learner
from trainers.runs import RunOptions

HERE = importlib.util.find_spec("ctranslate2") is not None
CONVERTED = pytest.param("ctranslate2", marks=pytest.mark.skipif(not HERE, reason="ctranslate2 is not installed"))
FAST = ["leaving", CONVERTED]
needs_ctranslate2 = pytest.mark.skipif(not HERE, reason="ctranslate2 is not installed")
EQUAL = 0.995
PROMPTS = ["number0 apples and number1 pears", "one", "how many are left of the number2 figs in the box of number3"]
TARGETS = ["#0: add ( number0, number1 ) | EOS", "EOS", "#0: subtract ( number2, number3 ) | EOS"]


@pytest.fixture(scope="module")
def problems(task: MathWordProblem) -> list[Problem]:
    return ProceduralProblems(task, seed=5, size=2_000)[:]


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    """Our base model, which mostly ends what it writes."""
    return load_model(BASE_FOLDER)


@pytest.fixture(scope="module")
def llama(task: MathWordProblem, train: list[Problem]) -> LanguageModel:
    """An untrained one, which never ends."""
    torch.manual_seed(0)
    return open_model("scratch:decoder-tiny", task, train)


@pytest.fixture(params=["tiny", "llama"])
def either(request: pytest.FixtureRequest) -> LanguageModel:
    model: LanguageModel = request.getfixturevalue(request.param)
    return model


def backend(name: str, lm: LanguageModel) -> Backend:
    """The back end of this name for the model, which keeps its own."""
    freeze(lm, name)
    made, lm.backend = lm.backend, BACKENDS[DEFAULT]
    return made


def greedy(name: str, lm: LanguageModel, prompts: list[Row], length: int, not_first: int | None = None) -> list[Row]:
    with lm.inferring():
        return backend(name, lm).generate(lm, prompts, Decoding(length, not_first=not_first))


# ------------------------------------------------------------------------------------------ what qualifies them


@pytest.fixture(scope="module", params=[("tiny", 32), ("llama", 4)], ids=["tiny", "llama"])
def reference(
    request: pytest.FixtureRequest, problems: list[Problem]
) -> tuple[LanguageModel, list[Row], int, list[Row]]:
    """A model, prompts, the longest completion, and what `transformers` writes."""
    name, length = request.param
    lm: LanguageModel = request.getfixturevalue(name)
    prompts = lm.prompt_rows([p.text for p in problems])
    return lm, prompts, length, greedy(REFERENCE, lm, prompts, length)


@pytest.mark.parametrize("name", FAST)
def test_greedy_completions_are_those_of_the_reference(
    name: str, reference: tuple[LanguageModel, list[Row], int, list[Row]]
) -> None:
    lm, prompts, length, wanted = reference
    found = greedy(name, lm, prompts, length)
    differing = [i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b]
    for i in differing:
        print(i, *lm.texts([wanted[i], found[i]]), sep="\n  ")
    assert len(differing) <= (1 - EQUAL) * len(prompts)
    assert any(len(row) == length and row[-1] != lm.start["eos_token_id"] for row in wanted)  # the longest, too
    assert max(map(len, found)) == length


@pytest.mark.parametrize("name", FAST)
def test_no_completion_begins_with_the_forbidden_token(
    name: str, either: LanguageModel, problems: list[Problem]
) -> None:
    prompts = either.prompt_rows([p.text for p in problems[:60]])
    first = Counter(row[0] for row in greedy(REFERENCE, either, prompts, 1)).most_common(1)[0][0]
    wanted, found = (greedy(b, either, prompts, 12, first) for b in (REFERENCE, name))
    assert first not in {row[0] for row in found} and found != greedy(name, either, prompts, 12)
    assert sum(map(list.__eq__, wanted, found)) >= 59


def test_beams_are_those_of_the_reference(either: LanguageModel, problems: list[Problem]) -> None:
    prompts = either.prompt_rows([p.text for p in problems[:48]])
    with either.inferring():
        wanted, found = (BACKENDS[name].likeliest(either, prompts, 3, 12) for name in (REFERENCE, DEFAULT))
    assert sum(map(list.__eq__, wanted, found)) >= 47 and len({row[0] for rows in wanted for row in rows}) > 3


@pytest.mark.parametrize("name", FAST)
def test_log_probabilities_are_those_of_the_reference(
    name: str, either: LanguageModel, problems: list[Problem]
) -> None:
    prompts = either.prompt_rows([p.text for p in problems[:60]] + PROMPTS)
    targets = either.target_rows([p.gold or "" for p in problems[:60]] + ["", *TARGETS[1:]])
    with either.inferring():
        wanted, found = (backend(b, either).log_probabilities(either, prompts, targets) for b in (REFERENCE, name))
    assert found == pytest.approx(wanted, abs=1e-3) and min(wanted) < -1


@pytest.mark.parametrize("name", [REFERENCE, DEFAULT])
def test_sampled_first_tokens_follow_the_models_distribution(name: str, either: LanguageModel) -> None:
    """Pearson's test against the softmax of the model itself; the seeds are fixed, and it is wrong once in 10,000."""
    n, lm = 2_000, either
    prompts = lm.prompt_rows(["number0 apples and number1"])
    sampling = Decoding(1, top_p=1.0, draws=draws(range(n), 1))
    with lm.inferring():
        logits = lm.teacher_forced(lm.batch(prompts), lm.padded([[lm.start["eos_token_id"]]]))
        written = Counter(row[0] for row in BACKENDS[name].generate(lm, prompts * n, sampling))
    expected: list[float] = (n * logits[0, 0].double().softmax(-1)).tolist()
    often = [token for token, e in enumerate(expected) if e >= 5]
    counts, wanted = [written[token] for token in often], [expected[token] for token in often]
    # Rare tokens together are one more.
    assert len(often) > 5 and chisquare([*counts, n - sum(counts)], [*wanted, n - sum(wanted)]).pvalue > 1e-4


@needs_ctranslate2
def test_ctranslate2_hands_sampling_on(either: LanguageModel) -> None:
    prompts, sampling = either.prompt_rows(PROMPTS), Decoding(6, top_p=0.9, draws=draws(range(3), 6))
    with either.inferring():
        found, wanted = (backend(b, either).generate(either, prompts, sampling) for b in ("ctranslate2", DEFAULT))
    assert found == wanted != greedy("ctranslate2", either, prompts, 6)


# ------------------------------------------------------------------------------------------------ ctranslate2


@needs_ctranslate2
def test_a_model_is_converted_once_and_keeps_its_weights(
    either: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path))
    before, modules = either.identity, sum(1 for _ in either.model.modules())
    texts = either.clone().generate(PROMPTS)
    backend("ctranslate2", either)
    (weights,) = tmp_path.rglob("model.bin")
    made = weights.stat().st_mtime_ns
    backend("ctranslate2-int8", either)
    assert list(tmp_path.rglob("model.bin")) == [weights] and weights.stat().st_mtime_ns == made
    assert either.identity == before and sum(1 for _ in either.model.modules()) == modules
    assert either.clone().generate(PROMPTS) == texts
    assert [path.name for path in weights.parent.parent.iterdir()] == [before]  # nothing unfinished stays


@needs_ctranslate2
def test_tokens_that_were_added_are_written_and_read(tiny: LanguageModel, task: MathWordProblem) -> None:
    import copy

    lm = EncoderDecoder(copy.deepcopy(tiny.model), copy.deepcopy(tiny.tokenizer), max_new_tokens=8)
    lm.add_tokens(["<mark>", "<unheard>"])
    new = lm.added[-1]
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[new] = 20 * lm.model.get_input_embeddings().weight[5]
    prompts = lm.prompt_rows(["<mark> two", "a <unheard> b", "one"])
    wanted = greedy(REFERENCE, lm, prompts, 8)
    assert greedy("ctranslate2", lm, prompts, 8) == wanted
    assert any(new in row for row in wanted)


@needs_ctranslate2
def test_a_completion_may_be_empty(tiny: LanguageModel) -> None:
    lm = tiny.clone()
    end = lm.start["eos_token_id"]
    with torch.no_grad():
        lm.model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(lm.model.lm_head.weight))
        lm.model.lm_head.weight[end] = lm.model.decoder.final_layer_norm.weight.sign()
    prompts = lm.prompt_rows(PROMPTS)
    wanted = greedy(REFERENCE, lm, prompts, 4)
    assert greedy("ctranslate2", lm, prompts, 4) == wanted and [end] in wanted


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("use_cache", False),
        ("cache_implementation", "static"),
        ("encoder_no_repeat_ngram_size", 2),
        ("encoder_repetition_penalty", 1.5),
        ("repetition_penalty", 1.3),
    ],
)
def test_completions_leave_whatever_the_models_own_generation_config_asks_for(
    setting: str, value: object, tiny: LanguageModel, problems: list[Problem]
) -> None:
    lm = tiny.clone()
    setattr(lm.model.generation_config, setting, value)
    prompts = lm.prompt_rows([problem.text for problem in problems[:16]])
    written = greedy("leaving", lm, prompts, 32)
    assert written == greedy(REFERENCE, lm, prompts, 32) and len(set(map(len, written))) > 1


def test_a_model_with_another_cache_is_decoded_by_the_librarys_own_loop(llama: LanguageModel) -> None:
    lm = other("mamba", llama.tokenizer)
    prompts = lm.prompt_rows(PROMPTS)
    assert greedy("leaving", lm, prompts, 6) == greedy(REFERENCE, lm, prompts, 6)


def other(kind: str, tokenizer: Any) -> LanguageModel:
    """A small untrained model of another kind."""
    torch.manual_seed(0)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    special["vocab_size"] = len(tokenizer)
    t5: dict[str, Any] = {
        "d_model": 32,
        "d_ff": 64,
        "d_kv": 8,
        "num_heads": 4,
        "num_layers": 2,
        "decoder_start_token_id": 0,
    }
    if kind == "mt5":
        return EncoderDecoder(MT5ForConditionalGeneration(MT5Config(**t5, **special)), tokenizer)
    if kind in ("flan", "penalised"):
        config = T5Config(**t5, **special, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
        lm = EncoderDecoder(T5ForConditionalGeneration(config), tokenizer)
        lm.model.generation_config.repetition_penalty = 1.0 if kind == "flan" else 1.1
        return lm
    if kind == "mamba":
        return DecoderOnly(MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=1, **special)), tokenizer)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2}
    if kind == "gpt2":
        return DecoderOnly(GPT2LMHeadModel(GPT2Config(**sizes, **special)), tokenizer)
    neo = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "attention_types": [[["global"], 1]]}
    return DecoderOnly(GPTNeoForCausalLM(GPTNeoConfig(**neo, **special)), tokenizer)


@needs_ctranslate2
@pytest.mark.parametrize("kind", ["flan", "mt5", "gpt2"])
def test_other_kinds_are_decoded_too(kind: str, llama: LanguageModel) -> None:
    lm = other(kind, llama.tokenizer)
    made = backend("ctranslate2", lm)
    prompts, targets = lm.prompt_rows(PROMPTS), lm.target_rows(TARGETS)
    with lm.inferring():
        assert made.log_probabilities(lm, prompts, targets) == pytest.approx(
            BACKENDS[REFERENCE].log_probabilities(lm, prompts, targets), abs=1e-3
        )


@needs_ctranslate2
@pytest.mark.parametrize(
    ("kind", "why"), [("neo", "models of the kind GPTNeo"), ("penalised", "knows no RepetitionPenalty")]
)
def test_what_it_cannot_decode_is_refused_in_a_line_and_auto_takes_another(
    kind: str, why: str, llama: LanguageModel
) -> None:
    lm = other(kind, llama.tokenizer)
    with pytest.raises(OptionError, match=why) as told:
        freeze(lm, "ctranslate2")
    assert "\n" not in str(told.value)
    assert why in freeze(lm, AUTO) and lm.backend is BACKENDS[DEFAULT]


@needs_ctranslate2
def test_a_model_that_a_converted_one_cannot_run_is_refused_in_a_line(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("buffer to copy\nis too small")  # as a sliding window shorter than the text

    monkeypatch.setattr("agents.ctranslate2.CTranslate2.log_probabilities", fail)
    assert "cannot run this model: ValueError: buffer to copy is too small" in freeze(llama.clone(), AUTO)


@needs_ctranslate2
def test_a_conversion_that_computes_something_else_is_refused(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path))
    lm = tiny.clone()
    backend("ctranslate2", lm)
    with torch.no_grad():
        lm.model.lm_head.weight *= 1.5
    before = tiny.identity
    monkeypatch.setattr(type(lm), "identity", before)
    with pytest.raises(OptionError, match="computes something else"):
        freeze(lm, "ctranslate2")


@needs_ctranslate2
def test_an_adapter_is_worked_in(base: Path) -> None:
    lm = load_model(base)
    add_adapter(lm, LoraOptions(r=2))
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    prompts = lm.prompt_rows(PROMPTS)
    wanted = greedy(REFERENCE, lm, prompts, 6)
    assert greedy("ctranslate2", lm, prompts, 6) == wanted != greedy(REFERENCE, load_model(base), prompts, 6)
    assert lm.trained()


@needs_ctranslate2
def test_a_cache_that_cannot_be_written_is_named(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path / "file"))
    with pytest.raises(OptionError, match=r"file cannot hold.*another folder in REFINER_CACHE"):
        freeze(tiny, "ctranslate2")


@needs_ctranslate2
def test_training_never_decodes_the_weights_from_before(tiny: LanguageModel) -> None:
    lm = tiny.clone()
    freeze(lm, "ctranslate2")
    assert lm.clone().backend is lm.backend and lm.backend.name == "ctranslate2"
    Learner(lm, 1e-3, RunOptions(decoding=REFERENCE))
    assert lm.backend is BACKENDS[REFERENCE]


# -------------------------------------------------------------------------------------------------- the choice


def test_without_ctranslate2_auto_decodes_by_the_default(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.ctranslate2.find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"ctranslate2-int8 is not installed.*\[fast\]"):
        freeze(tiny, "ctranslate2-int8")
    with frozen(AUTO) as used:
        assert load_model(BASE_FOLDER).backend is BACKENDS[DEFAULT]
    assert list(used) == [DEFAULT] and "not installed" in told(used)


@pytest.mark.parametrize("name", [REFERENCE, *FAST])
def test_models_loaded_inside_decode_as_chosen_and_others_do_not(name: str, task: MathWordProblem) -> None:
    with frozen(name) as used:
        critic = LearnedCritic.load(BASE_FOLDER, task)
    assert critic.lm.backend.name == name and used == {name: ""} and told(used) == f"Decoded by {name}."
    assert load_model(BASE_FOLDER).backend is BACKENDS[DEFAULT]


def test_unknown_back_ends_get_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ctranslate2'"), frozen("ctranslate"):
        pass
    assert main(["evaluate", "--generator", "x", "--decoding", "leavin"]) == 2
    assert "Did you mean 'leaving'" in capsys.readouterr().err
    assert set(DECODERS) == {AUTO, *BACKENDS, "ctranslate2", "ctranslate2-int8", "vllm"}


@pytest.mark.parametrize("name", FAST)
def test_results_say_what_decoded(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--data.n-train", "1", "--data.n-dev", "1", "--data.n-test", "4", "--decoding", name]
    out, model = tmp_path / "figures.jsonl", str(BASE_FOLDER)
    assert main(["evaluate", "--generator", model, "--critic", model, "--turns", "1", "--out", str(out), *small]) == 0
    (line,) = map(json.loads, out.read_text().splitlines())
    assert line["decoding"] == line["critic_decoding"] == name
    assert f"Decoded by {name}." in capsys.readouterr().out
    out = tmp_path / "critics.jsonl"
    assert main(["critics", "--critics", "oracle", model, "--out", str(out), *small]) == 0
    assert [json.loads(line)["decoding"] for line in out.read_text().splitlines()] == ["", name]


@needs_ctranslate2
def test_a_learned_critic_says_the_same(task: MathWordProblem, problems: list[Problem]) -> None:
    visible = [p.without_gold() for p in problems[:20]]
    hypotheses = [p.gold or "" for p in problems[1:21]]
    said = []
    for name in (REFERENCE, "ctranslate2"):
        with frozen(name):
            said.append(LearnedCritic.load(BASE_FOLDER, task).with_threshold(0.9).critique(visible, hypotheses))
    assert [f.text for f in said[0]] == [f.text for f in said[1]] and not all(f.accepted for f in said[0])
    for a, b in zip(*said, strict=True):
        assert math.isclose(a.accept_probability or 0, b.accept_probability or 0, abs_tol=1e-4)
