"""The servers import the message types of the client libraries and no other part of them."""

import subprocess
import sys

SERVERS_ALONE = """
import sys
import gae_local_cloud.cloud_tasks
import gae_local_cloud.datastore
heavy = {"google.auth", "google.api_core", "requests", "cryptography", "google.cloud.tasks_v2.services"}
print(*sorted((heavy | {"google.cloud.datastore_v1.services"}) & sys.modules.keys()))
"""

CLIENTS_AFTERWARDS = """
from gae_local_cloud.cloud_tasks.messages import Task
from gae_local_cloud.datastore.messages import Key
from google.cloud import datastore_v1, tasks_v2
assert tasks_v2.CloudTasksClient and datastore_v1.DatastoreClient
assert tasks_v2.Task.pb() is Task and datastore_v1.Key.pb() is Key
assert tasks_v2.Task(name="a")._pb == Task(name="a")
"""

CLIENTS_BEFORE = """
from google.cloud import datastore_v1, tasks_v2
from gae_local_cloud.cloud_tasks.messages import Task
from gae_local_cloud.datastore.messages import Key
assert tasks_v2.Task.pb() is Task and datastore_v1.Key.pb() is Key
"""


CLOUD_FOR_TESTS = """
from gae_deferred.testing import CloudForTests
from google.cloud import datastore_v1, tasks_v2
assert datastore_v1.types.Key and tasks_v2.types.Task
"""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_servers_import_no_client_library():
    assert run(SERVERS_ALONE).split() == []


def test_client_libraries_in_the_same_process_have_the_same_messages():
    run(CLIENTS_AFTERWARDS)
    run(CLIENTS_BEFORE)


def test_the_local_cloud_of_tests_leaves_the_client_libraries_whole():
    run(CLOUD_FOR_TESTS)
