"""The servers under test: the embedded Datastore and both of Google's emulators."""

import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from tests.integration.datastore.wire import Stub, serving

EMBEDDED, FIRESTORE, DATASTORE = "embedded", "firestore", "datastore"

_COMMANDS = {
    FIRESTORE: ["gcloud", "emulators", "firestore", "start", "--database-mode=datastore-mode"],
    DATASTORE: [
        *["gcloud", "beta", "emulators", "datastore", "start"],
        *["--no-store-on-disk", "--consistency=1.0", "--project=conformance"],
    ],
}
_START_SECONDS = 60.0

_projects = itertools.count()


@contextmanager
def _emulator(name: str) -> Iterator[str]:
    """Start one of Google's emulators; yield its host:port. Skip with a reason if it cannot start.

    ``FIRESTORE_CONFORMANCE_HOST`` and ``DATASTORE_CONFORMANCE_HOST`` name a running one.
    """
    running = os.environ.get(f"{name.upper()}_CONFORMANCE_HOST")
    if running:
        yield running
        return
    if shutil.which("gcloud") is None:
        pytest.skip(f"Google's {name} emulator is not there: gcloud is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [*_COMMANDS[name], f"--host-port={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # gcloud starts a shell that starts Java: end them together
    )
    try:
        _wait_until_it_answers(name, address, process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_it_answers(name: str, address: str, process: "subprocess.Popen[bytes]") -> None:
    stub = Stub(address, "probe")
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(stub):
        if process.poll() is not None:
            pytest.skip(f"Google's {name} emulator is not there: gcloud ended with {process.returncode}")
        if time.monotonic() > deadline:
            pytest.skip(f"Google's {name} emulator did not answer in {_START_SECONDS:.0f} s")
    stub.close()


def _answers(stub: Stub) -> bool:
    try:
        stub.call("Lookup", timeout=1.0, wait_for_ready=True)
    except grpc.RpcError:
        return False
    return True


@pytest.fixture(scope="session")
def embedded() -> Iterator[str]:
    with serving() as server:
        yield server.address


@pytest.fixture(scope="session")
def firestore() -> Iterator[str]:
    with _emulator(FIRESTORE) as address:
        yield address


@pytest.fixture(scope="session")
def datastore() -> Iterator[str]:
    with _emulator(DATASTORE) as address:
        yield address


@pytest.fixture(params=[EMBEDDED, FIRESTORE, DATASTORE])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of the server under test."""
    return str(request.param)


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Callable[[str], Stub]:
    """Return a function that makes a stub of a server by name, with a project of its own."""

    def connect(name: str) -> Stub:
        address = request.getfixturevalue(name)
        return Stub(address, f"conformance-{secrets.token_hex(3)}-{next(_projects)}")

    return connect


@pytest.fixture
def stub(backend: str, connect: Callable[[str], Stub]) -> Iterator[Stub]:
    found = connect(backend)
    yield found
    found.close()
