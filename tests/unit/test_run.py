"""run.py, the first command that a user types here. Fakes take the place of Python's venv, pip, uv and nox."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

import run

ROOT = Path(run.__file__).parent
FOLDERS = (".", "bench", "deploy", "docs", "docs/*", "infra", "lib", "lib/dropin", "samples/*")
PAGES = [page for folder in FOLDERS for page in sorted(ROOT.glob(f"{folder}/*.md"))]

REFUSED = """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError("[Errno 111] Connection refused")'
ERROR: Could not find a version that satisfies the requirement uv==0.13.9 (from versions: none)
"""
NO_WHEEL = "ERROR: No matching distribution found for uv==0.13.9\n"


class Started(Exception):
    """Raised in place of starting nox."""


class Machine:
    """Fakes what run.py starts: each command succeeds unless a part of it is in ``failing``."""

    def __init__(self) -> None:
        self.failing: dict[str, str] = {}
        self.commands: list[str] = []
        self.variables: Mapping[str, str] = {}
        self.variables_of_uv: Mapping[str, str] = {}

    def call(self, command: list[str], env: Mapping[str, str] | None = None) -> int:
        self.commands.append(" ".join(command[1:]) if "uv" not in command[0] else " ".join(["uv", *command[1:]]))
        if env is not None:
            self.variables_of_uv = env
        if any(part in self.commands[-1] for part in self.failing):
            return 1
        if "venv" in command:
            self._make(run.PYTHON)
        if run.UV in command:
            self._make(run.UV_COMMAND)
        if "uninstall" in command:
            run.UV_COMMAND.unlink(missing_ok=True)
        return 0

    def popen(self, command: list[str], **options: object) -> "Process":
        code = self.call(command)
        errors = next((text for part, text in self.failing.items() if part in self.commands[-1]), "")
        return Process(code, errors)

    def execve(self, path: str, command: list[str], variables: Mapping[str, str]) -> None:
        self.commands.append(" ".join(command[1:]))
        self.variables = variables
        raise Started

    @staticmethod
    def _make(file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


class Process:
    def __init__(self, code: int, errors: str) -> None:
        self.stderr = errors.splitlines(keepends=True)
        self._code = code

    def wait(self) -> int:
        return self._code


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake = Machine()
    environment = tmp_path / ".venv-nox"
    for name, value in {
        "ENVIRONMENT": environment,
        "PYTHON": environment / "bin" / "python",
        "UV_COMMAND": environment / "bin" / "uv",
        "STAMP": environment / "made-from",
        "SESSIONS": tmp_path / ".nox",
    }.items():
        monkeypatch.setattr(run, name, value)
    for name in os.environ:
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(run.subprocess, "call", fake.call)
    monkeypatch.setattr(run.subprocess, "Popen", fake.popen)
    monkeypatch.setattr(run.os, "execve", fake.execve)
    monkeypatch.setattr(run.sysconfig, "get_config_var", lambda name: str(wheels(tmp_path)))
    return fake


def wheels(folder: Path) -> Path:
    """Return the folder where a distribution keeps the wheel of pip."""
    folder = folder / "wheels"
    folder.mkdir(exist_ok=True)
    (folder / "pip-1.0-py3-none-any.whl").touch()
    return folder


@pytest.fixture
def start(machine: Machine) -> Callable[[], list[str]]:
    """Return a function that runs the job lint, and returns the commands that were started for it."""

    def run_lint() -> list[str]:
        machine.commands.clear()
        with pytest.raises(Started):
            run.main(["lint"])
        return machine.commands

    return run_lint


def test_it_knows_each_session_of_the_noxfile():
    sessions = []
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        for decorator in getattr(node, "decorator_list", []):
            if ast.unparse(decorator).startswith("nox.session"):
                keywords = {keyword.arg: keyword.value for keyword in getattr(decorator, "keywords", [])}
                sessions.append(ast.literal_eval(keywords["name"]) if "name" in keywords else node.name)
    assert sessions
    assert run.jobs() == sessions


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_existing_jobs(page: Path):
    assert set(re.findall(r'\brun\.py"? ([a-z][\w-]*)', page.read_text())) <= set(run.jobs())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("dev-flsk", " Did you mean dev-flask?"),
        ("wsgi", " Did you mean dev-wsgi or rehearse-wsgi or deploy-wsgi or e2e-wsgi?"),
        ("zzz", ""),
    ],
)
def test_a_typo_is_answered_at_once_with_a_similar_job(typed: str, meant: str, tmp_path: Path):
    for name in ("run.py", "noxfile.py"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        [sys.executable, "run.py", typed, "--port", "0"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"There is no job {typed!r}.{meant} `python3 run.py` lists the jobs.\n"
    assert not (tmp_path / ".venv-nox").exists()


def test_its_syntax_is_that_of_python_3_6_so_that_an_old_python_can_print_the_message(
    monkeypatch: pytest.MonkeyPatch,
):
    ast.parse(Path(run.__file__).read_text(), feature_version=(3, 6))
    monkeypatch.setattr(run.sys, "version_info", (3, 10))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        run.main([])


def test_the_first_run_installs_uv_with_pip_and_nox_with_uv(start: Callable[[], list[str]]):
    venv, uv, nox, job = start()
    assert venv.startswith("-m venv --without-pip --clear ")
    assert "/wheels/pip-1.0-py3-none-any.whl/pip --" in uv
    assert uv.endswith(f"install --only-binary uv {run.UV}")
    assert (nox.split()[0], nox.split()[-1]) == ("uv", run.NOX)
    assert job == f"-m nox --noxfile {run.NOXFILE} --session lint --"


def test_a_python_without_a_wheel_of_pip_installs_pip(
    tmp_path: Path, start: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run.sysconfig, "get_config_var", lambda name: str(tmp_path))
    venv, uv = start()[:2]
    assert venv.startswith("-m venv --clear ")
    assert uv.startswith("-m pip --disable-pip-version-check install ")


@pytest.mark.parametrize("folder", ["", None])
def test_the_wheel_of_pip_is_in_ensurepip_where_the_distribution_has_no_folder_for_it(
    folder: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ensurepip = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: ensurepip if name == "ensurepip" else None)
    monkeypatch.setattr(run.sysconfig, "get_config_var", lambda name: folder)
    assert run.pip_wheel() is None
    wheels(tmp_path).rename(tmp_path / "_bundled")
    assert run.pip_wheel() == tmp_path / "_bundled" / "pip-1.0-py3-none-any.whl"


def test_later_runs_install_nothing(start: Callable[[], list[str]]):
    first = start()[-1]
    assert start() == [first]


@pytest.mark.parametrize(
    "failing", [{run.UV: NO_WHEEL}, {"uv pip": "error: Failed to fetch"}], ids=["no wheel", "no index"]
)
def test_pip_takes_the_place_of_uv_if_uv_does_not_run_or_reach_the_index(
    failing: dict[str, str], machine: Machine, start: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
):
    machine.failing = failing
    commands = start()
    assert commands[-2].endswith(f"/pip --disable-pip-version-check install {run.NOX}")
    assert "--default-venv-backend virtualenv --session lint" in commands[-1]
    assert "pip, which is slower, takes the place of uv." in capsys.readouterr().err
    assert not run.UV_COMMAND.exists()
    assert start() == commands[-1:]


def test_without_network_it_says_so_after_one_try(machine: Machine, capsys: pytest.CaptureFixture[str]):
    machine.failing = {"install": REFUSED}
    with pytest.raises(SystemExit, match="cannot reach the package index") as exit_:
        run.main(["lint"])
    assert "apt" not in str(exit_.value)
    assert len(machine.commands) == 2
    assert "Connection refused" in capsys.readouterr().err
    assert not run.STAMP.exists()


def test_another_failure_of_pip_is_not_blamed_on_the_network(machine: Machine):
    machine.failing = {"install": "ERROR: [Errno 28] No space left on device\n"}
    with pytest.raises(SystemExit, match="pip could not install nox; its messages are above"):
        run.main(["lint"])


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_or_pip_is_told_where_they_are(
    missing: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    there = {"venv", "ensurepip"} - {missing}
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: name in there)
    monkeypatch.setattr(run.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"apt install python3-venv.*Without one, start run\.py with another Python"):
        run.main(["lint"])
    assert machine.commands == []


@pytest.mark.parametrize(("tool", "command"), [("virtualenv", "-m virtualenv"), ("uv", "uv venv --seed")])
def test_without_venv_virtualenv_or_uv_takes_its_place_also_without_network(
    tool: str, command: str, start: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: name == tool)
    monkeypatch.setattr(run.shutil, "which", lambda name: f"/usr/bin/{name}" if name == tool else None)
    assert start()[0].startswith(command)


def test_an_environment_that_cannot_be_written_is_named(machine: Machine):
    machine.failing = {"-m venv": ""}
    with pytest.raises(SystemExit, match=r"could not make the virtual environment .*\.venv-nox"):
        run.main(["lint"])


@pytest.mark.parametrize(
    ("name", "old", "sentence"),
    [
        ("Python", "3.9 in /opt/old", "The Python was 3.9 in /opt/old and is "),
        ("folder", "/elsewhere", "The folder was /elsewhere and is "),
    ],
)
def test_a_change_of_python_or_of_the_folder_makes_all_environments_again(
    name: str, old: str, sentence: str, start: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
):
    first = list(start())
    session = run.SESSIONS / "lint"
    session.mkdir(parents=True)
    start()
    assert session.exists()
    run.STAMP.write_text(json.dumps(run.ingredients() | {name: old}))
    assert start() == first
    assert sentence in capsys.readouterr().err
    assert not session.exists()


def test_a_newer_nox_leaves_the_sessions_alone(start: Callable[[], list[str]]):
    first = list(start())
    session = run.SESSIONS / "lint"
    session.mkdir(parents=True)
    run.STAMP.write_text(json.dumps(run.ingredients() | {"tools": "nox==1"}))
    assert start() == first
    assert session.exists()


def test_an_interrupted_or_broken_environment_is_made_again(start: Callable[[], list[str]]):
    first = list(start())
    run.STAMP.unlink()
    assert start() == first
    run.PYTHON.unlink()
    assert start() == first


def test_uv_gets_the_settings_of_pip(
    tmp_path: Path, machine: Machine, start: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://mirror.test/simple\ntimeout = 5\n"
        "[install]\nextra_index_url =\n    https://one.test/simple\n    https://two.test/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels /more")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    expected = {
        "UV_DEFAULT_INDEX": "https://mirror.test/simple",
        "UV_INDEX": "https://one.test/simple https://two.test/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
    }
    assert {name: value for name, value in run.uv_settings(os.environ).items() if name in expected} == expected
    assert "UV_NO_INDEX" not in run.uv_settings(os.environ)
    start()
    assert {name: machine.variables[f"SETUP_{name}"] for name in expected} == expected
    assert "UV_INDEX" not in machine.variables
    assert {name: machine.variables_of_uv[name] for name in expected} == expected


def test_a_variable_of_pip_wins_over_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://file.test\n[install]\nindex-url = https://install.test\n")
    environ = {"PIP_CONFIG_FILE": str(file)}
    assert run.pip_settings(environ)["index-url"] == "https://install.test"
    assert run.pip_settings(environ | {"PIP_INDEX_URL": "https://env.test"})["index-url"] == "https://env.test"


def test_the_users_file_of_pip_is_read(tmp_path: Path):
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text("[global]\nindex-url = https://user.test\n")
    assert run.pip_settings({"XDG_CONFIG_HOME": str(tmp_path)})["index-url"] == "https://user.test"
    assert run.pip_settings({"XDG_CONFIG_HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}) == {
        "config-file": os.devnull
    }


def test_a_file_that_is_named_takes_the_place_of_the_users_file_of_pip(tmp_path: Path):
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text("[global]\nindex-url = https://user.test\n")
    named = tmp_path / "named.conf"
    named.write_text("[global]\nfind-links = /wheels\n")
    settings = run.pip_settings({"XDG_CONFIG_HOME": str(tmp_path), "PIP_CONFIG_FILE": str(named)})
    assert settings["find-links"] == "/wheels"
    assert settings.get("index-url") != "https://user.test"


@pytest.mark.parametrize("name", ["UV_INDEX", "UV_DEFAULT_INDEX", "UV_CONFIG_FILE", "UV_OFFLINE"])
def test_settings_for_uv_itself_win_over_those_of_pip(name: str):
    assert run.uv_settings({"PIP_INDEX_URL": "https://pip.test", "PIP_CONFIG_FILE": os.devnull, name: "1"}) == {}
