"""Acknowledged commits survive ``kill -9``; a full disk and a damaged file are told with their path."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import Mock

import grpc
import pytest

from .wire import Stub, refused, serving, unindexed

_SERVE = """
import asyncio, sys
import grpc.aio
from gae_local_cloud.clock import SystemClock
from gae_local_cloud.datastore import MIGRATIONS, DatastoreServer
from gae_local_cloud.storage import Database

async def main():
    server = DatastoreServer(Database(sys.argv[1], MIGRATIONS), SystemClock())
    await server.start()
    grpc_server = grpc.aio.server()
    grpc_server.add_generic_rpc_handlers(tuple(server.grpc_handlers()))
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    print(port, flush=True)
    await grpc_server.wait_for_termination()

asyncio.run(main())
"""


@pytest.fixture
def start(tmp_path: Path):
    """Start a server process on the same file; return the process and a stub."""
    processes: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], Stub]:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(tmp_path / "datastore.db")], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        return process, Stub(f"127.0.0.1:{int(process.stdout.readline())}", "p")

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_every_acknowledged_commit_is_there_after_kill_9(start):
    process, stub = start()
    stub.put(*(stub.entity("Before", number, v=number) for number in range(1, 301)))
    acknowledged: list[int] = []
    dead = threading.Event()

    def write() -> None:
        for number in range(1, 1_000_000):
            try:
                stub.put(stub.entity("K", number, v=number), stub.entity("Twin", number))
            except grpc.RpcError:
                dead.set()
                return
            acknowledged.append(number)
            if number == 200:
                os.kill(process.pid, signal.SIGKILL)

    writer = threading.Thread(target=write)
    writer.start()
    assert dead.wait(30)
    writer.join()
    process.wait()

    _, stub = start()
    found = stub.names("K", order=["v"])
    assert found[: len(acknowledged)] == acknowledged
    assert stub.names("Twin") == found  # a commit is there as a whole
    assert len(stub.names("Before")) == 300
    key = stub.put(stub.entity("K", v=-1)).mutation_results[0].key
    assert stub.names("K", order=["v"])[0] == key.path[0].id


def test_versions_ids_and_cursors_go_on_after_a_restart(start):
    process, stub = start()
    first = stub.put(*(stub.entity("K", v=number) for number in range(4)))
    cursor = stub.batch("K", order=["v"], limit=2).end_cursor
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, stub = start()
    second = stub.put(stub.entity("K", v=9))
    assert second.mutation_results[0].version > first.mutation_results[0].version
    ids = {result.key.path[0].id for response in (first, second) for result in response.mutation_results}
    assert len(ids) == 5
    assert len(stub.names("K", order=["v"], start_cursor=cursor)) == 3


def test_a_full_disk_is_resource_exhausted_with_the_path_and_leaves_nothing_of_the_commit(tmp_path):
    path = tmp_path / "store.db"
    with serving(path) as server:
        stub, database = Stub(server.address, "p"), server.server.service.entities.database
        stub.put(stub.entity("K", 1, v=1))

        def limit(more: int) -> None:
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            database.execute(f"PRAGMA max_page_count = {pages + more}")

        server.on_loop(lambda: limit(2))
        with refused("RESOURCE_EXHAUSTED", str(path)):
            stub.put(stub.entity("K", 2, v=2), stub.entity("New", 3, v=unindexed("x" * 500_000)))
        assert stub.names("K") == [1]
        server.on_loop(lambda: limit(10_000))
        stub.put(stub.entity("K", 2, v=2), stub.entity("New", 3, v=unindexed("x" * 500_000)))
        assert (stub.names("K", order=["v"]), stub.names("New")) == ([1, 2], [3])
        stub.close()


def test_damage_found_by_a_request_is_an_error_with_the_path(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    with serving(path) as server:
        stub = Stub(server.address, "p")
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        monkeypatch.setattr(server.server.service.entities, "get", Mock(side_effect=error))
        with refused("INTERNAL", f"{path} is damaged"):
            stub.get("K", 1)
        stub.close()
