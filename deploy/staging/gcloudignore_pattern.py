r"""One line of a .gcloudignore, read as gcloud reads it, which is not always as git reads one of .gitignore.

Three differences matter to apps (googlecloudsdk.command_lib.util.gcloudignore and .glob of gcloud 528):

- ``a/b`` is looked for in every folder; only a slash at the beginning, or ``**``, ties a pattern to the app's folder.
- ``*`` at the beginning is in the app's folder. So ``*`` and then ``!web`` uploads ``web`` with all that is in it.
- A backslash is taken away. ``\#`` and ``\!`` at the beginning, and ``\ `` at the end, are themselves; ``\*`` is ``*``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

_ANY_FOLDERS = "**"

_UP_TO_SPACES = re.compile(r"(?:\\.|[^\\]|\\$)*?(?= *$)")
"""A line without the spaces at its end, unless a backslash is before one."""

_ENDS_IN_THE_MIDDLE = re.compile(r"(?<!\\)\\(?:\\\\)*$")
"""An odd number of backslashes: the last one has nothing to go with."""


@dataclass(frozen=True)
class Pattern:
    """Names of files and folders.

    Attributes:
        parts: between the slashes; each is as in a shell, and ``**`` is any number of folders.
        anchored: whether the first part is in the app's folder, instead of anywhere below it.
        folders_only: whether only folders are meant.
        uploads: whether what it names is uploaded although a line before keeps it back.
    """

    parts: tuple[str, ...]
    anchored: bool
    folders_only: bool
    uploads: bool

    @classmethod
    def of(cls, line: str) -> "Pattern | None":
        """Return the pattern in a line, or None if it has none: it is a comment, or empty, or gcloud cannot read it."""
        if line.startswith("#"):
            return None
        text = line.removeprefix("!")
        spaced = text.removesuffix("/")
        found = _UP_TO_SPACES.match(spaced)
        escaped = (found.group() if found else spaced).replace("\\ ", " ")
        plain = re.sub(r"\\([^\\])", r"\1", escaped).replace("\\\\", "\\")
        if not plain or _ENDS_IN_THE_MIDDLE.search(escaped):
            return None
        parts = plain.split("/")
        tied = parts[0] == ""
        return cls(
            parts=tuple(parts[1:] if tied else parts),
            anchored=tied or _ANY_FOLDERS in parts,
            folders_only=text.endswith("/"),
            uploads=line.startswith("!"),
        )

    def matches(self, path: PurePosixPath, is_folder: bool) -> bool:
        """Tell whether a path, relative to the app's folder, is named itself. Its folders are not looked at."""
        if self.folders_only and not is_folder:
            return False
        if self.anchored:
            return _fit(self.parts, path.parts)
        if self.parts[0] == "*":
            return self._matches_with_star(path)
        return _fit(self.parts, path.parts[-len(self.parts) :])

    def _matches_with_star(self, path: PurePosixPath) -> bool:
        """Tell the same of a pattern that begins with ``*``, which is one folder of the app's, or the app's own.

        It is also a folder in a folder whose name is one letter: gcloud counts letters there, where it means folders.
        """
        rest = self.parts[1:]
        if len(path.parts) < len(rest):
            return False
        split = len(path.parts) - len(rest)
        star, below = path.parts[:split], path.parts[split:]
        return len("/".join(star[:-1])) <= 1 and _fit(rest, below)


def _fit(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    """Tell whether a path is one of those wanted, from its first part to its last."""
    if not wanted:
        return not parts
    if wanted[0] == _ANY_FOLDERS:
        return any(_fit(wanted[1:], parts[n:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _fit(wanted[1:], parts[1:])
