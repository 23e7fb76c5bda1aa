"""What `gcloud app deploy` uploads of a folder, copied as App Engine would find it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy.errors import StagingError
from deploy.ignored import NAME, Ignored

_DEFAULT = [NAME, ".git", ".gitignore", "__pycache__/", "/setup.cfg"]
"""What gcloud writes into a .gcloudignore for an app in Python that has none."""

_INCLUDE = "!include:"
"""Between ``#`` and the name of a file, it makes a line stand for that file's (`gcloud topic gcloudignore`)."""


def upload(folder: Path, target: Path) -> list[str]:
    """Copy what gcloud would upload, links as what they lead to, empty folders not at all.

    Parameters:
        folder: in which `gcloud app deploy` would be called.
        target: a folder that does not exist yet.

    Returns:
        The names of the files, relative to the folder.

    Raises:
        StagingError: .gcloudignore includes a file that is not there, or one of another folder.
    """
    names = list(Ignored("\n".join(_patterns(folder))).files(folder))
    target.mkdir()
    for name in names:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, copy)
    return names


def _patterns(folder: Path) -> Iterator[str]:
    path = folder / NAME
    if not path.exists():
        yield from _DEFAULT
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        directive = line[1:].lstrip()
        if line.startswith("#") and directive.startswith(_INCLUDE):
            yield from _included(folder, directive.removeprefix(_INCLUDE))
        else:
            yield line


def _included(folder: Path, name: str) -> list[str]:
    if "/" in name:
        raise StagingError(f"{NAME} includes {name!r}, but gcloud includes files of the same folder only.")
    try:
        return (folder / name).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise StagingError(f"{NAME} includes {name!r}, which is not in {folder}: remove the line.") from error
