"""The packages of an app: exactly those of requirements.txt, each with version and hash.

The tests make their packages themselves, and use no network.
"""

import hashlib
import subprocess
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.rehearsal import packages, runtime_python
from deploy.rehearsal.packages import PackagesError
from deploy.rehearsal.runtime_python import Python


def make_wheel(folder: Path, name: str, requires: Sequence[str] = ()) -> Path:
    """Make a wheel with one module, version 1."""
    path = folder / f"{name}-1-py3-none-any.whl"
    needs = "".join(f"Requires-Dist: {other}\n" for other in requires)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "VERSION = 1\n")
        wheel.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{needs}")
        wheel.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.dist-info/RECORD", "")
    return path


def pinned(wheel: Path, named: str) -> str:
    """Return the line of requirements.txt for a wheel, with its hash."""
    return f"{named} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


class App:
    """An app's folder, and an index with two packages: cup, and tea, which requires cup."""

    def __init__(self, folder: Path, python: Python) -> None:
        self.python = python
        self.folder = folder / "workspace"
        self.index = folder / "index"
        self.environment = folder / "environments" / "app"
        self.log = folder / "pip.log"
        for each in (self.folder, self.index):
            each.mkdir()
        self.cup = pinned(make_wheel(self.index, "cup"), "cup==1")
        self.tea = pinned(make_wheel(self.index, "tea", requires=["cup"]), "tea==1")

    async def install(self, *lines: str) -> bool:
        (self.folder / packages.NAME).write_text("".join(lines))
        with packages.locked(self.environment, waiting=pytest.fail):
            return await packages.install(self.folder, self.python, self.environment, self.log)

    def importable(self, module: str) -> bool:
        program = self.environment / "bin" / "python"
        return subprocess.run([program, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Python:
    """A stand-in for this Python that makes virtual environments by copying one, in a tenth of the time."""
    folder = tmp_path_factory.mktemp("python")
    own = runtime_python.this_python()
    subprocess.run([own.path, "-m", "venv", folder / "new"], check=True)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\n[ "$*" = "-m venv --clear $4" ] && rm -rf "$4" && cp -R "{folder}/new" "$4"\n')
    program.chmod(0o755)
    return Python(program, own.version)


@pytest.fixture
def app(tmp_path: Path, python: Python, monkeypatch: pytest.MonkeyPatch) -> App:
    made = App(tmp_path, python)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.index))
    return made


async def test_exactly_the_named_packages_are_installed_until_requirements_change(app):
    assert await app.install(app.cup, app.tea)
    assert app.importable("tea")
    assert not app.importable("pytest")
    assert not app.importable("gae_deferred")
    assert not await app.install(app.cup, app.tea)
    assert await app.install(app.cup)
    assert not app.importable("tea")


async def test_packages_of_the_developer_do_not_count(app, tmp_path, monkeypatch):
    with zipfile.ZipFile(app.index / "cup-1-py3-none-any.whl") as wheel:
        wheel.extractall(tmp_path / "developers")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "developers"))

    await app.install(app.cup)

    monkeypatch.delenv("PYTHONPATH")
    assert app.importable("cup")


async def test_a_wheel_of_the_app_is_installed_from_its_folder(app):
    wheel = make_wheel(app.folder, "own")
    assert await app.install(pinned(wheel, f"./{wheel.name}"))
    assert app.importable("own")

    make_wheel(app.folder, "own", requires=["cup"])  # another content under the same name
    with pytest.raises(PackagesError, match=r"(?s)cannot be installed.*hash"):
        await app.install(pinned(make_wheel(app.index, "own"), f"./{wheel.name}"))


async def test_a_package_without_a_version_is_refused(app):
    with pytest.raises(PackagesError, match=r"(?s)requirements.txt cannot be installed.*version and hash.*cup"):
        await app.install(app.cup.replace("cup==1", "cup"))


async def test_a_package_without_a_hash_is_refused(app):
    with pytest.raises(PackagesError, match=r"(?s)cannot be installed.*cup==1"):
        await app.install("cup==1\n")


async def test_a_package_that_only_another_package_requires_is_refused(app):
    with pytest.raises(PackagesError, match=r"(?s)cannot be installed.*those that others need as well.*cup"):
        await app.install(app.tea)


async def test_a_package_that_does_not_exist_is_refused(app):
    with pytest.raises(PackagesError, match=r"(?s)cannot be installed.*coffee"):
        await app.install(app.cup.replace("cup==1", "coffee==1"))
    assert await app.install(app.cup)  # the next attempt starts from scratch


async def test_a_wheel_that_was_not_uploaded_is_refused(app):
    with pytest.raises(PackagesError, match=r"(?s)cannot be installed.*own-1-py3-none-any.whl"):
        await app.install(app.cup.replace("cup==1", "./own-1-py3-none-any.whl"))


def test_two_processes_do_not_use_an_environment_at_the_same_time(tmp_path):
    environment = tmp_path / "environments" / "app"
    steps: list[str] = []
    waits = threading.Event()

    def wait() -> None:
        steps.append("waits")
        waits.set()

    def use() -> None:
        with packages.locked(environment, wait):
            steps.append("second")

    with packages.locked(environment, wait):
        other = threading.Thread(target=use)
        other.start()
        assert waits.wait(10)
        steps.append("first")
    other.join()

    assert steps == ["waits", "first", "second"]


async def test_a_requirements_file_that_was_not_uploaded_is_an_error(app):
    with pytest.raises(PackagesError, match=r"requirements.txt was not uploaded.*\.gcloudignore"):
        await packages.install(app.folder, app.python, app.environment, app.log)
