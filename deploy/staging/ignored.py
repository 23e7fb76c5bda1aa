"""What `.gcloudignore` keeps on a developer's machine."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pathspec

from deploy.errors import StagingError

NAME = ".gcloudignore"

_INCLUDE = "!include:"
"""Between ``#`` and the name of a file, it makes a line stand for that file's (`gcloud topic gcloudignore`)."""


class Ignored:
    """The patterns of a .gcloudignore, which are those of .gitignore.

    Parameters:
        lines: of the file, with other files that it includes already in place.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        self._patterns = pathspec.GitIgnoreSpec.from_lines(self.lines)

    @classmethod
    def of(cls, folder: Path, otherwise: Iterable[str]) -> "Ignored":
        """Return what a folder's .gcloudignore says, or other lines where it has none.

        Raises:
            StagingError: .gcloudignore includes a file that is not there, or one of another folder.
        """
        path = folder / NAME
        return cls(_lines(path) if path.is_file() else otherwise)

    def __contains__(self, path: str) -> bool:
        """Tell whether a path, relative to the app and with ``/`` at the end if it is a folder, stays behind."""
        return self._patterns.match_file(path)

    def files(self, folder: Path) -> Iterator[str]:
        """Yield the files of an app that are uploaded, as sorted paths relative to it. Links are followed."""
        yield from self._files(folder, "")

    def _files(self, folder: Path, prefix: str) -> Iterator[str]:
        for path in sorted(folder.iterdir()):
            name = prefix + path.name
            if path.is_dir() and f"{name}/" not in self:
                yield from self._files(path, f"{name}/")
            elif not path.is_dir() and name not in self:
                yield name


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        directive = line[1:].lstrip()
        if line.startswith("#") and directive.startswith(_INCLUDE):
            yield from _included(path.parent, directive.removeprefix(_INCLUDE))
        else:
            yield line


def _included(folder: Path, name: str) -> list[str]:
    if "/" in name:
        raise StagingError(f"{NAME} includes {name!r}, but gcloud includes files of the same folder only.")
    try:
        return (folder / name).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise StagingError(f"{NAME} includes {name!r}, which is not in {folder}: remove the line.") from error
