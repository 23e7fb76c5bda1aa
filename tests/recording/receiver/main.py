"""An app that answers tasks with the statuses that their URL asks for, and tells which headers they had.

`POST /PATH?statuses=503,404&hold=20` answers the first request of a path with 503, the second with 404, and later ones
with 200. It holds the first answer back for 20 seconds. `GET /PATH` returns the headers of each request as JSON, with
its time in seconds as `arrived`.

On App Engine: `gcloud app deploy tests/recording/receiver/app.yaml`. Anybody can call it, so delete the service
afterwards: `gcloud app services delete recording`.
"""

import collections
import json
import threading
import time
import urllib.parse

MAX_REQUESTS = 10_000
KEPT_HEADERS = ("HTTP_X_CLOUDTASKS_TASK", "HTTP_X_APPENGINE_TASK")

_received = collections.defaultdict(list)
_lock = threading.Lock()
_count = 0


def app(environ, start_response):
    """Serve one request."""
    path, wanted = environ["PATH_INFO"], urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    if environ["REQUEST_METHOD"] == "GET":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(_received.get(path, [])).encode()]
    number = _keep(path, environ)
    if number == 0 and "hold" in wanted:
        threading.Event().wait(float(wanted["hold"][0]))
    statuses = wanted["statuses"][0].split(",") if "statuses" in wanted else []
    start_response(f"{statuses[number] if number < len(statuses) else 200} Status", [])
    return [b""]


def _keep(path, environ):
    """Keep the headers of a request; return the number of earlier requests of its path."""
    global _count
    headers = {_header_name(name): value for name, value in environ.items() if name.startswith(KEPT_HEADERS)}
    headers["arrived"] = time.time()
    with _lock:
        _count += 1
        if _count > MAX_REQUESTS:
            raise MemoryError(f"{MAX_REQUESTS} requests are kept. Start the app again")
        _received[path].append(headers)
        return len(_received[path]) - 1


def _header_name(name):
    return name.removeprefix("HTTP_").replace("_", "-").lower()
