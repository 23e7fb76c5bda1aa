import itertools
from collections.abc import Iterator

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import datastore, ndb

from .wire import Stub, serving

_projects = itertools.count()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where an embedded Datastore listens, one for the whole run: tests keep apart by their projects."""
    with serving() as server:
        yield server.address


@pytest.fixture
def project() -> str:
    """A project id that no other test uses."""
    return f"project-{next(_projects)}"


@pytest.fixture
def stub(address: str, project: str) -> Iterator[Stub]:
    found = Stub(address, project)
    yield found
    found.close()


@pytest.fixture
def emulated(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", address)


@pytest.fixture
def client(emulated: None, project: str) -> datastore.Client:
    """The google-cloud-datastore client, as an app would make it."""
    return datastore.Client(project=project)


@pytest.fixture
def ndb_context(emulated: None, project: str) -> Iterator[None]:
    """A Cloud NDB context, as an app would open it, without the cache that would hide the server."""
    client = ndb.Client(project=project, credentials=AnonymousCredentials())
    with client.context(cache_policy=False):
        yield
    channel: grpc.Channel = client.stub.grpc_channel
    channel.close()
