#!/usr/bin/env python3
"""Run a job of this project with Python alone: `python3 run.py dev-flask`.

The jobs are nox sessions (noxfile.py). The first run installs nox and uv into .venv-nox; every run hands over to nox.
With nox installed, `nox -s dev-flask` does the same.
"""

# ruff: noqa: S603, S606, T201 (starts only Python, pip, uv and nox, by their paths; prints for a person)
# ruff: noqa: UP036 (keeps to the syntax of Python 3.6, so that an old Python gets as far as the message about it)

import configparser
import difflib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

NOX = "nox==2026.10.20"
UV = "uv==0.13.9"
ROOT = Path(__file__).resolve().parent
NOXFILE = ROOT / "noxfile.py"
SESSIONS = ROOT / ".nox"
ENVIRONMENT = ROOT / ".venv-nox"
PYTHON = ENVIRONMENT / "bin" / "python"
UV_COMMAND = ENVIRONMENT / "bin" / "uv"
STAMP = ENVIRONMENT / "made-from"

SETUP = "SETUP_"
"""Prefix of variables that noxfile.py hands to uv, without the prefix, while it installs a session's requirements."""

UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "proxy": ("ALL_PROXY", " "),
}
"""For a setting of pip, the variable with which uv does the same, and the separator of its values."""

