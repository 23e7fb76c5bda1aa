"""The counter app, without a framework. Each increment defers three tasks. Each task adds 10 to the count."""

import logging
from http import HTTPStatus

from gae_deferred import deferred, wrap_wsgi_app

import counter

logging.basicConfig(level=logging.INFO)


def index(environ, start_response):
    page = 'Open <a href="/counter/increment">/counter/increment</a>, then <a href="/counter/get">/counter/get</a>.\n'
    return respond(start_response, HTTPStatus.OK, page)


# A GET, so that you can try it in a browser. In an app whose counts matter, make it a POST.
def increment(environ, start_response):
    # Runs as soon as possible.
    deferred.defer(counter.add, counter.KEY, 10)
    # Runs in 60 seconds. Arguments with a leading underscore are options of the task; the others go to the function.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=60)
    # Runs in 120 seconds, in CustomPath below.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=120, _url="/custom/path")
    return respond(start_response, HTTPStatus.OK, "Deferred three tasks: now, in 60 s and in 120 s.\n")


def get(environ, start_response):
    return respond(start_response, HTTPStatus.OK, str(counter.read(counter.KEY)))


# On a URL of its own, the app can do more than run the task. Here it logs the task's status.
class CustomPath(deferred.Handler):
    """Runs the tasks that are posted to /custom/path. A handler is a WSGI app, and calls ``post`` for a POST."""

    def post(self, environ):
        # The handler proves that Cloud Tasks sent the request, then runs the function.
        body, status, headers = super().post(environ)
        logging.info("Task %s: status %d", environ.get("HTTP_X_APPENGINE_TASKNAME"), status)
        return body, status, headers


def respond(start_response, status, text, headers=()):
    """Answer a request with HTML."""
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/html; charset=utf-8"), *headers])
    return [text.encode()]


ROUTES = {
    "/": ("GET", index),
    "/counter/increment": ("GET", increment),
    "/counter/get": ("GET", get),
    "/custom/path": ("POST", CustomPath()),
}


def route(environ, start_response):
    """Pass a request to the WSGI app that ROUTES names for its path."""
    path = environ.get("PATH_INFO", "")
    if path not in ROUTES:
        return respond(start_response, HTTPStatus.NOT_FOUND, "Not found.\n")
    method, app_of_path = ROUTES[path]
    if environ["REQUEST_METHOD"] != method:
        return respond(start_response, HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed.\n", [("Allow", method)])
    return app_of_path(environ, start_response)


# Opens an NDB context for each request, in which views and tasks use Datastore. Answers /_ah/queue/deferred, to which
# Cloud Tasks posts the tasks, and /_ah/warmup.
app = wrap_wsgi_app(route, use_deferred=True)
