"""noxfile.py: the tests that arguments select, and how packages are installed. A stub takes the place of nox."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest

NOXFILE = Path(__file__).parents[2] / "noxfile.py"
PARTS = [".", "samples/flask", "samples/django", "samples/wsgi"]


class CommandFailed(Exception):
    """Nox raises it for an exit code other than 0."""

    def __init__(self, code: int) -> None:
        self.reason = f"Returned code {code}"


class Session:
    """A nox session in which pytest ends with given exit codes, one for each run."""

    def __init__(self, *posargs: str, codes: Sequence[int]) -> None:
        self.posargs = list(posargs)
        self.runs: list[tuple[str, ...]] = []
        self._codes = iter(codes)
        self.log = MagicMock()

    def chdir(self, folder: str) -> nullcontext[None]:
        return nullcontext()

    def run(self, *command: str, env: dict[str, str | None]) -> None:
        assert env == {"PYTHONDONTWRITEBYTECODE": None}, "each Python that a test starts would compile the libraries"
        self.runs.append(command)
        if code := next(self._codes):
            raise CommandFailed(code)

    def error(self, message: str) -> None:
        raise AssertionError(message)


@pytest.fixture
def noxfile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    nox = MagicMock()
    nox.command.CommandFailed = CommandFailed
    monkeypatch.setitem(sys.modules, "nox", nox)
    spec = importlib.util.spec_from_file_location("noxfile", NOXFILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def noxfile_without_install(noxfile: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(noxfile, "install", lambda session, *arguments: None)
    return noxfile


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
def test_options_without_a_path_go_to_every_part(noxfile: ModuleType, flags: list[str]):
    parts = noxfile.parts_of_tests(flags)
    assert list(parts) == PARTS
    assert {"tests/unit", "tests/integration"} <= set(parts["."])
    assert all(arguments[len(arguments) - len(flags) :] == flags for arguments in parts.values())


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
def test_paths_take_the_place_of_the_parts(noxfile: ModuleType, arguments: list[str]):
    assert noxfile.parts_of_tests(arguments) == {".": arguments}


def test_a_part_without_a_selected_test_does_not_fail_the_job(noxfile_without_install: ModuleType):
    session = Session("-k", "counter", codes=[5, 0, 5, 0])
    noxfile_without_install.run_tests(session)
    assert len(session.runs) == 4


def test_the_job_fails_if_no_part_selects_a_test(noxfile_without_install: ModuleType):
    with pytest.raises(AssertionError, match="No test matches -k nonsense"):
        noxfile_without_install.run_tests(Session("-k", "nonsense", codes=[5, 5, 5, 5]))


@pytest.mark.parametrize("codes", [[1], [0, 2], [5, 0, 1]])
def test_the_job_fails_with_the_first_part_that_fails(noxfile_without_install: ModuleType, codes: list[int]):
    session = Session(codes=codes)
    with pytest.raises(CommandFailed):
        noxfile_without_install.run_tests(session)
    assert len(session.runs) == len(codes)


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
