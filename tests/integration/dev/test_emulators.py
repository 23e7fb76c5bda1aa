"""``gae-deferred emulators``: the local cloud for apps and tests that are started otherwise."""

import os
import re
import signal
import socket
import urllib.request

import pytest

from .commands import FREE_PORTS, get, running


def test_it_prints_export_lines_and_ready_answers_on_the_rest_port_and_stops_cleanly(tmp_path):
    with running("emulators", "--ephemeral", *FREE_PORTS, cwd=tmp_path, GOOGLE_CLOUD_PROJECT="my-project") as command:
        command.wait_for(r"(?m)^ready$")
        exports = dict(re.findall(r"(?m)^export (\w+)=(.*)$", command.output))
        assert exports["GOOGLE_CLOUD_PROJECT"] == "my-project"
        assert exports["DEFERRED_LOCATION"] == "us-central1"
        assert re.fullmatch(r"127\.0\.0\.1:\d+", exports["CLOUD_TASKS_EMULATOR_HOST"])
        assert re.fullmatch(r"127\.0\.0\.1:\d+", exports["DATASTORE_EMULATOR_HOST"])
        http = re.search(r"http://(127\.0\.0\.1:\d+), data in memory", command.output)[1]
        assert exports["DATASTORE_HOST"] == f"http://{http}"
        assert exports["DATASTORE_EMULATOR_HOST_PATH"] == f"{http}/datastore"
        assert exports["DATASTORE_DATASET"] == exports["DATASTORE_PROJECT_ID"] == "my-project"
        assert f"# export DATASTORE_EMULATOR_HOST={http}\n" in command.output
        assert get(f"http://{http}/") == (200, "Ok\n")
        rest = re.search(r"http://127\.0\.0\.1:\d+", command.output)[0]
        assert get(f"{rest}/")[0] == 200
        os.kill(command.process.pid, signal.SIGTERM)
        assert command.wait() == 0
        assert "Traceback" not in command.output


def test_datastore_over_http_takes_the_next_port_if_it_is_free_and_shuts_the_local_cloud_down(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ports = (*FREE_PORTS[:4], "--datastore-port", str(port))
    with running("emulators", "--ephemeral", *ports, cwd=tmp_path) as first:
        first.wait_for(r"(?m)^ready$")
        http = re.search(r"DATASTORE_HOST=(\S+)", first.output)[1]
        with running(
            "emulators", "--ephemeral", *FREE_PORTS[:4], "--datastore-port", str(port - 1), cwd=tmp_path
        ) as other:
            other.wait_for(r"(?m)^ready$")
            assert f"127.0.0.1:{port}," not in other.output, "the port of the other's gRPC is taken"
        assert http.endswith(f":{port + 1}") or not _is_free(port + 1)
        assert urllib.request.urlopen(f"{http}/shutdown", data=b"", timeout=10).status == 200
        assert first.wait() == 0
        assert "Traceback" not in first.output


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", ["cloud-tasks.sqlite3", "datastore.sqlite3"])
def test_a_damaged_file_in_the_data_folder_is_one_message(tmp_path, name):
    with running("emulators", "--data-dir", "data", *FREE_PORTS, cwd=tmp_path) as command:
        command.wait_for(r"(?m)^ready$")
        os.kill(command.process.pid, signal.SIGTERM)
        assert command.wait() == 0
    path = tmp_path / "data" / name
    path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * 40_000)
    with running("emulators", "--data-dir", "data", *FREE_PORTS, cwd=tmp_path) as command:
        assert command.wait() == 1
        assert f"data/{name} is damaged" in command.output
        assert "Traceback" not in command.output


def test_the_default_queue_and_the_named_ones_exist_at_start(tmp_path):
    import grpc
    from google.cloud import tasks_v2
    from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

    arguments = ("emulators", "--ephemeral", *FREE_PORTS, "--queue", "mail", "--queue", "slow")
    with running(*arguments, cwd=tmp_path, GOOGLE_CLOUD_PROJECT="p", DEFERRED_LOCATION="europe-west1") as command:
        command.wait_for(r"(?m)^ready$")
        address = re.search(r"CLOUD_TASKS_EMULATOR_HOST=(\S+)", command.output)[1]
        with grpc.insecure_channel(address) as channel:
            client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
            queues = client.list_queues(parent="projects/p/locations/europe-west1")
            assert sorted(queue.name.rpartition("/")[2] for queue in queues) == ["default", "mail", "slow"]


def test_options_that_contradict_each_other_or_are_no_values_are_told(tmp_path):
    for arguments, message in (
        (("--ephemeral", "--data-dir", "x"), "choose one"),
        (("--service", "worker"), "'worker' is not NAME=URL"),
        (("--tasks-port", "70000"), "70000 is not in the range"),
    ):
        with running("emulators", *arguments, cwd=tmp_path) as command:
            assert command.wait() == 2
            assert message in command.output
