"""Fixtures of the unit tests: an environment without settings, and a Cloud Tasks that keeps its requests in lists."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # other processes import the helpers beside the tests by the same names

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
    monkeypatch.setattr(dead_letters, "_try", lambda act, what: True)  # there is no Datastore to write to
    settings.forget()
    yield
    settings.forget()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> FakeCloudTasks:
    """The Cloud Tasks of project ``my-project`` in ``us-east1``. It records its requests."""
    fake = FakeCloudTasks()
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(lambda address: fake))
    monkeypatch.setattr(cloud_tasks, "_creator", PerProcess(lambda address: fake.create_task))
    monkeypatch.setattr(cloud_tasks, "time", FakeTime())
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.setenv("DEFERRED_LOCATION", "us-east1")
    monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@my-project.iam.gserviceaccount.com")  # proves its tasks
    return fake


@pytest.fixture
def marks() -> list[str]:
    """Marks of tasks that have run, and of traps that were unpickled."""
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
    """The address of a Datastore, so that NDB opens contexts. No server listens there."""
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
