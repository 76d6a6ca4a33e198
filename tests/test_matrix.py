"""Every trainer on both kinds of models, whole and with an adapter: trains, saves, loads, and writes the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from agents.lm import LanguageModel
from agents.lora import LoraOptions, add_adapter
from agents.models import load_model, open_model
from benchmarks.train import main as train
from refiner_env import TASKS, ProceduralProblems, resolve_critic
from refiner_env.cli import main
from refiner_env.errors import OptionError
from refiner_env.tasks import MathWordProblem
from refiner_env.types import Problem
from trainers.learning import Learner

DATA = ["--data.n-train", "40", "--data.n-dev", "4", "--data.n-test", "4"]
TRAINERS = {
    "generator": ["--train.steps", "3", "--train.batch-size", "4", "--train.learning-rate", "0.01"],
    "critic": ["--train.steps", "3", "--train.batch-size", "4", "--train.learning-rate", "0.01"],
    "refiner": ["--train.steps", "2", "--train.batch-size", "4", "--train.turns", "2"],
    "ppo": ["--token-budget", "1000", "--train.batch-size", "4", "--train.learning-rate", "0.01"],
}
PROMPTS = [p.text for p in ProceduralProblems(TASKS.resolve("mwp")(), seed=8, size=6)]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("what", TRAINERS)
def test_it_trains_saves_loads_and_writes_the_same(
    what: str, lora: bool, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(lm: LanguageModel) -> tuple[list[str], list[float]]:
        lm.max_new_tokens = 8
        return lm.generate(PROMPTS), lm.probabilities(PROMPTS, ["#0: add ( number0, number1 ) | EOS"] * 6)

    trained: list[tuple[list[str], list[float]]] = []
    save = LanguageModel.save

    def watched(self: LanguageModel, folder: Path) -> None:
        trained.append(written(self))
        save(self, folder)

    monkeypatch.setattr(LanguageModel, "save", watched)
    out, flags = tmp_path / what, ["--lora"] if lora else []
    assert train([what, "--model", str(base), "--out", str(out), *flags, *TRAINERS[what], *DATA]) == 0
    texts, probabilities = written(load_model(out))
    assert texts == trained[0][0] and probabilities == pytest.approx(trained[0][1], rel=1e-4)
    assert (out / "adapter_config.json").exists() is lora and (out / "model.safetensors").exists() is not lora
    spent = json.loads((out / "training.json").read_text())["spent"]
    assert spent["tokens"] > 0 and spent["steps"] > 0
    if lora:
        assert main(["merge", str(out), "--out", str(tmp_path / "merged")]) == 0
        assert written(load_model(tmp_path / "merged"))[1] == pytest.approx(probabilities, rel=1e-3)
    if what == "critic":
        critic = resolve_critic(str(out), MathWordProblem())
        (feedback,) = critic.critique([MathWordProblem().generate(1, 0).without_gold()], ["nothing"])
        assert feedback.accept_probability is not None and not feedback.failure


def test_training_with_an_adapter_changes_the_adapter_alone(base: Path, train: list[Problem]) -> None:
    lm = load_model(base)
    frozen = {name: p.detach().clone() for name, p in lm.model.named_parameters()}
    add_adapter(lm, LoraOptions(r=2))
    trained = {name for name, p in lm.model.named_parameters() if p.requires_grad}
    assert trained and all("lora" in name for name in trained)
    before = sum(p.numel() for p in lm.model.parameters() if p.requires_grad)
    assert before < 0.05 * sum(p.numel() for p in frozen.values())
    learner = Learner(lm, 0.1)
    learner.backward(["u"] * 6, PROMPTS, ["EOS"] * 6)
    learner.step(0.5)
    lm.model.unload()
    now = dict(load_model(base).model.named_parameters())
    assert all(torch.equal(frozen[name], p) for name, p in now.items())


def test_what_cannot_have_an_adapter_is_one_line(
    base: Path, task: MathWordProblem, train: list[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = open_model("scratch:tiny", task, train)
    with pytest.raises(OptionError, match="needs a base that is saved"):
        add_adapter(lm, LoraOptions())
    with pytest.raises(OptionError, match=r"--adapter.targets nowhere: .*nowhere"):
        add_adapter(load_model(base), LoraOptions(targets=("nowhere",)))
    assert main(["merge", str(base), "--out", str(tmp_path / "out")]) == 2
    assert "holds no adapter" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "adaptr"), "--out", str(tmp_path / "out")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
