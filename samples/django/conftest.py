"""What the tests stand on: the app, and the local cloud that gae-deferred brings to every pytest run."""

import pytest


@pytest.fixture
def site(local_cloud):
    """Serve the app, and return its address.

    The app shares a process with the tests: a breakpoint in it stops, and what a test replaces in it is replaced. The
    local cloud is empty for each test, and its tasks wait until the test runs them.
    """
    # Not at the top of the file: the app looks at its environment when it is imported.
    from main import app

    local_cloud.app = app
    return local_cloud.app_url
