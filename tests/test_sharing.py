"""What is read of other people's models, and what is written for other people to read: cards and uploads."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from agents.cards import front_matter, origin, write_card
from agents.lm import LanguageModel
from agents.lora import LoraOptions, add_adapter
from agents.models import BASE_FOLDER, load_model, open_model
from refiner_env.cli import main
from refiner_env.errors import CheckpointError
from refiner_env.tasks import MathWordProblem
from refiner_env.trust import TRUST, is_trusted, remote_code
from trainers.progress import quiet_libraries

DATA = ["--data.n-train", "40", "--data.n-dev", "4", "--data.n-test", "4"]
SHORT = {
    "generator": ["--train.steps", "2", "--train.batch-size", "4"],
    "critic": ["--train.steps", "2", "--train.batch-size", "4"],
    "critic-rl": ["--train.steps", "1", "--train.batch-size", "2", "--train.samples", "2"],
    "refiner": ["--train.steps", "1", "--train.batch-size", "4", "--train.turns", "2"],
    "ppo": ["--token-budget", "200", "--train.batch-size", "2"],
}


@pytest.fixture(scope="module", params=["tiny", "decoder-tiny"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model in a folder."""
    return scratch(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scratch("tiny", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet_libraries()
    monkeypatch.setattr(LanguageModel.__init__, "__kwdefaults__", {"max_prompt_tokens": 1024, "max_new_tokens": 8})


def scratch(size: str, folder: Path) -> Path:
    task = MathWordProblem()
    torch.manual_seed(0)
    open_model(f"scratch:{size}", task, [task.generate(1, i) for i in range(60)]).save(folder)
    return folder


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("refiner: ") and error.count("\n") == 1
    return error


# ------------------------------------------------------------------------------- pickles and code of others


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("kind", ["model", "adapter"])
def test_a_pickle_is_refused_unread_with_a_way_to_convert_it(
    kind: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, sprung = tmp_path / "theirs", tmp_path / "sprung"
    lm = load_model(base)
    if kind == "adapter":
        add_adapter(lm, LoraOptions())
    lm.save(folder)
    next(folder.glob("*.safetensors")).unlink()
    name = "adapter_model.bin" if kind == "adapter" else "pytorch_model.bin"
    torch.save({"w": Trap(sprung)}, folder / name)
    assert main(["evaluate", "--generator", str(folder), *DATA]) == 2
    error = one_line(capsys)
    assert name in error and "only safetensors are read" in error and "save_pretrained(NEW_FOLDER)" in error
    assert not sprung.exists()


def test_a_pickle_beside_other_safetensors_is_not_read_either(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    lm = load_model(base)
    add_adapter(lm, LoraOptions())
    lm.save(folder)
    (folder / "adapter_model.safetensors").rename(folder / "other.safetensors")
    torch.save({"w": Trap(tmp_path / "sprung")}, folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        load_model(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def foreign(tiny: Path, tmp_path: Path) -> Path:
    """A T5 of a kind of its own, whose code leaves a file when it is run."""
    folder = tmp_path / "foreign"
    shutil.copytree(tiny, folder)
    touch = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    (folder / "own.py").write_text(
        touch + "from transformers import T5Config, T5ForConditionalGeneration\n"
        "class OwnConfig(T5Config):\n    model_type = 'own'\n"
        "class Own(T5ForConditionalGeneration):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForSeq2SeqLM": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_code_of_a_model_is_refused_unrun_naming_the_option(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--generator", str(foreign), *DATA]) == 2
    assert TRUST in one_line(capsys) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_it_is_refused_where_transformers_knows_the_kind_too(file: str, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(tiny, folder)
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | {"auto_map": {"AutoConfig": "own.Config"}}))
    with pytest.raises(CheckpointError, match=TRUST):
        load_model(folder)


def test_code_of_an_adapters_base_is_refused_too(foreign: Path, tiny: Path, tmp_path: Path) -> None:
    lm = load_model(tiny)
    add_adapter(lm, LoraOptions())
    lm.model.peft_config["default"].base_model_name_or_path = str(foreign)
    lm.save(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=TRUST):
        load_model(tmp_path / "adapter")
    assert not (tmp_path / "ran").exists()


def test_trusted_code_runs_for_that_command_alone(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["evaluate", "--generator", str(foreign), TRUST, "--critic", "none", *DATA]) == 0
    assert (tmp_path / "ran").exists() and not is_trusted()
    with remote_code(True):
        assert is_trusted()
    assert not is_trusted()


# ---------------------------------------------------------------------------------------------------- cards


def code_of(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return str(code)


def prompt_of(code: str) -> str:
    (prompt,) = re.findall(r"^prompt = (.*)$", code, re.MULTILINE)
    return str(ast.literal_eval(prompt))


def said_by(code: str) -> str:
    """What the code of a card prints; it uses nothing of this project."""
    assert set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)) <= {"torch", "peft", "transformers"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    return printed.getvalue().removesuffix("\n")


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "adapter"])
def test_the_code_of_a_card_writes_what_the_model_writes(lora: bool, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["--model", str(base), "--out", str(out), *SHORT["generator"], *DATA]
    flags += ["--lora", "--train.learning-rate", "0.1"] if lora else []
    assert main(["train", "generator", *flags]) == 0
    card = (out / "README.md").read_text()
    code = code_of(card)
    prompt = prompt_of(code)
    assert "<previous>" in prompt and "<hint>" in prompt and f"    {prompt}\n" in card
    assert said_by(code) == load_model(out).generate([prompt])[0]
    assert ("PeftModel" in code) is lora
    assert ModelCard(card).data.library_name == ("peft" if lora else "transformers")


def test_a_chat_models_card_frames_its_prompt(tmp_path: Path) -> None:
    scratch("decoder-tiny", tmp_path)
    lm = load_model(tmp_path)
    lm.tokenizer.chat_template = "{% for m in messages %}one {{ m['content'] }} two {% endfor %}three"
    lm = type(lm)(lm.model, lm.tokenizer)
    lm.save(tmp_path)
    options = {"task": "mwp", "seed": 0, "data": {"source": "procedural", "level": ""}, "train": {}}
    record = {"what": "generator", "options": options, "base": "scratch:decoder-tiny", "data_hash": "0"}
    write_card(tmp_path, lm, record)
    card = (tmp_path / "README.md").read_text()
    assert "chat template" in card and "Spent" not in card
    code = code_of(card)
    assert said_by(code) == lm.generate([prompt_of(code)])[0]


@pytest.mark.parametrize("what", SHORT)
def test_everything_that_is_trained_gets_a_card_of_its_record(
    what: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", what, "--model", str(tiny), "--out", str(out), "--seed", "7", *SHORT[what], *DATA]) == 0
    card, record = (out / "README.md").read_text(), json.loads((out / "training.json").read_text())
    for known in (
        f"`{what}`",
        record["data_hash"],
        "seed 7",
        f"{record['spent']['tokens']:,} tokens",
        "MathWordProblem",
    ):
        assert known in card, known
    assert record["base"] == str(tiny) and f"that of its base, `{tiny}`" in card
    assert ModelCard(card).data.license is None and ModelCard(card).data.base_model is None
    (figures,) = [line.removeprefix("- ") for line in card.splitlines() if "evelopment problems" in line]
    if chosen := record["dev"].get("step"):
        assert figures.startswith(f"Its weights are those of step {chosen}, the best on development problems: ")
        assert figures in capsys.readouterr().out, "it is told, too"
    if what == "critic":
        assert f"exact {record['dev']['exact']:.4g}" in card and f"{record['threshold']:.4g}" in card
    assert ("<hint>" in card) is (not what.startswith("critic")) and "<previous>" in card


def test_a_critic_that_solves_reads_the_problem_alone(tiny: Path, tmp_path: Path) -> None:
    flags = ["--train.writes", "solution", *SHORT["critic"], *DATA]
    assert main(["train", "critic", "--model", str(tiny), "--out", str(tmp_path / "out"), *flags]) == 0
    assert "<previous>" not in (tmp_path / "out" / "README.md").read_text()


def test_whose_weights_they_are_is_found_along_the_line(tiny: Path, tmp_path: Path) -> None:
    assert origin(BASE_FOLDER) == "refiner-tiny" == origin("refiner-tiny")
    assert origin("google/flan-t5-base") == "google/flan-t5-base" and origin(tiny) == str(tiny)
    lm = load_model(tiny)
    add_adapter(lm, LoraOptions())
    lm.save(tmp_path / "adapter")
    assert origin(tmp_path / "adapter") == str(tiny)
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "training.json").write_text('{"what": "generator", "base": "google/flan-t5-base"}')
    assert origin(tmp_path / "trained") == "google/flan-t5-base"
    (tmp_path / "trained" / "pretrain.json").write_text('{"size": "mini"}')
    assert origin(tmp_path / "trained") == "scratch:mini"
    ours = ModelCard(front_matter(lm, "scratch:mini", tags=[])).data
    theirs = ModelCard(front_matter(lm, "google/flan-t5-base", tags=[])).data
    assert (ours.license, ours.base_model) == ("apache-2.0", None)
    assert (theirs.license, theirs.base_model) == (None, "google/flan-t5-base")


def test_the_base_models_card_can_be_read_by_the_hub() -> None:
    data = ModelCard((BASE_FOLDER / "README.md").read_text()).data
    lm = load_model(BASE_FOLDER)
    assert data.to_dict() == ModelCard(front_matter(lm, "refiner-tiny", tags=["base model"])).data.to_dict()


def test_a_merged_model_has_record_and_card(tiny: Path, tmp_path: Path) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    flags = ["--lora", *SHORT["critic"], *DATA]
    assert main(["train", "critic", "--model", str(tiny), "--out", str(adapter), *flags]) == 0
    assert main(["merge", str(adapter), "--out", str(out)]) == 0
    card, record = (out / "README.md").read_text(), json.loads((out / "training.json").read_text())
    assert record == json.loads((adapter / "training.json").read_text()) | {"merged": str(adapter)}
    assert f"The adapter of `{adapter}`, worked into its base" in card and "peft" not in card.lower()
    shutil.rmtree(adapter)
    assert said_by(code_of(card)) == load_model(out).generate([prompt_of(code_of(card))])[0]


def test_an_adapter_without_a_record_is_merged_too(tiny: Path, tmp_path: Path) -> None:
    lm = load_model(tiny)
    add_adapter(lm, LoraOptions())
    lm.save(tmp_path / "adapter")
    assert main(["merge", str(tmp_path / "adapter"), "--out", str(tmp_path / "out")]) == 0
    assert f"Base: `{tiny}`" in (tmp_path / "out" / "README.md").read_text()
    assert not (tmp_path / "out" / "training.json").exists()


# -------------------------------------------------------------------------------------------------- uploads


class Hub:
    """In place of the hub: keeps what was asked for."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure, self.calls = failure, list[tuple[str, dict[str, Any]]]()

    def __call__(self) -> Hub:
        return self

    def create_repo(self, repo_id: str, **given: Any) -> SimpleNamespace:
        self.calls.append(("create_repo", {"repo_id": repo_id, **given}))
        return SimpleNamespace(repo_id=f"me/{repo_id.rpartition('/')[2]}")

    def upload_folder(self, **given: Any) -> None:
        if self.failure:
            raise self.failure
        files = {path.name for path in Path(given["folder_path"]).iterdir()}
        self.calls.append(("upload_folder", {**given, "files": files}))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr("benchmarks.hub.HfApi", made)
    monkeypatch.setattr("benchmarks.hub.get_token", lambda: "secret")
    return made


@pytest.mark.parametrize(
    ("flags", "token", "text"),
    [
        (["--push-to-hub", "me/my model"], "secret", "--push-to-hub 'me/my model' is no id"),
        (["--push-to-hub", "a/b/c"], "secret", "is no id"),
        (["--push-to-hub", "me/model"], None, "needs a token: log in with `hf auth login`"),
        (["--private"], "secret", "--private goes with --push-to-hub"),
    ],
)
@pytest.mark.parametrize("command", ["train", "merge"])
def test_what_cannot_be_uploaded_is_said_before_the_work(
    command: str,
    flags: list[str],
    token: str | None,
    text: str,
    tiny: Path,
    tmp_path: Path,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("benchmarks.hub.get_token", lambda: token)
    out = tmp_path / "out"
    lm = load_model(tiny)
    add_adapter(lm, LoraOptions())
    lm.save(tmp_path / "adapter")
    work = ["train", "generator", "--model", str(tiny)] if command == "train" else ["merge", str(tmp_path / "adapter")]
    capsys.readouterr()
    assert main([*work, "--out", str(out), *flags]) == 2
    assert text in one_line(capsys) and not out.exists() and not hub.calls


@pytest.mark.parametrize("command", ["train", "merge"])
def test_the_finished_folder_is_uploaded_with_its_card(command: str, tiny: Path, tmp_path: Path, hub: Hub) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    work = ["train", "generator", "--model", str(tiny), *SHORT["generator"], *DATA]
    if command == "merge":
        assert main([*work, "--lora", "--out", str(adapter)]) == 0
        work = ["merge", str(adapter)]
    assert main([*work, "--out", str(out), "--push-to-hub", "me/model", "--private"]) == 0
    assert [name for name, _ in hub.calls] == ["create_repo", "upload_folder"]
    made, sent = (given for _, given in hub.calls)
    assert made == {"repo_id": "me/model", "private": True, "exist_ok": True}
    assert sent["repo_id"] == "me/model" and sent["folder_path"] == out
    assert {"README.md", "training.json", "model.safetensors", "tokenizer.json"} <= sent["files"]
    code = code_of((out / "README.md").read_text())
    assert "from_pretrained('me/model')" in code and str(out) not in code


def test_a_failed_upload_leaves_the_folder_and_says_how_to_go_on(
    tiny: Path, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.failure = ConnectionError("no route\nto the hub")
    out = tmp_path / "out put"
    flags = [*SHORT["generator"], *DATA, "--push-to-hub", "me/model", "--private"]
    assert main(["train", "generator", "--model", str(tiny), "--out", str(out), *flags]) == 2
    error = capsys.readouterr().err
    assert "no route to the hub" in error and f"hf upload me/model '{out}' . --private\n" in error
    assert "refiner: The upload to me/model failed" in error and load_model(out).generate(["text"])
