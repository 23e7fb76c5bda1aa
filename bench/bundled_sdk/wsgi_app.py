"""The counter sample without a framework, written for the bundled SDK."""

import logging

import counter

from google.appengine.api import wrap_wsgi_app
from google.appengine.ext import deferred

logging.basicConfig(level=logging.INFO)


def increment():
    deferred.defer(counter.add, counter.KEY, 10)
    deferred.defer(counter.add, counter.KEY, 10, _countdown=60)
    deferred.defer(counter.add, counter.KEY, 10, _countdown=120, _url="/custom/path")
    return "Deferred three tasks: now, in 60 s and in 120 s.\n"


def get():
    return str(counter.read(counter.KEY))


ROUTES = {"/counter/increment": increment, "/counter/get": get}


def route(environ, start_response):
    path = environ.get("PATH_INFO", "")
    if path == "/custom/path":
        return deferred.Handler()(environ, start_response)
    if path not in ROUTES:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Not found.\n"]
    body = ROUTES[path]().encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [body]


app = wrap_wsgi_app(route, use_deferred=True)
