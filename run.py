#!/usr/bin/env python3
"""Run a job of this project with nothing but Python: `python3 run.py dev-flask`.

The jobs are nox sessions (noxfile.py). This file makes a virtual environment with nox in it, the first time, and hands
over. Where nox is installed, `nox -s dev-flask` does the same.
"""

# ruff: noqa: S603, S606, T201 (what it starts are Python, pip and nox, by their paths; what it prints is for a person)
# ruff: noqa: UP036 (a Python that is too old gets this far: the syntax here is that of 3.6, so that it can be told)

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

NOX = "nox==2026.10.20"
ROOT = Path(__file__).resolve().parent
NOXFILE = ROOT / "noxfile.py"
ENVIRONMENT = ROOT / ".venv-nox"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "made-from"


def main(arguments):
    if sys.version_info < (3, 11):
        sys.exit(f"This project needs Python 3.11 or newer, and this is Python {sys.version.split()[0]}.")
    if os.name == "nt":
        sys.exit("This project runs on Linux. On Windows, use WSL: https://learn.microsoft.com/windows/wsl/install")
    told = told_to_nox(arguments)
    if not is_complete():
        make_environment()
    nox = [str(PYTHON), "-m", "nox", "--noxfile", str(NOXFILE), *told]
    # Nox takes the place of this process, so that Ctrl-C and the exit code are between it and the shell.
    os.execv(nox[0], nox)


def told_to_nox(arguments):
    """Return the arguments as nox wants them. If no job is called so, say which one may have been meant, and end."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return ["--list"]
    if arguments[0].startswith("-"):
        return arguments
    job = arguments[0]
    if not any(job == name or job.startswith(name + "-") for name in jobs()):  # one may have parts: tests-versions-3.12
        alike = [name for name in jobs() if job in name] or difflib.get_close_matches(job, jobs(), n=1)
        hint = f" Did you mean {' or '.join(alike)}?" if alike else ""
        print(f"There is no job {job!r}.{hint} `python3 run.py` lists the jobs.", file=sys.stderr)
        sys.exit(2)
    rest = arguments[2:] if arguments[1:2] == ["--"] else arguments[1:]  # as nox wants it, or without the dashes
    return ["--session", job, "--", *rest]


def jobs():
    """Return the names of the jobs: those that noxfile.py gives its sessions."""
    session = r'^@nox\.session(?:\(name="(.+?)".*)?\ndef (\w+)'
    found = re.findall(session, NOXFILE.read_text(encoding="utf-8"), re.MULTILINE)
    return [name or function for name, function in found]


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
