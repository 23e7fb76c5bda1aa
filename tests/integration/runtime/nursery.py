"""Forks processes that die: ``python nursery.py``, then a line of JSON for each on its input, and one for each back.

``{"project": ..., "name": ..., "tasks": N, "step": STEP}`` is killed at a step of one transaction, with ``"after":
SECONDS`` instead of a step at any time of many. With ``"lines": N`` it is killed when it has run N lines of the library
in one transaction; if there are fewer, it ends with 0. What is loaded is loaded once, so that a process costs
milliseconds; no client is made before the fork.
"""

import json
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import killed_tasks
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb, tasks_v2  # noqa: F401  # loaded once, for all forks

import gae_deferred
import gae_deferred.outbox  # loaded once, for all forks

LIBRARY = os.path.dirname(gae_deferred.__file__)  # noqa: PTH120  # as frames have it


def die_after_lines(count: int) -> None:
    """Let this process be killed before it runs one more than ``count`` lines of the library, in whatever thread."""
    run = 0

    def trace_line(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal run
        if event == "line":
            if run == count:
                killed_tasks.die()
            run += 1
        return trace_line

    def trace_call(frame: FrameType, event: str, arg: Any) -> Any:
        return trace_line if frame.f_code.co_filename.startswith(LIBRARY) else None

    threading.settrace(trace_call)
    sys.settrace(trace_call)


def live(order: dict[str, Any]) -> None:
    """Run transactions until this process is killed, from outside, at a step or after some lines."""
    os.environ["GOOGLE_CLOUD_PROJECT"] = order["project"]
    step: str = order.get("step", "")
    if step:
        killed_tasks.die_at(step)
    client = ndb.Client(project=order["project"], credentials=AnonymousCredentials())
    if "lines" in order:
        die_after_lines(order["lines"])
    count = 0
    while True:
        with client.context():
            killed_tasks.transact(f"{order['name']}-{count}", order["tasks"], step)
        if "lines" in order:
            os._exit(0)
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
