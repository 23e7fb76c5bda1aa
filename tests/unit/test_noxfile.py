"""noxfile.py: the tests that arguments select, and how packages are installed. A stub takes the place of nox."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock, patch

import pytest

NOXFILE = Path(__file__).parents[2] / "noxfile.py"


@pytest.fixture
def noxfile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "nox", MagicMock())
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    spec = importlib.util.spec_from_file_location("noxfile", NOXFILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments_of_pytest(noxfile: ModuleType, *posargs: str) -> Sequence[str]:
    """Return what the session ``tests`` gives pytest."""
    session = MagicMock(posargs=list(posargs))
    with patch.object(noxfile, "install"):
        noxfile.run_tests(session)
    (run,) = session.run.call_args_list
    assert run.args[0] == "pytest"
    return run.args[1:]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-x", "-q"],
        ["-k", "counter"],
        ["-k", "lib"],
        ["-m", "heavy"],
        ["--lf"],
        ["--maxfail=2"],
        ["--ignore", "tests/unit"],
        ["--deselect", "tests/unit/test_run.py::test_a"],
        ["-k", ""],
        ["tests/unit/no_such_file.py"],
        ["no_such_file.py::test_a"],
        ["::test_a"],
    ],
    ids=" ".join,
)
def test_options_without_a_path_go_with_all_tests(noxfile: ModuleType, flags: list[str]):
    arguments = list(arguments_of_pytest(noxfile, *flags))
    assert {"tests/unit", "tests/integration", "tests/bench"} <= set(arguments)
    assert arguments[len(arguments) - len(flags) :] == flags


@pytest.mark.parametrize(
    "arguments",
    [
        ["tests/unit"],
        ["-x", "tests/unit/test_run.py"],
        ["tests/unit/test_run.py::test_a", "-q"],
        ["-k", "counter", "tests/unit"],
        [str(NOXFILE.parent / "tests")],
    ],
    ids=" ".join,
)
def test_paths_take_the_place_of_all_tests(noxfile: ModuleType, arguments: list[str]):
    assert list(arguments_of_pytest(noxfile, *arguments)) == arguments


def test_a_run_ends_and_names_the_test_where_a_process_died(noxfile: ModuleType, tmp_path: Path):
    # pytest-xdist has sent all work before the last test of a file begins; work for a dead process is another error.
    tests = ["import os, signal", "def test_first(): pass", "def test_second(): os.kill(os.getpid(), signal.SIGKILL)"]
    (tmp_path / "test_death.py").write_text("\n".join(tests))
    for name in ("test_others.py", "test_more.py"):  # without them, pytest-xdist would not wait for ever
        (tmp_path / name).write_text("def test_first(): pass\ndef test_second(): pass")
    run = [sys.executable, "-m", "pytest", *noxfile.IN_PARALLEL, "-n", "2", "-p", "no:asyncio"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "crashed while running 'test_death.py::test_second'" in done.stdout


def test_processes_of_sessions_keep_compiled_files(noxfile: ModuleType):
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ


def test_installing_shows_progress_and_hands_the_settings_of_run_py_to_uv(
    noxfile: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(NOXFILE.parent)
    for name in [name for name in os.environ if name.startswith("SETUP_")]:  # of the run.py that runs this test
        monkeypatch.delenv(name)
    monkeypatch.setenv("SETUP_UV_INDEX", "https://mirror.test")
    session = MagicMock()
    session.virtualenv.location = str(tmp_path)
    noxfile.install(session, "something")
    assert session.install.call_args.kwargs == {"env": {"UV_INDEX": "https://mirror.test"}, "silent": False}
    noxfile.install(session, "something")
    assert session.install.call_count == 1
