"""Reads an app's ``queue.yaml`` again when it changes."""

import asyncio
from pathlib import Path
from typing import TypeAlias

from gae_local_cloud.cloud import LocalCloud
from gae_local_cloud.cloud_tasks import QueueYamlError
from gae_local_cloud.terminal import print_error, print_queue_file

_INTERVAL = 1.0
"""Seconds between two looks at the file, like those of gunicorn's reloader at the app's files."""


Version: TypeAlias = tuple[int, int] | None
"""The time of a file's last change in nanoseconds and its size in bytes, or None without a file."""


async def watch(cloud: LocalCloud, path: Path, before: Version) -> None:
    """Apply the file whenever it changes or appears, and print what it holds, or its error. Never returns.

    Parameters:
        before: the version of the file that the local cloud has read at its start, or an earlier one.
    """
    while True:
        await asyncio.sleep(_INTERVAL)
        now = version(path)
        if now is not None and now != before:
            _load(cloud, path)
        before = now


def _load(cloud: LocalCloud, path: Path) -> None:
    try:
        print_queue_file(path, cloud.load_queues(path))
    except QueueYamlError as error:
        print_error(f"{error}. The queues stay as they were")


def version(path: Path) -> Version:
    """Return the version of a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
