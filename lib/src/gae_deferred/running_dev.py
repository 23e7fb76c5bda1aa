"""Tells a process how to use the local cloud of a ``gae-deferred dev`` that runs in its folder.

``dev`` writes :data:`FILE`, readable by its user only. An app reads it for error messages alone: the user sets the
variables. If the process took them from the file, then on a server a writer of the current folder, or a file that was
deployed by mistake, would decide where tasks go and which key signs them. Commands do use it: see
:mod:`gae_deferred.cli.chosen_cloud`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(".local-cloud", "running.json")
"""In the folder where the command was started: process id, addresses, project and signing keys."""

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "")


def is_at(address: str) -> bool:
    """Return whether a ``dev`` that signs its tasks runs in this folder, with Cloud Tasks at an address.

    Parameters:
        address: ``host:port``, as in ``CLOUD_TASKS_EMULATOR_HOST``.
    """
    running = read()
    if running is None or not (running.get("signing_keys") and running.get("serves_app", True)):
        return False
    (host, _, port), (its_host, _, its_port) = address.rpartition(":"), str(running["cloud_tasks"]).rpartition(":")
    return port == its_port and (host == its_host or host in _LOOPBACK)


def hint() -> str:
    """Return the line for a shell that sets this process's variables, as the end of a message, or ``""``."""
    import shlex

    running = read()
    if running is None:
        return ""
    variables = {
        "CLOUD_TASKS_EMULATOR_HOST": running["cloud_tasks"],
        "DATASTORE_EMULATOR_HOST": running.get("datastore"),
        "GOOGLE_CLOUD_PROJECT": running.get("project"),
        "LOCAL_CLOUD_CLOCK": running.get("clock"),
        "DEFERRED_LOCATION": running.get("location"),
    }
    line = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items() if value)
    if running.get("signing_keys"):  # read from the file by the shell: an error message holds no secret
        reading = f'import json; print(json.load(open("{FILE.as_posix()}"))["signing_keys"])'
        line += f" DEFERRED_SIGNING_KEYS=\"$(python3 -c '{reading}')\""
    return f". `gae-deferred dev` runs in this folder; for its local cloud:\nexport {line}"


def read() -> Mapping[str, Any] | None:
    """Return what the file says, or None if no ``dev`` has written it or its process has ended."""
    import json

    try:
        running = json.loads(FILE.read_bytes())
        is_complete = isinstance(running, dict) and isinstance(running.get("cloud_tasks"), str)
        if not is_complete or not _is_alive(int(running["pid"])):
            return None
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return running  # type: ignore[no-any-return]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True
