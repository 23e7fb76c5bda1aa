"""An app on the bundled SDK: Flask, the default endpoint, and one of its own."""

from flask import Flask, request

from google.appengine.api import wrap_wsgi_app
from google.appengine.ext import deferred, ndb

app = Flask(__name__)
app.wsgi_app = wrap_wsgi_app(app.wsgi_app, use_deferred=True)


class Tally(ndb.Model):
    total = ndb.IntegerProperty(default=0, indexed=False)


@ndb.transactional
def grow(name, step):
    tally = Tally.get_by_id(name) or Tally(id=name)
    tally.total += step
    tally.put()


@app.get("/counter/increment")
def increment():
    deferred.defer(grow, "flask", 10)
    deferred.defer(grow, "flask", 10, _countdown=60)
    deferred.defer(grow, "flask", 10, _url="/custom/path", _countdown=120)
    return "deferred"


@app.get("/counter/get")
def show():
    tally = Tally.get_by_id("flask")
    return str(tally.total if tally else 0)


@app.post("/custom/path")
def custom_path():
    print("a task came by the custom path")
    return deferred.Handler().post(request.environ)
