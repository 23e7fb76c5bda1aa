"""What `.gcloudignore` keeps on a developer's machine."""

from collections.abc import Iterator
from pathlib import Path

import pathspec

NAME = ".gcloudignore"


class Ignored:
    """The patterns of a .gcloudignore, which are those of .gitignore.

    Parameters:
        text: of the file.
    """

    def __init__(self, text: str) -> None:
        self._patterns = pathspec.GitIgnoreSpec.from_lines(text.splitlines())

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
