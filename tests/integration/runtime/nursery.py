"""Forks processes that die: ``python nursery.py``, then a line of JSON for each on its input, and one for each back.

``{"project": ..., "name": ..., "tasks": N, "step": STEP}`` is killed at a step of one transaction, with ``"after":
SECONDS`` instead of a step at any time of many. What is loaded is loaded once, so that a process costs milliseconds; no
client is made before the fork.
"""

import json
import os
import signal
import sys
import time

import crash_tasks
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb, tasks_v2  # noqa: F401  # loaded once, for all forks

import gae_deferred.outbox  # noqa: F401  # loaded once, for all forks


def live(order: dict[str, object]) -> None:
    """Run transactions until this process is killed, from outside or at a step."""
    os.environ["GOOGLE_CLOUD_PROJECT"] = str(order["project"])
    step = str(order.get("step", ""))
    if step:
        crash_tasks.die_at(step)
    tasks = int(str(order["tasks"]))
    client = ndb.Client(project=os.environ["GOOGLE_CLOUD_PROJECT"], credentials=AnonymousCredentials())
    count = 0
    while True:
        with client.context():
            crash_tasks.transact(f"{order['name']}-{count}", tasks, step)
        if count == 0:
            print("alive", flush=True)
        count += 1


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writing, 1)
            live(order)
        os.close(writing)
        with os.fdopen(reading) as output:
            if "after" in order and output.readline() == "alive\n":
                time.sleep(float(order["after"]))
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
