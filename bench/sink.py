"""The app that receives the tasks of queue benchmarks. The app writes their number into a file."""

import os
import struct
import threading

_lock = threading.Lock()
_count = 0
_file = os.open(os.environ["BENCH_COUNT_FILE"], os.O_RDWR | os.O_CREAT)


def app(environ, start_response):
    """Count a task."""
    global _count
    environ["wsgi.input"].read()
    with _lock:
        _count += 1
        os.pwrite(_file, struct.pack("q", _count), 0)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
