"""The Python of an App Engine runtime on this machine."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT = 10.0
"""Seconds for a Python to print its version."""

_QUESTION = "import ensurepip, sys, venv; print('%d.%d.%d' % sys.version_info[:3])"


@dataclass(frozen=True)
class Python:
    """A Python that can make virtual environments.

    Attributes:
        path: path of the program.
        version: version, such as ``3.13.2``.
    """

    path: Path
    version: str

    @property
    def runtime(self) -> str:
        """The App Engine runtime with this version, such as ``python313``."""
        major, minor, _ = self.version.split(".")
        return f"python{major}{minor}"


def this_python() -> Python:
    """Return the Python of this process, without its virtual environment."""
    return Python(Path(sys._base_executable), ".".join(map(str, sys.version_info[:3])))  # type: ignore[attr-defined]


def find(runtime: str) -> Python | None:
    """Return the Python of a runtime, such as ``python313``; None if this machine does not have it.

    Each candidate on the PATH is run, because version managers put placeholders there that only print an error.
    """
    digits = runtime.removeprefix("python")
    name = f"python{digits[0]}.{digits[1:]}"
    for folder in os.get_exec_path():
        python = _inspect(Path(folder, name))
        if python is not None and python.runtime == runtime:
            return python
    own = this_python()
    return own if own.runtime == runtime else None


def _inspect(program: Path) -> Python | None:
    """Return a program as a Python; None if it is not one, or cannot make virtual environments."""
    try:
        answer = subprocess.run(  # noqa: S603 (a program on the user's PATH)
            [program, "-I", "-c", _QUESTION], capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Python(program, answer.stdout.strip())
