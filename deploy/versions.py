"""Names of versions that say what they are."""

import re
import secrets
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from deploy.errors import UsageError

MAX_HOST_LABEL = 63
"""Characters of VERSION-dot-SERVICE-dot-PROJECT, the first part of a version's host name (App Engine documentation, "An
overview of App Engine"; a label of a host name, RFC 1035)."""

_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_RESERVED = ("default", "latest")
_RANDOM_DIGITS = "bcdfghjkmnpqrstvwxz23456789"  # without vowels there are no words, without 0, 1, l and o no confusion


def new(kind: str, app_dir: Path, service: str, project: str) -> str:
    """Return a name for a version that is deployed now, with the commit of the app's folder.

    Raises:
        UsageError: as from :func:`name`.
    """
    return name(kind, datetime.now(UTC), commit(app_dir), service, project)


def name(kind: str, now: datetime, commit: str, service: str, project: str) -> str:
    """Return a name for a new version, such as ``v-20261121-1530-k7m2-96b4d1e-dirty``.

    Parameters:
        kind: what it begins with, a letter: App Engine's instances have numbers. ``v``, or ``e2e`` for tests.
        now: in UTC.
        commit: of the app, from :func:`commit`; left out where the host name has no room for it.
        service: it will belong to.
        project: likewise.

    Raises:
        UsageError: the names of service and project leave no room.
    """
    # The random part keeps those apart that are made in the same minute, and makes the host hard to guess.
    random = "".join(secrets.choice(_RANDOM_DIGITS) for _ in range(4))
    shortest = f"{kind}-{now:%Y%m%d-%H%M}-{random}"
    if commit and len(host_label(f"{shortest}-{commit}", service, project)) <= MAX_HOST_LABEL:
        return f"{shortest}-{commit}"
    return check(shortest, service, project)


def check(version: str, service: str, project: str) -> str:
    """Return the name of a version, if App Engine takes it.

    Raises:
        UsageError: it does not; the message says why.
    """
    if not _NAME.fullmatch(version) or version in _RESERVED or version.startswith("ah-"):
        raise UsageError(
            f"{version!r} cannot be the name of a version: it must be 1 to 63 lower-case letters, digits and hyphens, "
            "without a hyphen at either end, and not default, latest or ah-..."
        )
    label = host_label(version, service, project)
    if len(label) > MAX_HOST_LABEL:
        raise UsageError(
            f"{label} has {len(label)} characters, and a host name takes {MAX_HOST_LABEL}: "
            "name the version (--version) or the service (--service) more briefly"
        )
    return version


def host_label(version: str, service: str, project: str) -> str:
    """Return the first part of the host name of a version. The service named default is left out."""
    return "-dot-".join([version, project] if service == "default" else [version, service, project])


def commit(folder: Path) -> str:
    """Return the commit of a folder, and ``-dirty`` if there are changes since; ``""`` outside a repository."""
    try:
        head = _git(folder, "rev-parse", "--short=7", "HEAD")
        changes = _git(folder, "status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return ""  # there is no git, or nothing has been committed
    return f"{head}-dirty" if changes else head


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()
