"""The file in the data folder by which commands find a running local cloud."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "running.json"


def write(data_dir: Path, running: Mapping[str, str | bool]) -> None:
    """Write the addresses and the keys of the local cloud that this process runs, for its user alone.

    Parameters:
        data_dir: the data folder, which this process has locked.
        running: names and values for the file, besides ``pid``, the id of this process.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = data_dir / f"{NAME}.new"
    unfinished.unlink(missing_ok=True)  # left by a process that was killed
    with open(unfinished, "x", opener=_open_private) as file:
        json.dump({"pid": os.getpid(), **running}, file, indent=1)
    unfinished.replace(data_dir / NAME)


def read(data_dir: Path) -> Mapping[str, Any]:
    """Return the addresses of the local cloud that uses a data folder.

    Raises:
        OSError, ValueError: there is none.
    """
    running: Mapping[str, Any] = json.loads((data_dir / NAME).read_bytes())
    return running


def remove(data_dir: Path) -> None:
    """Remove the file, if it is there."""
    (data_dir / NAME).unlink(missing_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
