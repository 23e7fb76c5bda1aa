"""Runs code in forked processes: ``python django_nursery.py``.

It reads one request a line from its input, ``{"code": ..., "environment": {...}}``, and answers each with one line of
JSON: how the process ended and what it wrote. Django and Cloud NDB are loaded once, so that a process costs
milliseconds. Neither is set up before the fork.
"""

import json
import os
import signal
import sys
import tempfile
import traceback

import django_database_app
from google.cloud import ndb  # noqa: F401  # loaded once, for all forks


def live(code: str, environment: dict[str, str]) -> None:
    """Run code that has the names of the app, in this environment, and end this process. It may take a minute."""
    signal.alarm(60)
    os.environ.clear()
    os.environ.update(environment)
    try:
        exec(code, {name: getattr(django_database_app, name) for name in django_database_app.__all__})  # noqa: S102  # of a test
    except BaseException:  # noqa: BLE001  # the test shows it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def main() -> None:
    for line in sys.stdin:
        with tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                os.dup2(errors.fileno(), 1)  # stdout carries the answers
                os.dup2(errors.fileno(), 2)
                live(**json.loads(line))
            _, status = os.waitpid(child, 0)
            errors.seek(0)
            answer = {"code": os.waitstatus_to_exitcode(status), "errors": errors.read().decode(errors="replace")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
