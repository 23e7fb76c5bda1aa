"""The counter app, without a framework. Each increment defers three tasks; the count shows which of them have run."""

import logging
from http import HTTPStatus

from gae_deferred import deferred, wrap_wsgi_app

import counter

logging.basicConfig(level=logging.INFO)


def index(environ, start_response):
    page = 'Open <a href="/counter/increment">/counter/increment</a>, then <a href="/counter/get">/counter/get</a>.\n'
    return respond(start_response, HTTPStatus.OK, page)


# A GET, so that a browser is all you need to try it. Where an increment matters to someone, make it a POST.
def increment(environ, start_response):
    # As soon as possible.
    deferred.defer(counter.add, counter.KEY, 10)
    # In a minute. Arguments that begin with an underscore are about the task; all others are for the function.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=60)
    # In two minutes, and posted to an address of our own: CustomPath, below.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=120, _url="/custom/path")
    return respond(start_response, HTTPStatus.OK, "Deferred three tasks: now, in 60 s and in 120 s.\n")


def get(environ, start_response):
    return respond(start_response, HTTPStatus.OK, str(counter.read(counter.KEY)))


# An address of your own is the place for what should happen around a task: here, a line in the log.
class CustomPath(deferred.Handler):
    """Runs the tasks that are posted to /custom/path. A handler is a WSGI app, which calls ``post``."""

    def post(self, environ):
        # Makes sure that the request comes from Cloud Tasks, then runs the function.
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
    """Hand a request to the app that ROUTES names for its path."""
    path = environ.get("PATH_INFO", "")
    if path not in ROUTES:
        return respond(start_response, HTTPStatus.NOT_FOUND, "Not found.\n")
    method, app_of_path = ROUTES[path]
    if environ["REQUEST_METHOD"] != method:
        return respond(start_response, HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed.\n", [("Allow", method)])
    return app_of_path(environ, start_response)


# From here on every request has an NDB context, so that views and tasks can use Datastore. And gae_deferred takes care
# of two addresses: /_ah/queue/deferred, to which Cloud Tasks posts the tasks, and /_ah/warmup.
app = wrap_wsgi_app(route, use_deferred=True)
