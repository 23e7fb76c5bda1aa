"""The server imports the message types of the client libraries and no other part of them."""

import subprocess
import sys

import grpc

from gae_local_cloud.cloud_tasks.errors import Code

SERVER_ALONE = """
import sys
import gae_local_cloud.cloud_tasks
heavy = {"google.auth", "google.api_core", "requests", "cryptography", "google.cloud.tasks_v2.services"}
print(*sorted(heavy & sys.modules.keys()))
"""

CLIENT_AFTERWARDS = """
from gae_local_cloud.cloud_tasks.messages import Task
from google.cloud import tasks_v2
assert tasks_v2.CloudTasksClient
assert tasks_v2.Task.pb() is Task
assert tasks_v2.Task(name="a")._pb == Task(name="a")
"""

CLIENT_BEFORE = """
from google.cloud import tasks_v2
from gae_local_cloud.cloud_tasks.messages import Task
assert tasks_v2.Task.pb() is Task
"""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_server_imports_no_client_library() -> None:
    assert run(SERVER_ALONE).split() == []


def test_client_library_in_the_same_process_has_the_same_messages() -> None:
    run(CLIENT_AFTERWARDS)
    run(CLIENT_BEFORE)


def test_codes_are_those_of_grpc() -> None:
    assert {code.name: code.value for code in Code} == {code.name: grpc.StatusCode[code.name].value[0] for code in Code}
