"""Pre-training on exercises: the loop, the measures of skill, and the command with its model card."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import Seen

from agents.encoder_decoder import EncoderDecoder
from agents.lm import LanguageModel
from agents.models import load_model
from benchmarks.pretrain import main
from data.skills import SKILLS, Exercise
from refiner_env.errors import OptionError
from trainers import pretrain as module
from trainers.pretrain import PretrainOptions, curriculum, held_out, pretrain, prompt, skill_accuracies, skill_batch
from trainers.runs import Run

SMALL = PretrainOptions(steps=4, batch_size=4, checks=2, held_out=3, vocabulary=400, tokenizer_texts=200)


class Knowing(EncoderDecoder):
    """Answers every exercise as told."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def generate(self, prompts: list[str], **_: object) -> list[str]:  # type: ignore[override]
        return [self.answers[p] for p in prompts]


def answers(choose: str) -> Knowing:
    return Knowing({prompt(e): getattr(e, choose) for name in SKILLS for e in held_out(name, 40)})


def test_whoever_knows_the_answers_has_every_skill() -> None:
    assert set(skill_accuracies(answers("target"), 40).values()) == {1.0}


def test_repeating_the_hypothesis_keeps_everything_and_mends_nothing() -> None:
    figures = skill_accuracies(answers("hypothesis"), 40)
    assert figures["edit_kept"] == 1.0 and figures["edit_changed"] == 0.0 and figures["copy"] == 1.0
    assert figures["edit"] < 0.5 and figures["judge"] == figures["solve"] == figures["steps"] == 0.0


def test_nonsense_has_no_skill() -> None:
    nonsense = Knowing({prompt(e): "nonsense" for name in SKILLS for e in held_out(name, 40)})
    figures = skill_accuracies(nonsense, 40)
    assert {name: v for name, v in figures.items() if v} == {"edit_changed": 1.0}


def test_the_three_forms_of_prompts() -> None:
    assert prompt(Exercise("s", "x", "y")) == "x"
    assert prompt(Exercise("s", "x", "y", "z")) == "x <previous> z"
    assert prompt(Exercise("s", "x", "y", "z", "f")) == "x <previous> z <hint> f"


def test_copying_comes_first_and_all_skills_at_last() -> None:
    assert curriculum(0.0)[1] == {"copy": 1.0}
    levels = [curriculum(k / 100)[0] for k in range(101)]
    assert levels == sorted(levels) and levels[0] < 0.2 and levels[-1] == 1.0
    assert max(b - a for a, b in pairwise(levels)) < 0.2, "no jump"
    assert all(sum(curriculum(k / 100)[1].values()) == pytest.approx(1.0) for k in range(101))
    assert set(curriculum(1.0)[1]) == set(SKILLS)


def test_a_batch_is_of_one_skill_and_skills_come_by_their_share() -> None:
    rng = random.Random(0)
    names = [{e.skill for e in skill_batch(rng, 2, *curriculum(1.0))} for _ in range(2_000)]
    assert all(len(n) == 1 for n in names)
    for skill, (_, share) in SKILLS.items():
        assert sum(n == {skill} for n in names) / 2_000 == pytest.approx(share, abs=0.03)


def test_training_lowers_the_loss_and_is_repeatable(
    lm: LanguageModel, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "skill_accuracies", lambda lm, count: {"edit": 0.0, "judge": 0.0, "solve": 0.0})
    monkeypatch.setattr(module, "curriculum", lambda done: (0.0, {"solve": 1.0}))

    def losses() -> list[float]:
        torch.manual_seed(0)
        model, seen.metrics = lm.clone(), []
        options = PretrainOptions(steps=30, batch_size=8, checks=2)
        outcome = pretrain(model, options, Run(1, seen))
        assert outcome.spent.steps == 30 and [c["step"] for c in outcome.checks] == [15, 30]
        return [m["loss"] for m in seen.metrics]

    first = losses()
    assert sum(first[-5:]) < 0.7 * sum(first[:5])
    assert first == losses()


def test_the_command_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LanguageModel.__init__, "__kwdefaults__", {"max_prompt_tokens": 1024, "max_new_tokens": 8})
    flags = ["--train.steps", "4", "--train.batch-size", "2", "--train.checks", "2", "--train.held-out", "2"]
    flags += ["--train.vocabulary", "300", "--train.tokenizer-texts", "100", "--run.checkpoint-every", "3"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["--out", str(whole), *flags]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["--out", str(cut), *flags])
    with pytest.raises(OptionError, match=r"--train\.steps was 4 and is 5 now"):
        main(["--out", str(cut), "--resume", "--train.steps", "5"])
    assert main(["--out", str(cut), "--resume"]) == 0
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    steps = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4] and not (cut / "checkpoints").exists()
    before = (cut / "README.md").stat().st_mtime_ns
    assert main(["--out", str(cut), "--resume"]) == 0 and (cut / "README.md").stat().st_mtime_ns == before
    with pytest.raises(OptionError, match="holds no pre-training"):
        main(["--out", str(tmp_path / "nothing"), "--resume"])


def test_the_command_writes_a_model_and_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LanguageModel.__init__, "__kwdefaults__", {"max_prompt_tokens": 1024, "max_new_tokens": 8})
    flags = ["--train.steps", "4", "--train.batch-size", "4", "--train.checks", "2", "--train.held-out", "3"]
    flags += ["--train.vocabulary", "400", "--train.tokenizer-texts", "200"]
    out = tmp_path / "base"
    assert main(["--out", str(out), *flags]) == 0
    assert "Saved to" in capsys.readouterr().out
    card = (out / "README.md").read_text()
    assert "--train.steps 4 --train.batch-size 4" in card and "step 4" in card
    for skill in SKILLS:
        assert f"| `{skill}` |" in card
    assert load_model(out).generate(["text"])
