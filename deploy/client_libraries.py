"""Makes Google's client libraries work in the right project, and never in a forgotten local cloud."""

import os
import warnings

from deploy.errors import UsageError

_EMULATORS = ("CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST")
_QUOTA_PROJECT = "GOOGLE_CLOUD_QUOTA_PROJECT"


def point_at(project: str) -> None:
    """Make the client libraries of this process and its children work in a project.

    Raises:
        UsageError: as from :func:`refuse_emulators`.
    """
    refuse_emulators(project)
    if _is_login_without_quota_project():
        os.environ[_QUOTA_PROJECT] = project


def refuse_emulators(project: str) -> None:
    """Check that the client libraries do not use a local cloud, which would leave the project's data behind.

    Raises:
        UsageError: an environment variable, perhaps forgotten, names a local cloud.
    """
    found = [name for name in _EMULATORS if os.environ.get(name)]
    if found:
        names = " ".join(found)
        raise UsageError(
            f"With {names} set, the tasks and data of {project} would be looked for in a local cloud. "
            f"Run first: unset {names}"
        )


def _is_login_without_quota_project() -> bool:
    """Return whether a person has logged in without naming a quota project.

    Requests would then use a project of Google's, which has not enabled the APIs. A service account brings its own.
    """
    import google.auth  # loads in half a second, which other commands need not wait for
    from google.auth.exceptions import DefaultCredentialsError
    from google.oauth2.credentials import Credentials

    try:
        with warnings.catch_warnings():  # about the missing quota project, which is set here
            warnings.simplefilter("ignore")
            credentials, _ = google.auth.default()
    except DefaultCredentialsError:
        return False  # the first request will report it
    return isinstance(credentials, Credentials) and credentials.quota_project_id is None
