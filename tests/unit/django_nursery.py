"""Forks processes that run code: ``python django_nursery.py``, then a line of JSON for each, and one for each back.

``{"code": ..., "environment": {...}}`` is answered by what the process wrote to stderr and how it ended. Django and
Cloud NDB are loaded once, so that a process costs milliseconds. None is set up before the fork.
"""

import json
import os
import sys
import tempfile
import traceback

import django_database_app
from google.cloud import ndb  # noqa: F401  # loaded once, for all forks


def live(code: str, environment: dict[str, str]) -> None:
    """Run code that has the names of the app, in this environment."""
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
                os.dup2(errors.fileno(), 1)  # answers go out there
                os.dup2(errors.fileno(), 2)
                live(**json.loads(line))
            _, status = os.waitpid(child, 0)
            errors.seek(0)
            answer = {"code": os.waitstatus_to_exitcode(status), "errors": errors.read().decode(errors="replace")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
