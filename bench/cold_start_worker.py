"""Starts an app as a new instance does: ``python cold_start_worker.py FOLDER MODULE BEGAN [PATH ...]``.

Imports MODULE from FOLDER, asks its ``app`` for each path in turn, and prints for the import and for each answer the
seconds since BEGAN (of the monotonic clock, when the process was started) and the processor seconds so far.

It runs where only one implementation is installed, so it imports nothing of the benchmark, and nothing early.
"""

import sys
import time


def times():
    return f"{time.monotonic() - float(sys.argv[3])} {time.process_time()}"


def answer(app, path):
    """Make a request, and return the status."""
    import io

    statuses = []
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "bench.appspot.com",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "bench.appspot.com",
        "HTTP_X_APPENGINE_API_TICKET": "ticket",  # what lets the bundled SDK call its API server
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    chunks = app(environ, lambda status, headers, exc_info=None: statuses.append(status))
    b"".join(chunks)
    if hasattr(chunks, "close"):
        chunks.close()
    return statuses[0]


def main():
    sys.path[0] = sys.argv[1]
    app = __import__(sys.argv[2]).app
    report = [times()]
    for path in sys.argv[4:]:
        status = answer(app, path)
        if not status.startswith("200") and path != "/_ah/warmup":  # which an app may leave unanswered
            raise SystemExit(f"{path}: {status}")
        report.append(times())
    print(" ".join(report), flush=True)


main()
