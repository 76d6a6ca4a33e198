"""Decoding back ends write what the reference writes, and batches waste little."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from agents.decoding import BACKENDS, LOOK, Compiled, Leaving, by_length
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
    padded = sum(len(batch) * max(of_act[i] for i in batch) for of_act in lengths for batch in lm.batches(of_act))
    together = sum(len(of_act) * max(of_act) for of_act in lengths)
    passed = sum(map(sum, lengths))
    assert 1 - passed / together > 0.3 and 1 - passed / padded < 0.1


@pytest.mark.parametrize("look", [1, 4])
def test_ended_completions_cost_no_further_passes(
    model: LanguageModel, train: list[Problem], look: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = model.clone(), []
    model.backend = Leaving()
    monkeypatch.setitem(LOOK, "cpu", look)
    forward = model.model.forward

    @functools.wraps(forward)
    def counting(*args: object, **inputs: torch.Tensor) -> object:
        rows.append(len(inputs["input_ids" if "input_ids" in inputs else "decoder_input_ids"]))
        return forward(*args, **inputs)

    monkeypatch.setattr(model.model, "forward", counting)
    prompts = [generator_prompt(p.text) for p in train[:30]]
    written = model.generate(prompts)
    assert rows == sorted(rows, reverse=True) and rows[-1] < rows[0]
    model.backend = BACKENDS["transformers"]
    assert model.generate(prompts) == written
