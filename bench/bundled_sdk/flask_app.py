"""The counter sample in Flask, written for the bundled SDK."""

import logging

import counter
from flask import Flask, request

from google.appengine.api import wrap_wsgi_app
from google.appengine.ext import deferred

logging.basicConfig(level=logging.INFO)

app = Flask(__name__)
app.wsgi_app = wrap_wsgi_app(app.wsgi_app, use_deferred=True)


@app.get("/counter/increment")
def increment():
    deferred.defer(counter.add, counter.KEY, 10)
    deferred.defer(counter.add, counter.KEY, 10, _countdown=60)
    deferred.defer(counter.add, counter.KEY, 10, _countdown=120, _url="/custom/path")
    return "Deferred three tasks: now, in 60 s and in 120 s.\n"


@app.get("/counter/get")
def get():
    return str(counter.read(counter.KEY))


@app.post("/custom/path")
def custom_path():
    return deferred.Handler().post(request.environ)
