"""Google's client libraries, with which tests and clean-up look into a project: where they look, and who pays."""

import os
import warnings

from deploy.errors import UsageError

_EMULATORS = ("CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST")
_QUOTA_PROJECT = "GOOGLE_CLOUD_QUOTA_PROJECT"


def point_at(project: str) -> None:
    """Make sure that they, and those of processes that are started from now on, work in a project.

    Raises:
        UsageError: a variable, perhaps forgotten, sends them to a local cloud. What is in the project would stay there.
    """
    found = [name for name in _EMULATORS if os.environ.get(name)]
    if found:
        names = " ".join(found)
        raise UsageError(
            f"Tasks and data of {project} would be looked for in a local cloud, by {names}. Run first: unset {names}"
        )
    if _is_login_without_quota_project():
        os.environ[_QUOTA_PROJECT] = project


def _is_login_without_quota_project() -> bool:
    """Tell whether a person has logged in without naming the project whose APIs are used.

    They would be those of a project of Google's, which has not enabled them. A service account has a project itself.
    """
    import google.auth  # takes half a second, and only those who come here need it
    from google.auth.exceptions import DefaultCredentialsError
    from google.oauth2.credentials import Credentials

    try:
        with warnings.catch_warnings():  # of what is mended here
            warnings.simplefilter("ignore")
            credentials, _ = google.auth.default()
    except DefaultCredentialsError:
        return False  # who needs them says so
    return isinstance(credentials, Credentials) and credentials.quota_project_id is None
