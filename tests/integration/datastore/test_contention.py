"""Several processes increment one counter, and every update counts."""

import subprocess
import sys

_INCREMENT = """
import os
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb

class Counter(ndb.Model):
    count = ndb.IntegerProperty(default=0)

@ndb.transactional(retries=1000)
def increment():
    counter = Counter.get_by_id("c") or Counter(id="c")
    counter.count += 1
    counter.put()

children = []
for _ in range(4):  # they fork from a process that has loaded NDB and has no connection yet
    child = os.fork()
    if child == 0:
        with ndb.Client(project=sys.argv[1], credentials=AnonymousCredentials()).context():
            for _ in range(int(sys.argv[2])):
                increment()
        os._exit(0)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
sys.exit(any(statuses))
"""


def test_transactions_of_four_processes_on_one_counter_lose_no_update(any_server, any_stub, project, monkeypatch):
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", any_server.address)
    times = 20
    assert subprocess.run([sys.executable, "-c", _INCREMENT, project, str(times)], timeout=120).returncode == 0
    assert any_stub.get("Counter", "c") == {"count": 4 * times}
