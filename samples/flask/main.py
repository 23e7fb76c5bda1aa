"""The counter app, in Flask. Each increment defers three tasks. Each task adds 10 to the count."""

import logging

from flask import Flask, request
from gae_deferred import deferred, wrap_wsgi_app

import counter

logging.basicConfig(level=logging.INFO)

app = Flask(__name__)
# Opens an NDB context for each request, in which views and tasks use Datastore. Answers /_ah/queue/deferred, to which
# Cloud Tasks posts the tasks, and /_ah/warmup.
app.wsgi_app = wrap_wsgi_app(app.wsgi_app, use_deferred=True)


@app.get("/")
def index():
    return 'Open <a href="/counter/increment">/counter/increment</a>, then <a href="/counter/get">/counter/get</a>.\n'


# A GET, so that you can try it in a browser. In an app whose counts matter, make it a POST.
@app.get("/counter/increment")
def increment():
    # Runs as soon as possible.
    deferred.defer(counter.add, counter.KEY, 10)
    # Runs in 60 seconds. Arguments with a leading underscore are options of the task; the others go to the function.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=60)
    # Runs in 120 seconds, in custom_path below.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=120, _url="/custom/path")
    return "Deferred three tasks: now, in 60 s and in 120 s.\n"


@app.get("/counter/get")
def get():
    return str(counter.read(counter.KEY))


# On a URL of its own, the app can do more than run the task. Here it logs the task's status.
@app.post("/custom/path")
def custom_path():
    # The handler proves that Cloud Tasks sent the request, then runs the function.
    body, status, headers = deferred.Handler().post(request.environ)
    logging.info("Task %s: status %d", request.headers.get("X-AppEngine-TaskName"), status)
    return body, status, headers
