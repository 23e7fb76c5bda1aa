"""The names of App Engine versions."""

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
_RANDOM_DIGITS = "bcdfghjkmnpqrstvwxz23456789"  # no vowels, so no words; no 0, 1, l and o, so no confusion


def new(kind: str, app_dir: Path, service: str, project: str) -> str:
    """Return a name for a version that is deployed now, with the commit of the app's folder.

    Raises:
        UsageError: as from :func:`name`.
    """
    return name(kind, datetime.now(UTC), commit(app_dir), service, project)


def name(kind: str, now: datetime, commit: str, service: str, project: str) -> str:
    """Return a name for a new version, such as ``v-20261121-1530-k7m2-96b4d1e-dirty``.

    Parameters:
        kind: prefix of the name: ``v``, or ``e2e`` for tests. It begins with a letter, because numbers name instances.
        now: time of the deploy, in UTC.
        commit: commit of the app, from :func:`commit`; left out if the host name would be too long.
        service: service of the version.
        project: project of the service.

    Raises:
        UsageError: the names of service and project leave no room in the host name.
    """
    # The random part distinguishes versions of the same minute, and makes the host name hard to guess.
    random = "".join(secrets.choice(_RANDOM_DIGITS) for _ in range(4))
    shortest = f"{kind}-{now:%Y%m%d-%H%M}-{random}"
    if commit and len(host_label(f"{shortest}-{commit}", service, project)) <= MAX_HOST_LABEL:
        return f"{shortest}-{commit}"
    return check(shortest, service, project)


def check(version: str, service: str, project: str) -> str:
    """Return a name given for a version, if App Engine accepts it.

    Raises:
        UsageError: App Engine does not; the message says why.
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
            "choose a shorter name for the version (--version) or the service (--service)"
        )
    return version


def host_label(version: str, service: str, project: str) -> str:
    """Return the first label of a version's host name. It leaves out the service default."""
    return "-dot-".join([version, project] if service == "default" else [version, service, project])


def commit(folder: Path) -> str:
    """Return the commit of a folder, with ``-dirty`` if it has uncommitted changes; ``""`` outside a repository."""
    try:
        head = _git(folder, "rev-parse", "--short=7", "HEAD")
        changes = _git(folder, "status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return ""  # git is missing, or the repository has no commit
    return f"{head}-dirty" if changes else head


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (the user's own git)
    return done.stdout.strip()
