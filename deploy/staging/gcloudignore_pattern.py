r"""One line of a .gcloudignore, as gcloud reads it.

Three differences from .gitignore matter to apps (googlecloudsdk.command_lib.util.gcloudignore and .glob of gcloud 528):

- ``a/b`` matches in every folder. Only a leading slash, or ``**``, anchors a pattern to the app's folder.
- A leading ``*`` matches in the app's folder only. So ``*`` followed by ``!web`` uploads ``web`` with its content.
- A backslash is removed. A leading ``\#`` or ``\!``, and a trailing ``\ ``, are literal; ``\*`` is still ``*``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

_ANY_FOLDERS = "**"

_UP_TO_SPACES = re.compile(r"(?:\\.|[^\\]|\\$)*?(?= *$)")
"""A line without its trailing spaces, except one after a backslash."""

_ENDS_IN_THE_MIDDLE = re.compile(r"(?<!\\)\\(?:\\\\)*$")
"""An odd number of trailing backslashes: the last one escapes nothing."""


@dataclass(frozen=True)
class Pattern:
    """A pattern for paths.

    Attributes:
        parts: the parts between the slashes: shell patterns, or ``**`` for any number of folders.
        anchored: whether the first part is in the app's folder, not anywhere below it.
        folders_only: whether it matches folders only.
        uploads: whether a match is uploaded, overriding earlier lines.
    """

    parts: tuple[str, ...]
    anchored: bool
    folders_only: bool
    uploads: bool

    @classmethod
    def of(cls, line: str) -> "Pattern | None":
        """Return the pattern in a line; None for a comment, an empty line, or one that gcloud cannot read."""
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
        """Return whether the pattern matches a path relative to the app's folder. It ignores the path's parents."""
        if self.folders_only and not is_folder:
            return False
        if self.anchored:
            return _fit(self.parts, path.parts)
        if self.parts[0] == "*":
            return self._matches_with_star(path)
        return _fit(self.parts, path.parts[-len(self.parts) :])

    def _matches_with_star(self, path: PurePosixPath) -> bool:
        """Return whether a pattern that begins with ``*`` matches a path.

        The ``*`` stands for the app's folder, or one folder in it. It also stands for a folder in a folder with a name
        of one letter, because gcloud counts letters there instead of folders.
        """
        rest = self.parts[1:]
        if len(path.parts) < len(rest):
            return False
        split = len(path.parts) - len(rest)
        star, below = path.parts[:split], path.parts[split:]
        return len("/".join(star[:-1])) <= 1 and _fit(rest, below)


def _fit(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether all parts of a path match all parts of a pattern."""
    if not wanted:
        return not parts
    if wanted[0] == _ANY_FOLDERS:
        return any(_fit(wanted[1:], parts[n:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _fit(wanted[1:], parts[1:])