UV_SETTINGS = {"UV_CONFIG_FILE", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_OFFLINE"}
UV_SETTINGS.update(name for name, _ in UV_VARIABLES.values() if name.startswith("UV_"))
"""Variables with which a user tells uv where packages come from."""

NO_NETWORK = re.compile("connection broken by|Could not fetch URL|NewConnectionError|NameResolutionError|timed out")
"""Matches what pip prints when it cannot reach the package index."""


def main(arguments):
    if sys.version_info < (3, 11):
        sys.exit(f"This project needs Python 3.11 or newer. This is Python {sys.version.split()[0]}: {sys.executable}")
    if os.name == "nt":
        sys.exit("This project runs on Linux. On Windows, use WSL: https://learn.microsoft.com/windows/wsl/install")
    options = nox_options(arguments)
    settings = uv_settings(os.environ)
    old = made_from()
    if old != ingredients() or not PYTHON.exists():
        make_environment(old, settings)
    if not UV_COMMAND.exists():
        options = ["--default-venv-backend", "virtualenv", *options]
    command = [str(PYTHON), "-m", "nox", "--noxfile", str(NOXFILE), *options]
    variables = dict(os.environ, **{SETUP + name: value for name, value in settings.items()})
    # Replaces this process by nox, so that Ctrl-C and the exit code are between nox and the shell.
    os.execve(command[0], command, variables)


def nox_options(arguments):
    """Return the arguments of nox. If there is no such job, suggest a similar one and exit."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return ["--list"]
    if arguments[0].startswith("-"):
        return arguments
    job = arguments[0]
    if not any(
        job == name or job.startswith(name + "-") for name in jobs()
    ):  # a job may have parts: tests-versions-3.12
        alike = [name for name in jobs() if job in name] or difflib.get_close_matches(job, jobs(), n=1)
        hint = f" Did you mean {' or '.join(alike)}?" if alike else ""
        print(f"There is no job {job!r}.{hint} `python3 run.py` lists the jobs.", file=sys.stderr)
        sys.exit(2)
    rest = arguments[2:] if arguments[1:2] == ["--"] else arguments[1:]
    return ["--session", job, "--", *rest]


def jobs():
    """Return the names of the jobs: those that noxfile.py gives its sessions."""
    session = r'^@nox\.session(?:\(name="(.+?)".*)?\ndef (\w+)'
    found = re.findall(session, NOXFILE.read_text(encoding="utf-8"), re.MULTILINE)
    return [name or function for name, function in found]


def ingredients():
    """Return the tools, Python and folder that the environments depend on."""
    return {
        "tools": f"{NOX} and {UV}",
        "Python": f"{sys.version_info[0]}.{sys.version_info[1]} in {sys.base_prefix}",
        "folder": str(ROOT),
    }


def made_from():
    """Return the ingredients of the existing .venv-nox. Empty if it is missing or incomplete."""
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def make_environment(old, settings):
    """Make .venv-nox. If Python or the folder has changed, remove the environments of the sessions too.

    Parameters:
        old: the ingredients of the existing .venv-nox.
        settings: uv's variables for pip's settings.
    """
    for name in ("Python", "folder"):
        today = ingredients()[name]
        if old.get(name, today) != today:
            print(f"The {name} was {old[name]} and is {today}: all environments are made again.", file=sys.stderr)
            shutil.rmtree(str(SESSIONS), ignore_errors=True)
    print(f"Installing {NOX} and {UV} into {ENVIRONMENT.name}. This happens once.", file=sys.stderr)
    if subprocess.call([*environment_maker(), "--clear", str(ENVIRONMENT)]):
        sys.exit(f"Python could not make the virtual environment {ENVIRONMENT}; its message is above.")
    if not install_with_uv(settings):
        print("pip, which is slower, takes the place of uv.", file=sys.stderr)
        pip("uninstall", "--quiet", "--yes", "uv")  # otherwise nox would use it
        check(pip("install", NOX))
    STAMP.write_text(json.dumps(ingredients()), encoding="utf-8")


def environment_maker():
    """Return a command that makes a virtual environment. Exit if the machine has no such command.

    The environment has no pip if there is a :func:`pip_wheel`: its installation takes longer than all the rest.
    """
    if all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        return [sys.executable, "-m", "venv", *(["--without-pip"] if pip_wheel() else [])]
    if importlib.util.find_spec("virtualenv"):
        return [sys.executable, "-m", "virtualenv"]
    uv = shutil.which("uv")
    if uv:
        return [uv, "venv", "--seed", "--python", sys.executable]
    sys.exit(
        "This Python lacks venv or ensurepip, and neither virtualenv nor uv takes their place. With a network "
        "connection, install them: `apt install python3-venv` on Debian and Ubuntu. Without one, start run.py with "
        "another Python of this machine that has them, 3.11 or newer, such as `python3.12 run.py`."
    )


def pip_wheel():
    """Return the wheel from which this Python's ensurepip installs pip, or None. pip also runs from the wheel itself.

    Distributions keep it in a folder of their own: https://docs.python.org/3/using/configure.html
    """
    ensurepip = importlib.util.find_spec("ensurepip")
    if not ensurepip:
        return None
    folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.origin).parent / "_bundled"
    return next(Path(folder).glob("pip-*.whl"), None)


def install_with_uv(settings):
    """Install uv, and nox with uv. Return False if uv does not run here or does not reach the package index."""
    errors = pip("install", "--only-binary", "uv", UV)
    if errors is not None:
        if NO_NETWORK.search(errors):
            check(errors)
        print("uv could not be installed.", file=sys.stderr)
        return False
    command = [str(UV_COMMAND), "pip", "install", "--python", str(PYTHON), NOX]
    variables = dict({"UV_HTTP_RETRIES": "1"}, **os.environ)
    variables.update(settings)
    if subprocess.call(command, env=variables):
        print("uv could not install nox.", file=sys.stderr)
        return False
    return True


def pip(*arguments):
    """Run pip in .venv-nox. Return None if it succeeds, otherwise its error output, which it also shows."""
    wheel = pip_wheel()
    program = [str(wheel / "pip")] if wheel else ["-m", "pip"]
    command = [str(PYTHON), *program, "--disable-pip-version-check", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, universal_newlines=True)
    errors = []
    for line in process.stderr:
        sys.stderr.write(line)
        errors.append(line)
    return "".join(errors) if process.wait() else None


def check(errors):
    """Exit with a message if pip has failed.

    Parameters:
        errors: pip's error output; None if it succeeded.
    """
    if errors is None:
        return
    if NO_NETWORK.search(errors):
        sys.exit(
            "pip cannot reach the package index; its messages are above. The first run needs a network connection. "
            "Behind a proxy or with an index of your own, set them for pip: "
            "https://pip.pypa.io/en/stable/topics/configuration/"
        )
    sys.exit("pip could not install nox; its messages are above.")


def uv_settings(environ):
    """Return uv's variables for pip's settings, which uv does not read. Empty if the user has set uv's own."""
    if UV_SETTINGS & set(environ):
        return {}
    variables = {}
    for name, value in pip_settings(environ).items():
        if name in UV_VARIABLES and value.strip():
            variable, separator = UV_VARIABLES[name]
            variables[variable] = separator.join(value.split())
    if "UV_INDEX" in variables:
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # like pip, take the best version of all indexes
    if variables.get("UV_NO_INDEX", "").lower() in ("0", "false", "no", "off"):
        del variables["UV_NO_INDEX"]
    return variables


def pip_settings(environ):
    """Return pip's settings for `pip install`, from its configuration files and variables, as pip combines them.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    settings = {}
    own = environ.get("PIP_CONFIG_FILE")
    if own != os.devnull:
        files = [*pip_files(environ), Path(own)] if own else pip_files(environ)
        for file in files:
            parser = configparser.RawConfigParser(strict=False)
            try:
                parser.read(str(file), encoding="utf-8")
            except configparser.Error:
                continue  # pip itself reports it
            for section in ("global", "install"):
                if parser.has_section(section):
                    settings.update((name.replace("_", "-"), value) for name, value in parser.items(section))
    prefix = "PIP_"
    for name, value in environ.items():
        if name.startswith(prefix):
            settings[name[len(prefix) :].lower().replace("_", "-")] = value
    return settings


def pip_files(environ):
    """Return the places of pip's configuration files; a later one wins."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.expanduser raises where there is no home)
    site = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    user = environ.get("XDG_CONFIG_HOME") or home / ".config"
    folders = [*(Path(folder, "pip") for folder in site.split(os.pathsep)), Path("/etc")]
    if not Path(environ.get("PIP_CONFIG_FILE") or "/").is_file():
        folders += [home / ".pip", Path(user, "pip")]
    return [folder / "pip.conf" for folder in folders]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
