"""The virtual environment of an app, with the packages of its requirements.txt and no others."""

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
"""Lines of pip's output in the message of an error."""


class PackagesError(DeployError):
    """The packages of requirements.txt cannot be installed, or are incomplete."""


@contextmanager
def locked(environment: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Lock an environment for a block.

    Parameters:
        environment: folder of the environment.
        waiting: called before waiting for another process that has the lock.
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
    """Install the packages of an app's requirements.txt, as App Engine's build does: with pip and `pip check`.

    An environment made from the same requirements and the same Python is reused. Unlike App Engine's build, this
    requires the version and the hash of every package, because an unpinned one may change before the deploy.

    Parameters:
        app: folder of the app. Paths in requirements.txt are relative to it.
        python: the Python that makes the environment.
        environment: folder for the environment.
        log: file for pip's output.

    Returns:
        Whether anything was installed.

    Raises:
        PackagesError: pip failed; the message ends with pip's own.
    """
    if not (app / NAME).is_file():
        raise PackagesError(f"{NAME} was not uploaded, so App Engine would install nothing: is it in .gcloudignore?")
    stamp, fingerprint = environment / _STAMP, _fingerprint(app, python)
    if stamp.exists() and stamp.read_text() == fingerprint:
        return False
    pip = [str(environment / "bin" / "python"), "-m", "pip"]
    options = ["--no-input", "--disable-pip-version-check", "--quiet"]
    failed = f"{NAME} cannot be installed. It has to name every package, those that others need as well, with version "
    await _run([str(python.path), "-m", "venv", "--clear", str(environment)], app, log, f"{python.path} has no venv")
    await _run([*pip, "install", *options, "--require-hashes", "--requirement", NAME], app, log, failed + "and hash")
    await _run([*pip, "check", *options[:2]], app, log, f"The packages of {NAME} are not compatible")
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
    """Return this process's environment variables, except those that add packages of other environments."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def _fingerprint(app: Path, python: Python) -> str:
    """Return a hash of an environment's ingredients: the Python, requirements.txt and the wheels beside it."""
    digest = hashlib.sha256(f"{python}".encode())
    for file in [app / NAME, *sorted(app.glob("*.whl"))]:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
