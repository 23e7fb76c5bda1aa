"""Tasks that take their process along, and the app that gunicorn serves them in.

As a script: delivers the task whose pickled environ is on its input, with the body in place of the stream.
"""

import io
import os
import pickle
import signal
import sys

from gae_deferred import deferred, wrap_wsgi_app


def exit_at_once(value: object) -> None:
    os._exit(0)


def be_killed(value: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_politely(value: object) -> None:
    sys.exit(3)  # gunicorn stops as a whole when a worker exits with 3


def succeed(value: object) -> None:
    pass


def _not_found(environ, start_response):  # type: ignore[no-untyped-def]
    start_response("404 Not Found", [])
    return []


app = wrap_wsgi_app(_not_found, use_deferred=True)


if __name__ == "__main__":
    environ = pickle.load(sys.stdin.buffer)  # of the test that started this
    deferred.Handler().post(environ | {"wsgi.input": io.BytesIO(environ["wsgi.input"])})
