"""Several processes increment one counter, and every update counts."""

import subprocess
import sys

_INCREMENT = """
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

with ndb.Client(project=sys.argv[1], credentials=AnonymousCredentials()).context():
    for _ in range(int(sys.argv[2])):
        increment()
"""


def test_transactions_of_four_processes_on_one_counter_lose_no_update(any_server, any_stub, project, monkeypatch):
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", any_server.address)
    times = 20
    processes = [subprocess.Popen([sys.executable, "-c", _INCREMENT, project, str(times)]) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert any_stub.get("Counter", "c") == {"count": 4 * times}
