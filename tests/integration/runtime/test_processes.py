"""Google's clients work in a process that was forked from one that used them, and in the one that forked."""

import json
import os
import subprocess
import sys

from .local_app import LocalApp

FORK = """
import json, os, signal
from gae_deferred import datastore, deferred
from google.cloud import ndb

class Mark(ndb.Model):
    pass

def use(name):
    task = deferred.defer(len, name, _name=name, _countdown=3600)
    with datastore.context():
        Mark(id=name).put()
    return task.name

def fork(name):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            os.write(write, use(name).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    with open(read) as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return answer

used = [use("parent"), *(fork(f"child-{number}") for number in range(4)), use("parent-again")]
with datastore.context():
    stored = sorted(key.id() for key in Mark.query().fetch(keys_only=True))
print(json.dumps([used, stored]))
"""


def test_clients_work_before_and_after_a_fork_in_both_processes(local: LocalApp):
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env={"PYTHONPATH": os.pathsep.join(sys.path), **local.cloud.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    used, stored = json.loads(done.stdout)
    assert used == ["parent", "child-0", "child-1", "child-2", "child-3", "parent-again"]
    assert stored == sorted(used)
