"""The key that signs tasks on this machine, so that nobody has to make one for development."""

import os
import secrets
from pathlib import Path

FILE_NAME = "signing-key"


def signing_key(data_dir: Path | None) -> str:
    """Return a key as ``DEFERRED_SIGNING_KEYS`` takes it.

    Parameters:
        data_dir: the folder that keeps the key beside the tasks that it has signed, so that they are still run after a
            restart; None makes a new one.

    Raises:
        OSError: the file cannot be read or written.
    """
    if data_dir is None:
        return _new_key()
    path = data_dir / FILE_NAME
    if not path.exists():
        # Under its name only when it is whole: a process can be killed at any time.
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        with open(unfinished, "x", opener=_open_private) as file:
            file.write(_new_key() + "\n")
        unfinished.rename(path)
    return path.read_text().strip()


def _new_key() -> str:
    return f"local:{secrets.token_hex(32)}"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
