"""The counter app, in Flask. Each increment defers three tasks; the count shows which of them have run."""

import logging

from flask import Flask, request
from gae_deferred import deferred, wrap_wsgi_app

import counter

logging.basicConfig(level=logging.INFO)

app = Flask(__name__)
# From here on every request has an NDB context, so that views and tasks can use Datastore. And gae_deferred takes care
# of two addresses: /_ah/queue/deferred, to which Cloud Tasks posts the tasks, and /_ah/warmup.
app.wsgi_app = wrap_wsgi_app(app.wsgi_app, use_deferred=True)


@app.get("/")
def index():
    return 'Open <a href="/counter/increment">/counter/increment</a>, then <a href="/counter/get">/counter/get</a>.\n'


# A GET, so that a browser is all you need to try it. Where an increment matters to someone, make it a POST.
@app.get("/counter/increment")
def increment():
    # As soon as possible.
    deferred.defer(counter.add, counter.KEY, 10)
    # In a minute. Arguments that begin with an underscore are about the task; all others are for the function.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=60)
    # In two minutes, and posted to an address of our own: custom_path, below.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=120, _url="/custom/path")
    return "Deferred three tasks: now, in 60 s and in 120 s.\n"


@app.get("/counter/get")
def get():
    return str(counter.read(counter.KEY))


# An address of your own is the place for what should happen around a task: here, a line in the log.
@app.post("/custom/path")
def custom_path():
    # Makes sure that the request comes from Cloud Tasks, then runs the function.
    body, status, headers = deferred.Handler().post(request.environ)
    logging.info("Task %s: status %d", request.headers.get("X-AppEngine-TaskName"), status)
    return body, status, headers
