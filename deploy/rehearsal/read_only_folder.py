"""A read-only folder, as the app's folder is on App Engine, where only /tmp is writable."""

import hashlib
import stat
from pathlib import Path

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class ReadOnlyFolder:
    """A folder that is made read-only.

    The user root, common in containers, can write to it anyway. So :meth:`changes` compares the content with the
    original content.

    Parameters:
        path: the folder, which must not contain symbolic links.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = _contents(path)
        for each in [path, *path.rglob("*")]:
            each.chmod(each.stat().st_mode & ~_WRITE)

    def changes(self) -> list[str]:
        """Return all changes since, such as ``added data/app.db``, sorted by name."""
        after = _contents(self.path)
        return [
            f"{_kind(name in self._before, name in after)} {name}"
            for name in sorted({*self._before, *after})
            if self._before.get(name) != after.get(name)
        ]

    def release(self) -> None:
        """Make the folder writable for its owner again, so that it can be removed."""
        for folder in [self.path, *(each for each in self.path.rglob("*") if each.is_dir() and not each.is_symlink())]:
            folder.chmod(folder.stat().st_mode | stat.S_IWUSR)


def _contents(path: Path) -> dict[str, str]:
    """Return fingerprints of all files and folders in a folder, by name. Names of folders end with a slash."""
    return {each.relative_to(path).as_posix() + "/" * each.is_dir(): _fingerprint(each) for each in path.rglob("*")}


def _fingerprint(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _kind(was_there: bool, is_there: bool) -> str:
    if not was_there:
        return "added"
    return "changed" if is_there else "removed"
