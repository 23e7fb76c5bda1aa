"""A fixture of the tests, ``site``. A second one, ``local_cloud``, comes with gae-deferred: a local cloud in memory."""

import pytest


@pytest.fixture
def site(local_cloud):
    """Serve the app, and return its URL.

    The app runs in the process of the tests, so breakpoints and monkeypatching work in it. Each test starts with an
    empty local cloud. Tasks wait until the test runs them.
    """
    # Imported here because the app reads its environment when it is imported, and local_cloud sets the environment.
    from main import app

    local_cloud.app = app
    return local_cloud.app_url
