"""``gae-deferred emulators``: the local cloud for apps and tests that are started otherwise."""

import os
import re
import signal

from .commands import FREE_PORTS, get, running


def test_it_prints_export_lines_and_ready_answers_on_the_rest_port_and_stops_cleanly(tmp_path):
    with running("emulators", "--ephemeral", *FREE_PORTS, cwd=tmp_path, GOOGLE_CLOUD_PROJECT="my-project") as command:
        command.wait_for(r"(?m)^ready$")
        exports = dict(re.findall(r"(?m)^export (\w+)=(.*)$", command.output))
        assert exports["GOOGLE_CLOUD_PROJECT"] == "my-project"
        assert exports["DEFERRED_LOCATION"] == "us-central1"
        assert re.fullmatch(r"127\.0\.0\.1:\d+", exports["CLOUD_TASKS_EMULATOR_HOST"])
        assert re.fullmatch(r"127\.0\.0\.1:\d+", exports["DATASTORE_EMULATOR_HOST"])
        rest = re.search(r"http://127\.0\.0\.1:\d+", command.output)[0]
        assert get(f"{rest}/")[0] == 200
        os.kill(command.process.pid, signal.SIGTERM)
        assert command.wait() == 0
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
