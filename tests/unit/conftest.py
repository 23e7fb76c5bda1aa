"""What the unit tests share: an environment without settings, and a Cloud Tasks that is a list."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).parent)
)  # the helpers beside the tests are modules that other processes import too

from app_engine import ON_APP_ENGINE
from deferred_callables import MARKS
from fake_cloud_tasks import FakeCloudTasks, FakeTime

from gae_deferred import cloud_tasks, dead_letters, settings
from gae_deferred.per_process import PerProcess

SETTINGS = ("GAE_", "DEFERRED_", "GOOGLE_", "CLOUD_TASKS_", "DATASTORE_", "LOCATION_ID")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in os.environ:
        if name.startswith(SETTINGS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # google-auth is not to look for Google's machines
    monkeypatch.setattr(dead_letters, "_try_to_keep", lambda write, what: None)  # there is no Datastore to write to
    settings.forget()
    yield
    settings.forget()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> FakeCloudTasks:
    """The Cloud Tasks of project ``my-project`` in ``us-east1``; it records what it is sent."""
    fake = FakeCloudTasks()
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(lambda address: fake))
    monkeypatch.setattr(cloud_tasks, "time", FakeTime())
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.setenv("DEFERRED_LOCATION", "us-east1")
    monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@my-project.iam.gserviceaccount.com")  # proves its tasks
    return fake


@pytest.fixture
def marks() -> list[str]:
    """What tasks, and the unpickling of traps, have left."""
    MARKS.clear()
    return MARKS


@pytest.fixture
def app_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ON_APP_ENGINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")  # contexts are opened without credentials
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")


@pytest.fixture
def datastore(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Datastore that contexts can be opened for; nobody listens there."""
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
