"""A folder that nobody may write to, as an app's own is on App Engine, where only /tmp can be written to."""

import hashlib
import stat
from pathlib import Path

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class ReadOnlyFolder:
    """A folder, read-only from now on.

    The system administrator can write nevertheless, and is who one is in many containers. So what is in the folder is
    remembered, and :meth:`changes` compares.

    Parameters:
        path: the folder, without symbolic links in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = _contents(path)
        for each in [path, *path.rglob("*")]:
            each.chmod(each.stat().st_mode & ~_WRITE)

    def changes(self) -> list[str]:
        """Return what has been written nevertheless, such as ``added data/app.db``, in order of the names."""
        after = _contents(self.path)
        return [
            f"{_kind(name in self._before, name in after)} {name}"
            for name in sorted({*self._before, *after})
            if self._before.get(name) != after.get(name)
        ]

    def release(self) -> None:
        """Let the owner write again, so that the folder can be removed."""
        for folder in [self.path, *(each for each in self.path.rglob("*") if each.is_dir() and not each.is_symlink())]:
            folder.chmod(folder.stat().st_mode | stat.S_IWUSR)


def _contents(path: Path) -> dict[str, str]:
    """Return a fingerprint of everything in a folder, by its name; the names of folders end with a slash."""
    return {each.relative_to(path).as_posix() + "/" * each.is_dir(): _fingerprint(each) for each in path.rglob("*")}


def _fingerprint(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _kind(was_there: bool, is_there: bool) -> str:
    if not was_there:
        return "added"
    return "changed" if is_there else "removed"
