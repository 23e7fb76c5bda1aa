"""The name under which other processes can import the script of this process, if there is one."""

import sys
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from gae_deferred import main_module

NAME = "nightly"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules with a script."""
    (tmp_path / f"{NAME}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop(NAME, None)


def start(monkeypatch: pytest.MonkeyPatch, file: Path | None, module: str | None = None) -> types.ModuleType:
    """Let this process look as if it was started with a file, or with ``python -m`` and a module."""
    main = types.ModuleType("__main__")
    main.__spec__ = ModuleSpec(module, None) if module is not None else None
    if file is not None:
        main.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main


def name_of_main() -> str | None:
    return main_module.name.__wrapped__()


def test_a_script_is_the_module_of_its_file_name_from_then_on(folder: Path, monkeypatch: pytest.MonkeyPatch):
    main = start(monkeypatch, folder / f"{NAME}.py")
    assert name_of_main() == NAME
    assert sys.modules[NAME] is main
    assert name_of_main() == NAME


@pytest.mark.parametrize("module", [NAME, "app.nightly", "app.not-an-identifier"])
def test_a_module_that_was_started_by_its_name_has_that_name(
    module: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    start(monkeypatch, folder / "another.py", module)
    assert name_of_main() == module


def test_a_module_that_was_imported_before_it_is_named_stays(folder: Path, monkeypatch: pytest.MonkeyPatch):
    start(monkeypatch, folder / f"{NAME}.py")
    imported = __import__(NAME)
    assert name_of_main() == NAME
    assert sys.modules[NAME] is imported


@pytest.mark.parametrize(
    ("file", "module"),
    [
        (None, None),
        (f"{NAME}.sh", None),
        ("not-a-name.py", None),
        ("missing_everywhere.py", None),
        ("json.py", None),
        ("sys.py", None),
        ("packed.py", None),
        ("app/__main__.py", "app.__main__"),
        ("app/nightly.py", "app.\n"),
        ("app/nightly.so", "app.nightly"),
    ],
    ids=[
        *("interactive session", "no .py", "no identifier", "no such module", "hidden", "hidden by a built-in module"),
        *("hidden by a folder", "package", "name that a pickle cannot hold in a line", "compiled module"),
    ],
)
def test_a_main_that_cannot_be_imported_has_no_name(
    file: str | None, module: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "packed").mkdir()
    scripts = folder / "scripts"
    (scripts / "app").mkdir(parents=True)
    if file is not None:
        (scripts / file).write_text("")
    start(monkeypatch, scripts / file if file is not None else None, module)
    assert name_of_main() is None


def test_a_script_that_was_deleted_has_no_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    start(monkeypatch, folder / "elsewhere" / f"{NAME}.py")
    assert name_of_main() is None


def test_a_script_has_no_name_if_another_module_without_a_file_has_it(folder: Path, monkeypatch: pytest.MonkeyPatch):
    start(monkeypatch, folder / f"{NAME}.py")
    made = types.ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, made)
    assert name_of_main() is None
    assert sys.modules[NAME] is made
