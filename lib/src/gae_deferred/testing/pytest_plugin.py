"""The pytest fixture ``local_cloud``, in every test run where ``gae-deferred[local]`` is installed.

::

    def test_an_order_is_confirmed(local_cloud):
        shop.order("tea")
        assert local_cloud.queue.run_next().function is shop.send_confirmation
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # every pytest run imports this module, even if it never uses the fixtures
    from gae_deferred.testing import CloudForTests


@pytest.fixture(autouse=True)
def _settings_of_this_test() -> None:
    """Read the settings anew for each test: a process remembers ``GAE_ENV`` and signing keys."""
    settings = sys.modules.get("gae_deferred.settings")
    if settings is not None:
        settings.forget()


@pytest.fixture(scope="session")
def _local_cloud_thread(pytestconfig: pytest.Config) -> "Iterator[CloudForTests]":
    from gae_deferred.testing import CloudForTests

    with CloudForTests(_queue_yaml(pytestconfig)) as cloud:
        yield cloud


def _queue_yaml(config: pytest.Config) -> Path | None:
    """Return the app's ``queue.yaml``: in the folder where pytest was started, else in pytest's rootdir."""
    files = (folder / "queue.yaml" for folder in (config.invocation_params.dir, config.rootpath))
    return next((file for file in files if file.is_file()), None)


@pytest.fixture
def local_cloud(_local_cloud_thread: "CloudForTests") -> "Iterator[CloudForTests]":
    """A local cloud that is empty for each test; see :class:`gae_deferred.testing.CloudForTests`.

    It has the queues of the app's ``queue.yaml``: one in the folder where pytest was started, else in its rootdir.
    """
    _local_cloud_thread.reset()
    with _local_cloud_thread.in_use():
        yield _local_cloud_thread


@pytest.fixture(scope="session")
def session_local_cloud(pytestconfig: pytest.Config) -> "Iterator[CloudForTests]":
    """A local cloud that all tests of a run share, with the tasks and entities of earlier tests."""
    from gae_deferred.testing import CloudForTests

    with CloudForTests(_queue_yaml(pytestconfig)) as cloud, cloud.in_use():
        yield cloud
