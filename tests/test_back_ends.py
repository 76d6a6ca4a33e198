"""Decoding back ends write what the reference writes, and batches waste little."""

from __future__ import annotations

import copy
import functools
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from agents.decoding import BACKENDS, LOOK, Compiled, Decoding, Leaving, Row, by_length
from agents.lm import LanguageModel
from agents.models import BASE_FOLDER, build_model, load_model
from agents.prompts import generator_prompt, generator_prompts
from data import read_corpus
from refiner_env.scripted import ScriptedEditor
from refiner_env.tasks import MathWordProblem, SyntheticReasoning
from refiner_env.types import Observations, Problem, Task
from trainers.rollout import play


@pytest.fixture(scope="module", params=["encoder-decoder", "decoder-only"])
def model(request: pytest.FixtureRequest, lm: LanguageModel, train: list[Problem]) -> LanguageModel:
    """It has begun to learn, so that its completions end here and there."""
    torch.manual_seed(0)
    decoder = request.param == "decoder-only"
    model = build_model("decoder-tiny", copy.deepcopy(lm.tokenizer)) if decoder else lm.clone()
    model.model.train()
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=3e-3)
    for _ in range(70):
        model.loss([p.text for p in train[:20]], [p.gold or "" for p in train[:20]]).mean.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.max_new_tokens = 24
    return model


def prompts_of(problems: list[Problem], task: MathWordProblem) -> list[str]:
    rng = random.Random(0)
    wrong = [task.perturb(p, rng) for p in problems]
    later = [
        generator_prompt(p.text, (z, task.feedback(task.diagnose(p, z)).text))
        for p, z in zip(problems, wrong, strict=True)
    ]
    return [generator_prompt(p.text) for p in problems] + later


@pytest.mark.parametrize("name", ["leaving", "compiled"])
@pytest.mark.parametrize("how", ["greedy", "sampled", "not first"])
def test_a_back_end_writes_what_the_reference_writes(
    model: LanguageModel,
    task: MathWordProblem,
    train: list[Problem],
    name: str,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Compiled, "inductor", "eager")  # the same graphs, without a minute of compiling
    prompts = prompts_of(train[:20], task)
    options: dict[str, object] = {"sampled": {"top_p": 0.9, "seeds": range(40)}}.get(how, {})
    written = []
    for backend in ("transformers", name):
        model.backend = BACKENDS[backend]
        first = model.generate(prompts[:1])[0]
        before = model.generated_tokens
        found = model.generate(prompts, **options, **({"not_first": first} if how == "not first" else {}))
        written.append((found, model.generated_tokens - before))
    assert written[0] == written[1]
    assert len({len(text.split()) for text in written[0][0]}) > 1, "all end together, so that nothing is shown"
    if how == "not first":
        assert written[1][0][0] != first


BEAMS = 4
RULES: list[dict[str, object]] = [
    {},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    {"min_new_tokens": 14},
    {"length_penalty": 2.0},
    {"length_penalty": 2.0, "early_stopping": "never"},
    {"length_penalty": -1.0, "early_stopping": True},
    {"forced_bos_token_id": 9, "forced_eos_token_id": 3},
    {"encoder_repetition_penalty": 3.0},
]


@pytest.fixture(scope="module")
def asked(model: LanguageModel, task: MathWordProblem, train: list[Problem]) -> list[Row]:
    return model.prompt_rows(prompts_of(train[:8], task))


@pytest.fixture(scope="module")
def unruled(model: LanguageModel, asked: list[Row]) -> list[list[Row]]:
    """What the reference finds without any of the rules."""
    return beams("transformers", model, asked)


