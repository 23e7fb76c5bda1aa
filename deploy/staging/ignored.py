"""`.gcloudignore`: decides which files of an app gcloud uploads."""

import json
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from deploy.errors import StagingError
from deploy.staging.gcloudignore_pattern import Pattern

NAME = ".gcloudignore"

GCLOUD_DEFAULT = (NAME, ".git", ".gitignore", "__pycache__/", "/setup.cfg")
"""Lines that gcloud writes into a missing .gcloudignore of a Python app (gcloud 528)."""

_EXPORT_START = b'{"key": {'
_MAX_EXPORT_LINE = 16 * 2**20
"""Bytes of the longest line that is read. An entity has at most 1 MiB, and less than ten times as much in JSON."""

_INCLUDE = "!include:"
"""After ``#`` and before a file's name, it includes that file's lines (`gcloud topic gcloudignore`)."""


class Ignored:
    """The lines of a .gcloudignore.

    Parameters:
        lines: lines of the file, with the lines of included files in place.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        self._patterns = [pattern for line in self.lines if (pattern := Pattern.of(line))]

    @classmethod
    def of(cls, folder: Path, otherwise: Iterable[str]) -> "Ignored":
        """Read a folder's .gcloudignore, or take other lines if it has none.

        Raises:
            StagingError: .gcloudignore includes a file that does not exist, or one of another folder.
        """
        path = folder / NAME
        return cls(_lines(path) if path.is_file() else otherwise)

    def files(self, folder: Path) -> Iterator[str]:
        """Yield the files of an app that are uploaded, as sorted paths relative to it. Links are followed.

        Raises:
            StagingError: a link is broken, or leads to a folder that contains it.
        """
        yield from self._files(folder, PurePosixPath())

    def copy(self, folder: Path, into: Path, without: Collection[str] = ()) -> list[str]:
        """Copy the files of an app that are uploaded: links as their targets, empty folders not at all.

        Parameters:
            folder: folder of the app.
            into: an existing folder.
            without: further files that are not copied, relative to the folder.

        Returns:
            The copied files, relative to the folder.

        Raises:
            StagingError: as from :meth:`files`.
        """
        names = [name for name in self.files(folder) if name not in without]
        for name in names:
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, target)
        return names

    def _files(self, folder: Path, prefix: PurePosixPath) -> Iterator[str]:
        for path in sorted(folder.iterdir()):
            name, is_folder = prefix / path.name, path.is_dir()
            if self._ignores(name, is_folder):
                continue  # no later line can bring back a part of an ignored folder
            _check_link(path)
            if is_folder:
                yield from self._files(path, name)
            else:
                yield str(name)

    def _ignores(self, name: PurePosixPath, is_folder: bool) -> bool:
        """Return whether a path is ignored, if its parents are not. The last matching line decides."""
        deciding = next((each for each in reversed(self._patterns) if each.matches(name, is_folder)), None)
        return deciding is not None and not deciding.uploads


def upload(folder: Path, target: Path) -> list[str]:
    """Copy the files that `gcloud app deploy` would upload from a folder.

    Parameters:
        folder: the folder in which gcloud would be called.
        target: a folder that does not exist yet.

    Returns:
        The copied files, relative to the folder.

    Raises:
        StagingError: as from :meth:`Ignored.of` and :meth:`Ignored.files`.
    """
    ignored = Ignored.of(folder, otherwise=GCLOUD_DEFAULT)
    target.mkdir()
    return ignored.copy(folder, target)


def is_data_export(path: Path) -> bool:
    """Return whether a file was made by `gae-deferred data export`: each line is an entity in JSON, its key first."""
    with path.open("rb") as file:
        if file.read(len(_EXPORT_START)) != _EXPORT_START:
            return False
        file.seek(0)
        line = file.readline(_MAX_EXPORT_LINE)
    try:
        return bool(json.loads(line)["key"]["path"][0]["kind"])
    except (ValueError, LookupError, TypeError):
        return False


def _check_link(path: Path) -> None:
    if not path.is_symlink():
        return
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, before Python 3.13
        raise StagingError(f"{path} is a link that leads to nothing: remove it, or name it in {NAME}.") from error
    if path.parent.resolve().is_relative_to(target):
        raise StagingError(f"{path} is a link to {target}, which it is in itself: remove it, or name it in {NAME}.")


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        directive = line[1:].lstrip()
        if line.startswith("#") and directive.startswith(_INCLUDE):
            yield from _included(path.parent, directive.removeprefix(_INCLUDE))
        else:
            yield line


def _included(folder: Path, name: str) -> list[str]:
    """Return the lines of an included file without its comments, since gcloud includes no further files from it."""
    if "/" in name:
        raise StagingError(f"{NAME} includes {name!r}, but gcloud includes files of the same folder only.")
    try:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise StagingError(f"{NAME} includes {name!r}, which is not in {folder}: remove the line.") from error
    return [line for line in lines if not line.startswith("#")]
