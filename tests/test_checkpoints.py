"""Checkpoints: whole or not there, the last and the best kept, damage found, a full disk one line."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from refiner_env.errors import CheckpointError
from trainers import checkpoints as module
from trainers.checkpoints import Checkpoints


def tensors(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {"weights": {"w": torch.full((3,), value)}, "optimizer": {"w/step": torch.tensor(value)}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_are_kept_and_the_best_that_they_go_back_to(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "a" / "b", 10, 2)
    assert kept.latest() is None and kept.steps() == []
    for best in (3, 4):
        kept.save_best(best, {"w": torch.zeros(3)})
    assert names(kept.folder) == ["best-00000004"]
    for step, best in ((10, 5), (20, 5), (30, 25), (40, 25)):
        kept.save_best(best, {"w": torch.full((3,), float(best))})
        kept.save(step, tensors(step), {"best": best, "x": [1.5]})
        if step == 30:
            assert names(kept.folder) == ["best-00000005", "best-00000025", "step-00000020", "step-00000030"]
    assert names(kept.folder) == ["best-00000025", "step-00000030", "step-00000040"]
    assert kept.latest() == 40 and [kept.due(n) for n in (0, 5, 10, 40)] == [True, False, True, True]
    found, state = kept.load(40)
    assert {name: {k: v.tolist() for k, v in part.items()} for name, part in found.items()} == {
        "weights": {"w": [40.0] * 3},
        "optimizer": {"w/step": 40.0},
        "best": {"w": [25.0] * 3},
    }
    assert state == {"best": 25, "x": [1.5]}
    kept.delete()
    assert not kept.folder.exists()


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif how == "altered":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["truncated", "altered", "gone"])
@pytest.mark.parametrize("name", ["step-00000002/weights.safetensors", "step-00000002/state.json",
                                  "step-00000002/manifest.json", "best-00000002/weights.safetensors"])  # fmt: skip
def test_a_damaged_checkpoint_is_named_and_the_one_before_offered(tmp_path: Path, name: str, how: str) -> None:
    kept = Checkpoints(tmp_path, 1, 2)
    for step in (1, 2):
        kept.save_best(step, tensors(step)["weights"])
        kept.save(step, tensors(step), {"best": step})
    damage(tmp_path / name, how)
    with pytest.raises(CheckpointError) as error:
        kept.latest()
    told = str(error.value)
    assert str(tmp_path / name.split("/")[0]) in told and "damaged" in told and "\n" not in told
    assert f"Delete {tmp_path / 'step-00000002'} to go on from step 1." in told
    for file in (tmp_path / "step-00000002").iterdir():
        file.unlink()
    (tmp_path / "step-00000002").rmdir()
    assert kept.latest() == 1


def test_the_only_checkpoint_damaged_means_to_begin_anew(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, 1, 2)
    kept.save(1, tensors(1), {})
    damage(tmp_path / "step-00000001/optimizer.safetensors", "truncated")
    with pytest.raises(CheckpointError, match="to begin anew: it is the only one"):
        kept.latest()


def write_three(kept: Checkpoints) -> None:
    for step in range(2, 5):
        kept.save_best(step, tensors(step)["weights"])
        kept.save(step, tensors(step), {"best": step})


@pytest.mark.parametrize("moment", range(1, 9))
def test_whatever_moment_it_is_cut_at_only_whole_ones_are_seen(
    tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that writes, flushes, renames or deletes is, in turn, the last."""
    kept = Checkpoints(tmp_path, 1, 1)
    kept.save_best(1, tensors(1)["weights"])
    kept.save(1, tensors(1), {"best": 1})
    calls = 0

    class Killed(BaseException):
        """As sudden as a signal: nothing catches it."""

    def cut(real: Any) -> Any:
        def called(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == moment:
                raise Killed
            return real(*args, **options)

        return called

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", cut(module.save_file))
        patch.setattr(module, "_flush", cut(module._flush))
        patch.setattr(Path, "rename", cut(Path.rename))
        patch.setattr(module.shutil, "rmtree", cut(module.shutil.rmtree))
        with pytest.raises(Killed):
            write_three(kept)
    last = kept.latest()
    assert last is not None
    found, state = kept.load(last)
    assert found["weights"]["w"].tolist() == [float(last)] * 3 and found["best"]["w"].tolist() == [float(last)] * 3
    assert state == {"best": last}
    kept.save(9, tensors(9), {})  # and what was left over is in nobody's way
    assert kept.latest() == 9


@pytest.mark.parametrize("size", [100, 4_000])
def test_a_full_disk_is_one_line_and_the_last_checkpoint_is_intact(tmp_path: Path, size: int) -> None:
    """The system refuses to write beyond a size: within the manifest, and within the weights."""
    kept = Checkpoints(tmp_path, 1, 2)
    kept.save(1, tensors(1), {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(CheckpointError) as error:
            kept.save(2, {**tensors(2), "more": {"m": torch.zeros(2_000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = str(error.value)
    assert "File too large" in told and "The checkpoint of step 1 is intact" in told and "\n" not in told
    assert kept.latest() == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"Cannot write to .*file.*No checkpoint has been written yet"):
        Checkpoints(tmp_path / "file" / "deep", 1, 2).save(1, tensors(1), {})


def test_nothing_is_pickled(tmp_path: Path) -> None:
    Checkpoints(tmp_path, 1, 2).save(1, tensors(1), {"best": None})
    assert {path.suffix for path in (tmp_path / "step-00000001").iterdir()} == {".safetensors", ".json"}
    manifest = json.loads((tmp_path / "step-00000001/manifest.json").read_text())
    assert sorted(manifest) == ["optimizer.safetensors", "state.json", "weights.safetensors"]
