"""Names that users plug in: registration, resolution, and errors that name the nearest."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from refiner_env import errors
from refiner_env.errors import DuplicateNameError, RefinerError, UnknownNameError
from refiner_env.registry import Registry, load_object


@pytest.fixture
def colours() -> Registry[str]:
    registry: Registry[str] = Registry("colour")
    for name in ("red", "Green", "dark_blue"):
        registry.register(name, name.upper())
    return registry


def plugin(tmp_path: Path, source: str) -> str:
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    return str(path)


# ------------------------------------------------------------------------------------------ registered names


def test_a_registered_name_resolves_to_its_entry(colours: Registry[str]) -> None:
    assert colours.register("white", "WHITE") == "WHITE"
    assert colours.resolve("white") == "WHITE" and colours.resolve("red") == "RED"
    assert colours.names() == ["red", "Green", "dark_blue", "white"]


def test_a_name_is_taken_once(colours: Registry[str]) -> None:
    with pytest.raises(DuplicateNameError, match="colour name 'red' is taken by 'RED'"):
        colours.register("red", "other")
    assert colours.resolve("red") == "RED"


@pytest.mark.parametrize(
    ("name", "nearest"), [("rde", "red"), ("green", "Green"), ("GREEN", "Green"), ("darkblue", "dark_blue")]
)
def test_an_unknown_name_gets_the_nearest(colours: Registry[str], name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Unknown colour '{name}'. Did you mean '{nearest}'"):
        colours.resolve(name)


def test_an_unknown_name_far_from_all_gets_the_list_and_advice(colours: Registry[str]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        colours.resolve("xyzzy")
    assert str(caught.value) == (
        "Unknown colour 'xyzzy'. Known: Green, dark_blue, red."
        " Your own colour: package.module:object or path/file.py:object."
    )


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(UnknownNameError, match="Known: none"):
        Registry("thing").resolve("one")


# ------------------------------------------------------------------------------------------- module:object


def test_an_object_in_a_module_resolves(colours: Registry[str]) -> None:
    assert colours.resolve("string:ascii_lowercase").startswith("abc")
    assert load_object("refiner_env.registry:Registry") is Registry


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere:thing", "Cannot load 'nowhere:thing': no module 'nowhere'"),
        ("refiner_env.nowhere:thing", "no module 'refiner_env.nowhere'"),
        ("string:nothing", "string has no 'nothing'.* It has: .*ascii_lowercase"),
        ("string:ascii_uppercas", r"Did you mean 'ascii_uppercase'\? It has: .*ascii_lowercase"),
        ("string:", "give package.module:object"),
        ("mine.py", "Cannot load 'mine.py': give package.module:object or path/file.py:object"),
        (":thing", "Cannot load ':thing'"),
        (".mine:Critic", "Cannot load '.mine:Critic'"),
        ("./mine:Critic", "Cannot load './mine:Critic'"),
        ("no/such/file.py:thing", "Cannot load 'no/such/file.py'.*no such file"),
    ],
)
def test_what_cannot_be_loaded_is_named(path: str, said: str) -> None:
    with pytest.raises(RefinerError, match=said):
        load_object(path)


# ------------------------------------------------------------------------------------------- file.py:object


def test_an_object_in_a_file_resolves(tmp_path: Path, colours: Registry[str]) -> None:
    assert colours.resolve(plugin(tmp_path, "PINK = 'P'") + ":PINK") == "P"


def test_a_file_without_the_object_says_what_it_has(tmp_path: Path) -> None:
    path = plugin(tmp_path, "import_me = 1\n_hidden = 2")
    with pytest.raises(RefinerError, match=r"has no 'Critic'. It has: import_me"):
        load_object(f"{path}:Critic")


def test_a_file_that_needs_a_missing_library_names_it(tmp_path: Path) -> None:
    path = plugin(tmp_path, "import no_such_library\nclass Critic: pass")
    with pytest.raises(RefinerError, match="no module 'no_such_library'"):
        load_object(f"{path}:Critic")


@pytest.mark.parametrize(
    ("source", "said"),
    [("def (", r"SyntaxError: invalid syntax \(mine.py, line 1\)"), ("x = 1\n1 / 0", r"by zero \(mine.py, line 2\)")],
)
def test_a_file_that_cannot_be_imported_says_where(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(RefinerError, match=said):
        load_object(f"{tmp_path}/mine.py:Critic")


def test_a_file_may_hold_dataclasses_with_postponed_annotations(tmp_path: Path) -> None:
    path = plugin(
        tmp_path,
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Settings:\n"
        "    strictness: int = 3\n",
    )
    assert load_object(f"{path}:Settings")().strictness == 3


def test_files_of_the_same_name_do_not_mix(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"WHERE = {folder!r}")
    assert [load_object(f"{tmp_path / folder}/mine.py:WHERE") for folder in ("a", "b", "a")] == ["a", "b", "a"]


def test_a_file_does_not_shadow_a_library(tmp_path: Path) -> None:
    (tmp_path / "string.py").write_text("ascii_lowercase = 'mine'")
    assert load_object(f"{tmp_path}/string.py:ascii_lowercase") == "mine"
    assert load_object("string:ascii_lowercase").startswith("abc")


def test_an_edited_file_is_read_anew(tmp_path: Path) -> None:
    assert load_object(plugin(tmp_path, "VALUE = 1") + ":VALUE") == 1
    assert load_object(plugin(tmp_path, "VALUE = 'changed'") + ":VALUE") == "changed"


# -------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "stdlib"),
    [
        (errors.OptionError("steps is 0"), ValueError),
        (errors.DuplicateNameError("taken"), ValueError),
        (errors.DataError("line 3"), ValueError),
        (errors.CheckpointError("no config"), ValueError),
        (UnknownNameError("critic", "oracel", ["oracle", "none"], "Advice."), LookupError),
    ],
    ids=lambda e: type(e).__name__ if isinstance(e, Exception) else e.__name__,
)
def test_errors_are_refiner_errors_and_survive_pickling(error: RefinerError, stdlib: type[Exception]) -> None:
    assert isinstance(error, RefinerError) and isinstance(error, stdlib)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)


def test_unknown_names_keep_their_parts() -> None:
    error = UnknownNameError("critic", "oracel", {"oracle": 1, "none": 2})
    assert (error.kind, error.name, error.known) == ("critic", "oracel", ["none", "oracle"])
    assert str(error) == "Unknown critic 'oracel'. Did you mean 'oracle'? Known: none, oracle."


def test_a_name_that_is_no_text_is_unknown_like_any_other() -> None:
    assert "Unknown stop None." in str(UnknownNameError("stop", None, ["critic", "never"]))  # type: ignore[arg-type]
