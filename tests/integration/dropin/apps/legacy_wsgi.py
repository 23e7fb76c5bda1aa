"""An app on the bundled SDK: plain WSGI, with a handler that extends the SDK's."""

from google.appengine.api import wrap_wsgi_app
from google.appengine.ext import deferred, ndb


class Tally(ndb.Model):
    total = ndb.IntegerProperty(default=0, indexed=False)

    @classmethod
    @ndb.transactional()
    def grow(cls, name, step):
        tally = cls.get_by_id(name) or cls(id=name)
        tally.total += step
        tally.put()


class CustomPath(deferred.Handler):
    def post(self, environ):
        print("a task came by the custom path")
        return super().post(environ)


def increment(environ, start_response):
    deferred.defer(Tally.grow, "wsgi", 10)
    deferred.defer(Tally.grow, "wsgi", 10, _countdown=60)
    deferred.defer(Tally.grow, "wsgi", 10, _url="/custom/path", _countdown=120)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"deferred"]


def show(environ, start_response):
    tally = Tally.get_by_id("wsgi")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(tally.total if tally else 0).encode()]


ROUTES = {"/counter/increment": increment, "/counter/get": show, "/custom/path": CustomPath()}


def route(environ, start_response):
    return ROUTES[environ["PATH_INFO"]](environ, start_response)


app = wrap_wsgi_app(route, use_deferred=True)
