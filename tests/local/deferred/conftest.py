"""An app that runs its tasks, and the local cloud that it uses, in the test's own process, on real sockets."""

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # other processes import the helpers and the tasks by these names too

from harness import Cloud

from gae_deferred import settings

_projects = itertools.count()
_SETTINGS = ("GAE_", "DEFERRED_", "GOOGLE_", "CLOUD_TASKS_", "DATASTORE_", "LOCATION_ID")


@pytest.fixture(scope="session")
def running_cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(running_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The local cloud, with a project of this test's own."""
    for name in os.environ:
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)
    running_cloud.begin(f"project-{next(_projects)}")
    for name, value in running_cloud.environment.items():
        monkeypatch.setenv(name, value)
    settings.forget()
    with running_cloud.context():
        yield running_cloud
