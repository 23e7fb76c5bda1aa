"""What `.gcloudignore` keeps on a developer's machine."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from deploy.errors import StagingError
from deploy.staging.gcloudignore_pattern import Pattern

NAME = ".gcloudignore"

_INCLUDE = "!include:"
"""Between ``#`` and the name of a file, it makes a line stand for that file's (`gcloud topic gcloudignore`)."""


class Ignored:
    """The lines of a .gcloudignore.

    Parameters:
        lines: of the file, with other files that it includes already in place.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        self._patterns = [pattern for line in self.lines if (pattern := Pattern.of(line))]

    @classmethod
    def of(cls, folder: Path, otherwise: Iterable[str]) -> "Ignored":
        """Return what a folder's .gcloudignore says, or other lines where it has none.

        Raises:
            StagingError: .gcloudignore includes a file that is not there, or one of another folder.
        """
        path = folder / NAME
        return cls(_lines(path) if path.is_file() else otherwise)

    def files(self, folder: Path) -> Iterator[str]:
        """Yield the files of an app that are uploaded, as sorted paths relative to it. Links are followed.

        Raises:
            StagingError: a link leads to nothing, or to a folder that it is in itself.
        """
        yield from self._files(folder, PurePosixPath())

    def copy(self, folder: Path, into: Path) -> list[str]:
        """Copy the files of an app that are uploaded, links as what they lead to, empty folders not at all.

        Parameters:
            folder: of the app.
            into: a folder that is there.

        Returns:
            Their names, relative to the folder.

        Raises:
            StagingError: as from :meth:`files`.
        """
        names = list(self.files(folder))
        for name in names:
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, target)
        return names

    def _files(self, folder: Path, prefix: PurePosixPath) -> Iterator[str]:
        for path in sorted(folder.iterdir()):
            name, is_folder = prefix / path.name, path.is_dir()
            if self._keeps(name, is_folder):
                continue  # a folder with all that is in it: no later line can name a part of it
            _check_link(path)
            if is_folder:
                yield from self._files(path, name)
            else:
                yield str(name)

    def _keeps(self, name: PurePosixPath, is_folder: bool) -> bool:
        """Tell whether a path stays behind, of whose folders none does. The last line that names it decides."""
        deciding = next((each for each in reversed(self._patterns) if each.matches(name, is_folder)), None)
        return deciding is not None and not deciding.uploads


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
    """Return the lines of a file. Those that include others are comments there, and must not become more than that."""
    if "/" in name:
        raise StagingError(f"{NAME} includes {name!r}, but gcloud includes files of the same folder only.")
    try:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise StagingError(f"{NAME} includes {name!r}, which is not in {folder}: remove the line.") from error
    return [line for line in lines if not line.startswith("#")]
