#!/usr/bin/env python3
"""Run a job of this project with nothing but Python: `python3 run.py dev-flask`.

The jobs are nox sessions (noxfile.py). This file makes a virtual environment with nox in it, the first time, and hands
over. Where nox is installed, `nox -s dev-flask` does the same.
"""

# ruff: noqa: S603, S606, T201 (what it starts are Python, pip and nox, by their paths; what it prints is for a person)
# ruff: noqa: UP036 (a Python that is too old gets this far: the syntax here is that of 3.6, so that it can be told)

import os
import subprocess
import sys
from pathlib import Path

NOX = "nox==2026.10.20"
ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv-nox"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "made-from"


def main(arguments):
    if sys.version_info < (3, 10):
        sys.exit(f"This project needs Python 3.10 or newer, and this is Python {sys.version.split()[0]}.")
    if os.name == "nt":
        sys.exit("This project runs on Linux. On Windows, use WSL: https://learn.microsoft.com/windows/wsl/install")
    if not is_complete():
        make_environment()
    nox = [str(PYTHON), "-m", "nox", "--noxfile", str(ROOT / "noxfile.py")]
    if not arguments:
        nox += ["--list"]
    elif arguments[0].startswith("-"):
        nox += arguments
    else:
        rest = arguments[2:] if arguments[1:2] == ["--"] else arguments[1:]  # as nox wants it, or without the dashes
        nox += ["--session", arguments[0], "--", *rest]
    # Nox takes the place of this process, so that Ctrl-C and the exit code are between it and the shell.
    os.execv(nox[0], nox)


def ingredients():
    """Return what the environment is made from. When this changes, the environment must, too."""
    return f"{NOX}\n{sys.version}\n{ENVIRONMENT}\n"


def is_complete():
    """Tell whether the environment was made to the end, and from today's ingredients."""
    return STAMP.exists() and STAMP.read_text(encoding="utf-8") == ingredients()


def make_environment():
    """Make the environment, in place of whatever an interrupted run has left."""
    print(f"Installing {NOX} into {ENVIRONMENT.name}. This happens once.", file=sys.stderr)
    try:
        subprocess.check_call([sys.executable, "-m", "venv", "--clear", ENVIRONMENT])
        subprocess.check_call([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", NOX])
    except subprocess.CalledProcessError:
        sys.exit(
            "Nox could not be installed; the reason is above. If Python has no venv or no pip, its system has them: "
            "on Debian and Ubuntu, for example, `apt install python3-venv`."
        )
    STAMP.write_text(ingredients(), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
