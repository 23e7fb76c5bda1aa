"""Payloads written on each Python of this machine and read on each other."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from across_pythons import FORMS
from test_pythons import SUPPORTED

HERE = Path(__file__).parent
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


def programs(version: str) -> Iterator[str]:
    """Yield the programs that may be a Python of a version, this process's own first."""
    if version == OWN:
        yield sys.executable
    for folder in os.environ["PATH"].split(os.pathsep):
        yield from filter(None, [shutil.which(f"python{version}", path=folder)])
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted((root / "versions").glob(f"{version}.*/bin/python3")))


def is_usable(program: str) -> bool:
    """Return whether a program runs. A version manager's may only say that there is no such version."""
    return subprocess.run([program, "-c", "import ssl, zlib"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def pythons() -> dict[str, str]:
    """The Pythons of this machine: their programs by version."""
    found = {version: next(filter(is_usable, programs(version)), None) for version in SUPPORTED}
    return {version: program for version, program in found.items() if program}


def run(program: str, *arguments: str | Path, path: Path) -> str:
    """Run ``across_pythons.py`` on a Python. It sees this library and cloudpickle (pure Python), and nothing else."""
    shared = path / "cloudpickle"
    if not shared.exists():
        shared.symlink_to(Path(cloudpickle.__file__).parent)
    sources = [HERE.parents[1] / "lib" / "src", HERE, path]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, sources)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [program, HERE / "across_pythons.py", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wrongs(reports: dict[str, dict[str, Any]], writer: str, reader: str) -> Iterator[str]:
    """Yield each end of a task that is not as it has to be."""
    refusal = f"written by Python {writer}, this is {reader}"
    for name, report in reports.items():
        if report["python"] != (writer if report["by_value"] else None):
            yield f"{name}: written by {report['python']}, by value: {report['by_value']}"
        if report["exit"] != 0:
            yield f"{name}: the process ended with {report['exit']}"
        elif report["by_value"] and writer != reader:
            if refusal not in report["end"]:
                yield f"{name}: {report['end']}"
        elif report["end"] != "right":
            yield f"{name}: {report['end']}"


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", FORMS)
def test_each_python_runs_what_each_wrote_by_name_and_refuses_what_another_wrote_by_value(
    form: str, pythons: dict[str, str], tmp_path: Path
):
    for version, program in pythons.items():
        run(program, "write", tmp_path / version, form, path=tmp_path)
    problems = []
    for (writer, _), (reader, program) in itertools.product(pythons.items(), repeat=2):
        reports = json.loads(run(program, "read", tmp_path / writer, path=tmp_path))
        assert len(reports) >= 45
        assert {report["by_value"] for report in reports.values()} == {True, False}
        problems += [f"{writer} to {reader}: {wrong}" for wrong in wrongs(reports, writer, reader)]
    assert problems == []
