"""An instance of a version on this machine: its process, its environment, its folders and its log."""

import asyncio
import random
import re
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import DeployError
from deploy.rehearsal.app_engine import Version
from deploy.rehearsal.process import Process, run_process

START_TIMEOUT = 60.0
"""Seconds for an instance to listen on its port."""

_POLL = 0.05
"""Seconds between two connection attempts."""

_PORTS = range(20_000, 32_000)
"""Ports for instances. The system chooses from higher ones, 32768 and up on Linux, when a program asks for any port."""

_WITHHELD = {"DEFERRED_SIGNING_KEYS_SECRET"}
"""Variables of app.yaml that an instance does not get here, because they need Secret Manager."""

_PORT_IN_USE = r"(?i)(?:address already|connection) in use"

_ADVICE = {
    r"ModuleNotFoundError: No module named '([^']+)'": (
        "The app imports {0}. If that is a package, add it to the app's requirements.txt; if it is a file of the app, "
        ".gcloudignore must not name it."
    ),
    r"FileNotFoundError: .*?'([^']+)'": (
        "The app looks for {0}. If that is a file of the app, .gcloudignore must not name it. Files that the app makes "
        "belong in /tmp."
    ),
    r"(?:Read-only file system|Permission denied): '([^']+)'": (
        "The app writes to {0}, and App Engine lets it write to /tmp alone."
    ),
    r"Failed to find attribute '([^']+)' in '([^']+)'": "The entrypoint serves {1}:{0}, but {1} has no {0}.",
    r"KeyError: '([A-Z][A-Z0-9_]*)'": (
        "The app needs the environment variable {0}: give --env {0}=VALUE, here and when you deploy it."
    ),
    _PORT_IN_USE: (
        "Another program has the port of the entrypoint. If that is $PORT ({port}), rehearse again, on another port."
    ),
    r"sh: .*?([\w./-]+): not found": (
        "The entrypoint runs {0}, which is not there. If a package brings {0}, add that to the app's requirements.txt."
    ),
}
"""Advice for messages in an instance's log. Groups of the pattern and the instance's port fill the placeholders."""


class InstanceError(DeployError):
    """The instance does not listen, or has ended. Its log may say why."""


@dataclass(frozen=True, kw_only=True)
class InstanceFolders:
    """The folders of an instance, and its log.

    Attributes:
        app: folder of the app, and working directory of the instance. Read-only.
        packages: folder of the virtual environment.
        home: an empty, read-only folder.
        temporary: the writable folder, in place of ``/tmp``.
        log: file for the output of the instance.
    """

    app: Path
    packages: Path
    home: Path
    temporary: Path
    log: Path


class Instance:
    """A running instance.

    Parameters:
        process: process of the entrypoint.
        port: port that it has to listen on.
        log: file with its output.
    """

    def __init__(self, process: Process, port: int, log: Path) -> None:
        self._process = process
        self._port = port
        self._log = log

    async def listens(self) -> None:
        """Wait until the instance listens.

        Raises:
            InstanceError: it has ended, or does not listen in time.
        """
        ended = asyncio.ensure_future(self.ends())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT
        try:
            while not await _is_open(self._port):
                if ended.done():
                    ended.result()
                if loop.time() > deadline:
                    raise InstanceError(
                        f"The entrypoint runs, but nothing listens on $PORT ({self._port}) after {START_TIMEOUT:g} s: "
                        "the entrypoint has to name $PORT, as in `gunicorn --bind :$PORT main:app`."
                    )
                await asyncio.wait({ended}, timeout=_POLL)
        finally:
            ended.cancel()

    async def ends(self) -> None:
        """Wait until the instance ends by itself, which is an error.

        Raises:
            InstanceError: it has ended.
        """
        code = await self._process.wait()
        raise InstanceError(f"The instance has ended by itself, with exit code {code}. {self.advice()}".rstrip())

    def has_its_port(self) -> None:
        """Check that requests reach the instance. gunicorn tries for 5 s to listen on a port that is in use.

        Raises:
            InstanceError: another program listens on the port.
        """
        if _all(_PORT_IN_USE, self._log.read_text(errors="replace")):
            raise InstanceError(self.advice())

    def advice(self) -> str:
        """Return the advice for the last known message in the log; ``""`` if there is none."""
        log = self._log.read_text(errors="replace")
        found = [
            (match.start(), text.format(*match.groups(), port=self._port))
            for regex, text in _ADVICE.items()
            for match in _all(regex, log)
        ]
        return max(found)[1] if found else ""


@asynccontextmanager
async def start(
    version: Version, folders: InstanceFolders, port: int, stand_ins: Mapping[str, str]
) -> AsyncIterator[Instance]:
    """Run an instance in a block.

    Parameters:
        version: the version to run.
        folders: folders of the instance.
        port: port that it has to listen on.
        stand_ins: environment variables that name stand-ins for services of App Engine.
    """
    with folders.log.open("wb") as log:
        async with run_process(
            ["sh", "-c", f"exec {version.settings.entrypoint}"],
            cwd=folders.app,
            environment=_environment(version, folders, port) | dict(stand_ins),
            output=log,
            stop_with=signal.SIGTERM,
        ) as process:
            yield Instance(process, port, folders.log)


def _environment(version: Version, folders: InstanceFolders, port: int) -> dict[str, str]:
    """Return the variables of App Engine, and those that any process needs, without the developer's own."""
    given = {name: value for name, value in version.environment(port).items() if name not in _WITHHELD}
    return given | {
        "PATH": f"{folders.packages / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folders.home),
        "TMPDIR": str(folders.temporary),
        "PYTHONDONTWRITEBYTECODE": "1",  # the app's folder is read-only
        "PYTHONNOUSERSITE": "1",
    }


def free_port() -> int:
    """Return an unused port of this machine, which no program gets that asks the system for any port.

    Raises:
        InstanceError: each port is in use.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        try:
            socket.create_server(("", port)).close()
        except OSError:
            continue
        return port
    raise InstanceError(f"Each port from {_PORTS[0]} to {_PORTS[-1]} is in use.")


async def _is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _all(regex: str, text: str) -> list[re.Match[str]]:
    return list(re.finditer(regex, text))