def beams(name: str, lm: LanguageModel, prompts: list[Row]) -> list[list[Row]]:
    with lm.inferring():
        return BACKENDS[name].likeliest(lm, prompts, BEAMS, 20)


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(rules) or "none")
def test_beams_are_those_of_the_reference(
    model: LanguageModel,
    asked: list[Row],
    unruled: list[list[Row]],
    rules: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm, end = model.clone(), model.start["eos_token_id"]
    lm.model.generation_config.update(**rules)
    wanted = beams("transformers", lm, asked)
    for look in (1, 4):
        monkeypatch.setitem(LOOK, "cpu", look)
        assert beams("leaving", lm, asked) == wanted
    whole = {sum(row[-1] == end for row in of_prompt) for of_prompt in unruled}
    assert {0, BEAMS} & whole and len(whole) > 1, "all prompts have equally many that end"
    assert bool(rules) == (wanted != unruled)


@pytest.mark.parametrize("name", ["leaving", "compiled"])
def test_one_beam_is_greedy(model: LanguageModel, asked: list[Row], name: str) -> None:
    with model.inferring():
        (found,) = zip(*BACKENDS[name].likeliest(model, asked, 1, 20), strict=True)
        assert list(found) == BACKENDS["transformers"].generate(model, asked, Decoding(20))


def cost(lengths: list[int], batches: list[list[int]], each: int) -> int:
    return sum(len(batch) * max(lengths[i] for i in batch) + each for batch in batches)


def test_batches_hold_every_text_once_and_cost_least() -> None:
    rng = random.Random(0)
    for number in range(60):
        lengths = [rng.randint(1, 200) for _ in range(rng.randint(0, 10 if number % 2 else 300))]
        order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
        batches = by_length(lengths, 4, 64)
        assert [place for batch in batches for place in batch] == order
        assert all(len(batch) <= 4 for batch in batches)
        if len(lengths) <= 10:  # all ways to part them
            for cuts in range(1 << max(0, len(order) - 1)):
                ends = [i + 1 for i in range(len(order) - 1) if cuts >> i & 1]
                others = [order[a:b] for a, b in zip([0, *ends], [*ends, len(order)], strict=True)]
                if order and max(map(len, others)) <= 4:
                    assert cost(lengths, batches, 64) <= cost(lengths, others, 64)


@pytest.mark.parametrize("name", ["svamp", "snlr"])
def test_prompts_of_a_rollout_are_padded_little(name: str, request: pytest.FixtureRequest) -> None:
    problems: Sequence[Problem]
    if name == "svamp":
        task: Task[Any] = MathWordProblem()
        problems = read_corpus(request.getfixturevalue("corpora") / "svamp" / "dev.csv").problems
    else:
        task = SyntheticReasoning()
        problems = [task.generate(1, i) for i in range(200)]
    lm, lengths = load_model(BASE_FOLDER), list[list[int]]()

    class Reads(ScriptedEditor):
        def act(self, observations: Observations) -> list[str]:
            lengths.append([len(row) for row in lm.prompt_rows(generator_prompts(observations))])
            return super().act(observations)

    play(Reads(task), task, problems, critic="oracle", turns=3, stop="critic", num_envs=64)
    padded = sum(len(batch) * max(of_act[i] for i in batch) for of_act in lengths for batch in lm.batches(of_act, 64))
    together = sum(len(of_act) * max(of_act) for of_act in lengths)
    passed = sum(map(sum, lengths))
    assert 1 - passed / together > 0.3 and 1 - passed / padded < 0.1


@pytest.mark.parametrize("look", [1, 4])
@pytest.mark.parametrize(("count", "number"), [(1, 30), (BEAMS, 15)])
def test_ended_completions_cost_no_further_passes(
    model: LanguageModel, train: list[Problem], look: int, count: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows, read = model.clone(), list[int](), list[torch.Size]()
    model.backend = Leaving()
    monkeypatch.setitem(LOOK, "cpu", look)
    forward = model.model.forward

    @functools.wraps(forward)
    def counting(*args: object, **inputs: torch.Tensor) -> object:
        last = inputs["input_ids" if "input_ids" in inputs else "decoder_input_ids"]
        read.append(last.shape) if last.shape[1] > 1 else rows.append(len(last))
        return forward(*args, **inputs)

    monkeypatch.setattr(model.model, "forward", counting)
    prompts = [generator_prompt(p.text) for p in train[:number]]
    written = model.likeliest(prompts, count)
    if read:  # by a decoder
        assert len(read) > 1 and sum(map(math.prod, read)) == model.padded_tokens
    first = sum(size[0] for size in read) or rows.pop(0)
    assert first == number  # the beams of a prompt begin alike
    assert rows == sorted(rows, reverse=True) and rows[-1] < rows[0] == count * number
    model.backend = BACKENDS["transformers"]
    assert model.likeliest(prompts, count) == written
