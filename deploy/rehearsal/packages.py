"""The packages of an app: a virtual environment with what its requirements.txt names, and nothing else."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.errors import DeployError
from deploy.rehearsal.process import run_process
from deploy.rehearsal.runtime_python import Python
from deploy.staging.requirements import NAME

_STAMP = "made-from"
_LAST_LINES = 20
"""Lines of pip's output that tell why it failed."""


class PackagesError(DeployError):
    """What requirements.txt asks for cannot be installed, or is not all that is needed."""


@contextmanager
def locked(environment: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Keep others from making or using an environment in a block.

    Parameters:
        environment: the folder.
        waiting: called if somebody else has it, before this waits until they are done.
    """
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.with_name(f"{environment.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def install(app: Path, python: Python, environment: Path, log: Path) -> bool:
    """Install what an app's requirements.txt names, as App Engine's build does, with pip and `pip check`.

    An environment that was made from the same requirements and the same Python is taken as it is. Unlike App Engine's
    build, pip has to find every package named with its version and hash: what is not might be another one on the day of
    the deploy.

    Parameters:
        app: the app's folder, in which paths of requirements.txt begin.
        python: makes the environment.
        environment: the folder for it.
        log: a file that gets what pip prints.

    Returns:
        Whether anything had to be installed.

    Raises:
        PackagesError: the message ends with pip's own.
    """
    if not (app / NAME).is_file():
        raise PackagesError(f"{NAME} was not uploaded, so App Engine would install nothing: is it in .gcloudignore?")
    stamp, fingerprint = environment / _STAMP, _fingerprint(app, python)
    if stamp.exists() and stamp.read_text() == fingerprint:
        return False
    pip = [str(environment / "bin" / "python"), "-m", "pip"]
    options = ["--no-input", "--disable-pip-version-check", "--quiet"]
    failed = f"{NAME} cannot be installed. Each package has to be in it, those that others need as well, with version "
    await _run([str(python.path), "-m", "venv", "--clear", str(environment)], app, log, f"{python.path} has no venv")
    await _run([*pip, "install", *options, "--require-hashes", "--requirement", NAME], app, log, failed + "and hash")
    await _run([*pip, "check", *options[:2]], app, log, f"The packages of {NAME} do not go together")
    stamp.write_text(fingerprint)
    return True


async def _run(command: list[str], app: Path, log: Path, failure: str) -> None:
    with log.open("wb") as output:
        async with run_process(command, cwd=app, environment=_environment(), output=output) as process:
            code = await process.wait()
    if code != 0:
        raise PackagesError("\n".join([f"{failure}:", *_last_lines(log)]))


def _last_lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]


def _environment() -> dict[str, str]:
    """Return this process's environment variables, but for those that bring packages of other environments along."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def _fingerprint(app: Path, python: Python) -> str:
    """Return what tells environments apart: the Python, requirements.txt, and the wheels that it may name."""
    digest = hashlib.sha256(f"{python}".encode())
    for file in [app / NAME, *sorted(app.glob("*.whl"))]:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
