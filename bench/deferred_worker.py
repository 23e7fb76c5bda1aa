"""Serialize and handle tasks with one implementation of the Deferred API: ``python deferred_worker.py MODULE``.

MODULE is ``gae_deferred.deferred`` or the bundled SDK's module. Each line of the input names a function below,
whose numbers the worker prints. Only that implementation is installed in its environment, so it imports no other module
of bench/.
"""

import contextlib
import importlib
import io
import os
import sys
import time
import urllib.request

_CALLS = 20_000
_TRANSACTIONS = 30
_TASKS = 5

_REQUEST = {
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
    "wsgi.url_scheme": "https",
    "wsgi.errors": sys.stderr,
    "wsgi.file_wrapper": object,
    "wsgi.input_terminated": True,
    "wsgi.early_hints": object,
    "gunicorn.socket": None,
    "SERVER_SOFTWARE": "gunicorn/27.0.1",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8081",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_METHOD": "POST",
    "RAW_URI": "/_ah/queue/deferred",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/_ah/queue/deferred",
    "QUERY_STRING": "",
    "REMOTE_ADDR": "0.1.0.2",
    "REMOTE_PORT": "57680",
    "CONTENT_TYPE": "application/octet-stream",
    "HTTP_HOST": "bench.appspot.com",
    "HTTP_USER_AGENT": "AppEngine-Google; (+http://code.google.com/appengine)",
    "HTTP_X_DEFERRED_CALLABLE": "builtins.int",
    "HTTP_X_APPENGINE_QUEUENAME": "default",
    "HTTP_X_APPENGINE_TASKNAME": "1795275159896936000",
    "HTTP_X_APPENGINE_TASKRETRYCOUNT": "0",
    "HTTP_X_APPENGINE_TASKEXECUTIONCOUNT": "0",
    "HTTP_X_APPENGINE_TASKETA": "1795275159.896936",
    "HTTP_X_APPENGINE_USER_IP": "0.1.0.2",
}
"""The environ that gunicorn builds for a task's request, without the body. The SDK scans all of it."""


def serialize(deferred):
    """Serialize a call; return microseconds."""
    began = time.perf_counter()
    for _ in range(_CALLS):
        deferred.serialize(print, 1)
    return [(time.perf_counter() - began) / _CALLS * 1e6]


def handle(deferred):
    """Handle a task's request; return microseconds. Ours verifies a signature, the SDK two headers."""
    body = deferred.serialize(int, 1)
    environ = _REQUEST | {"CONTENT_LENGTH": str(len(body))}
    context = contextlib.nullcontext()
    if deferred.__name__.startswith("gae_deferred"):
        from gae_deferred import datastore

        environ |= _signature(body)
        context = datastore.context()  # as each request has it
    handler = deferred.Handler()
    with context:
        began = time.perf_counter()
        for _ in range(_CALLS):
            environ["wsgi.input"] = io.BytesIO(body)
            answer = handler.post(environ)
        seconds = time.perf_counter() - began
    if answer[1] != 200:
        raise RuntimeError(f"The handler returned {answer}")
    return [seconds / _CALLS * 1e6]


def serve(deferred):
    """Handle the same request through wrap_wsgi_app; return microseconds."""
    wrap_wsgi_app, _ = _parts(deferred)
    body = deferred.serialize(int, 1)
    request = _REQUEST | {"CONTENT_LENGTH": str(len(body)), "HTTP_X_APPENGINE_API_TICKET": "ticket"}
    if deferred.__name__.startswith("gae_deferred"):
        request |= _signature(body)
    app = wrap_wsgi_app(_no_page, use_deferred=True)
    statuses = []
    began = time.perf_counter()
    for _ in range(_CALLS):
        chunks = app(
            request | {"wsgi.input": io.BytesIO(body)}, lambda status, headers, exc_info=None: statuses.append(status)
        )
        b"".join(chunks)
        if hasattr(chunks, "close"):
            chunks.close()
    seconds = time.perf_counter() - began
    if set(statuses) != {"200 OK"}:
        raise RuntimeError(f"The app returned {set(statuses)}")
    return [seconds / _CALLS * 1e6]


def _signature(body):
    """Return the headers that our handler verifies, as the WSGI environ has them."""
    from gae_deferred import settings, signing

    covered = {
        "Content-Type": _REQUEST["CONTENT_TYPE"],
        "X-Deferred-Callable": _REQUEST["HTTP_X_DEFERRED_CALLABLE"],
        "X-Deferred-Id": "0123456789abcdef0123456789abcdef",
    }
    audience = settings.own_service_audience()
    signature = signing.sign(audience, _REQUEST["PATH_INFO"], covered, body)
    return {"HTTP_X_DEFERRED_ID": covered["X-Deferred-Id"], "HTTP_X_DEFERRED_SIGNATURE": signature}


def _no_page(environ, start_response):
    start_response("404 Not Found", [])
    return []


def transaction(deferred):
    """Run transactions that write an entity and defer tasks; return milliseconds for each, and the outbox's size.

    The size is the number of entities that a transaction writes for its tasks. The bundled SDK has no outbox: it adds
    tasks while the transaction is open, and the size is the number of these calls.
    """
    wrap_wsgi_app, ndb = _parts(deferred)

    class Order(ndb.Model):
        number = ndb.IntegerProperty()

    def order(number, also=lambda: None):
        also()
        Order(id=f"order-{number}", number=number).put()
        for _ in range(_TASKS):
            deferred.defer(int, number, _transactional=True)

    answer = []

    def app(environ, start_response):
        size = _outbox_size(deferred, ndb, order)
        began = time.perf_counter()
        for number in range(_TRANSACTIONS):
            ndb.transaction(lambda number=number: order(number))
        answer.extend([(time.perf_counter() - began) / _TRANSACTIONS * 1e3, size])
        start_response("200 OK", [])
        return [b""]

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_HOST": "bench", "HTTP_X_APPENGINE_API_TICKET": "ticket"}
    list(wrap_wsgi_app(app)(environ, lambda status, headers: None))
    return answer


def _parts(deferred):
    if deferred.__name__.startswith("gae_deferred"):
        from google.cloud import ndb

        from gae_deferred import wrap_wsgi_app
    else:
        from google.appengine.api import wrap_wsgi_app
        from google.appengine.ext import ndb
    return wrap_wsgi_app, ndb


def _outbox_size(deferred, ndb, order):
    if not deferred.__name__.startswith("gae_deferred"):
        before = _task_calls()
        ndb.transaction(lambda: order(0))
        return _task_calls() - before
    from gae_deferred.datastore import run_outside_transaction
    from gae_deferred.entities import Outbox

    sizes = []

    def count_outbox():
        # Runs after the commit but before the library's own callback, which sends the tasks and empties the outbox.
        ndb.get_context().call_on_commit(lambda: sizes.append(run_outside_transaction(Outbox.query().count)))

    ndb.transaction(lambda: order(0, count_outbox))
    return sizes[0]


def _task_calls():
    url = f"http://{os.environ['API_HOST']}:{os.environ['API_PORT']}/"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as response:
        return int(response.read())


def main():
    deferred = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        measure = {"serialize": serialize, "handle": handle, "serve": serve, "transaction": transaction}[line.strip()]
        print(*measure(deferred), flush=True)


if __name__ == "__main__":
    main()
