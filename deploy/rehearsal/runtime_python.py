"""The Python of an App Engine runtime, on this machine."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT = 10.0
"""Seconds that a Python may take to say which one it is."""

_QUESTION = "import ensurepip, sys, venv; print('%d.%d.%d' % sys.version_info[:3])"


@dataclass(frozen=True)
class Python:
    """A Python that can make virtual environments.

    Attributes:
        path: of the program.
        version: such as ``3.13.2``.
    """

    path: Path
    version: str

    @property
    def runtime(self) -> str:
        """The runtime of App Engine that has this version, such as ``python313``."""
        major, minor, _ = self.version.split(".")
        return f"python{major}{minor}"


def this_python() -> Python:
    """Return the Python that this process runs on, without its virtual environment."""
    return Python(Path(sys._base_executable), ".".join(map(str, sys.version_info[:3])))  # type: ignore[attr-defined]


def find(runtime: str) -> Python | None:
    """Return the Python of a runtime, such as ``python313``, or None if this machine does not have it.

    A name on the PATH is not enough: version managers put programs there that only say that there is no such version.
    """
    digits = runtime.removeprefix("python")
    name = f"python{digits[0]}.{digits[1:]}"
    for folder in os.get_exec_path():
        python = _ask(Path(folder, name))
        if python is not None and python.runtime == runtime:
            return python
    own = this_python()
    return own if own.runtime == runtime else None


def _ask(program: Path) -> Python | None:
    """Return the Python that a program is, or None if it is not one, or lacks what makes virtual environments."""
    try:
        answer = subprocess.run(  # noqa: S603  # a program that the user has on the PATH
            [program, "-I", "-c", _QUESTION], capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Python(program, answer.stdout.strip())
