"""What `gcloud app deploy` uploads of a folder, copied as App Engine would find it."""

from pathlib import Path

from deploy.staging.ignored import NAME, Ignored

_DEFAULT = [NAME, ".git", ".gitignore", "__pycache__/", "/setup.cfg"]
"""What gcloud writes into a .gcloudignore for an app in Python that has none."""


def upload(folder: Path, target: Path) -> list[str]:
    """Copy what gcloud would upload, links as what they lead to, empty folders not at all.

    Parameters:
        folder: in which `gcloud app deploy` would be called.
        target: a folder that does not exist yet.

    Returns:
        The names of the files, relative to the folder.

    Raises:
        StagingError: .gcloudignore includes a file that is not there, or one of another folder; or a link cannot be
            followed.
    """
    ignored = Ignored.of(folder, otherwise=_DEFAULT)
    target.mkdir()
    return ignored.copy(folder, target)
