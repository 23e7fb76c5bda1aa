"""Serializes and handles tasks with one implementation of the Deferred API, in a process of its own.

Run as ``python deferred_worker.py MODULE``, where MODULE is ``gae_deferred.deferred`` or the bundled SDK's. For each
line with the name of a measurement it prints microseconds for each call. It runs where only that implementation is
installed, so it imports nothing of the benchmark.
"""

import contextlib
import importlib
import io
import sys
import time

_CALLS = 20_000


def nothing(number):
    """Do what a task does in a benchmark of everything around it."""


def serialize(deferred):
    """Write a call as bytes."""
    began = time.perf_counter()
    for _ in range(_CALLS):
        deferred.serialize(print, 1)
    return time.perf_counter() - began


def handle(deferred):
    """Answer a task's request: with us its signature is verified, with the bundled SDK two headers are looked at."""
    body = deferred.serialize(int, 1)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/_ah/queue/deferred",
        "REMOTE_ADDR": "0.1.0.2",
        "SERVER_SOFTWARE": "gunicorn",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_X_APPENGINE_QUEUENAME": "default",
        "HTTP_X_APPENGINE_TASKNAME": "task",
        "HTTP_X_APPENGINE_TASKRETRYCOUNT": "0",
        "HTTP_X_APPENGINE_USER_IP": "0.1.0.2",
    }
    context = contextlib.nullcontext()
    if deferred.__name__.startswith("gae_deferred"):
        from gae_deferred import datastore, signing

        environ["HTTP_X_DEFERRED_SIGNATURE"] = signing.sign("default", "/_ah/queue/deferred", body)
        context = datastore.context()  # that of the request
    handler = deferred.Handler()
    with context:
        began = time.perf_counter()
        for _ in range(_CALLS):
            environ["wsgi.input"] = io.BytesIO(body)
            answer = handler.post(environ)
        seconds = time.perf_counter() - began
    if answer[1] != 200:
        raise RuntimeError(f"The handler has answered {answer}")
    return seconds


def main():
    deferred = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        measure = {"serialize": serialize, "handle": handle}[line.strip()]
        print(measure(deferred) / _CALLS * 1e6, flush=True)


if __name__ == "__main__":
    main()
