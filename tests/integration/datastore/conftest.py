import itertools
from collections.abc import Iterator

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import datastore, ndb

from gae_local_cloud.datastore import Concurrency

from .wire import Serving, Stub, serving

_projects = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Serving]:
    """An embedded Datastore. All tests share it; each has its own project."""
    with serving() as found:
        yield found


@pytest.fixture(scope="session")
def address(server: Serving) -> str:
    """The host:port of the shared Datastore over gRPC."""
    return server.address


@pytest.fixture(scope="session")
def http_address(server: Serving) -> str:
    """The host:port of the shared Datastore over HTTP."""
    return server.http_address


@pytest.fixture
def project() -> str:
    """A project id that no other test uses."""
    return f"project-{next(_projects)}"


@pytest.fixture
def stub(address: str, project: str) -> Iterator[Stub]:
    found = Stub(address, project)
    yield found
    found.close()


@pytest.fixture(scope="session")
def optimistic_server() -> Iterator[Serving]:
    """An embedded Datastore whose transactions are optimistic."""
    with serving(concurrency=Concurrency.OPTIMISTIC) as found:
        yield found


@pytest.fixture
def optimistic_stub(optimistic_server: Serving, project: str) -> Iterator[Stub]:
    found = Stub(optimistic_server.address, project)
    yield found
    found.close()


@pytest.fixture(params=list(Concurrency))
def any_server(request: pytest.FixtureRequest) -> Serving:
    """An embedded Datastore, in each concurrency mode."""
    optimistic = request.param is Concurrency.OPTIMISTIC
    return request.getfixturevalue("optimistic_server" if optimistic else "server")


@pytest.fixture
def any_stub(any_server: Serving, project: str) -> Iterator[Stub]:
    found = Stub(any_server.address, project)
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
