"""The job with gae_deferred, and the app that receives its tasks."""

import os

import job

from gae_deferred import deferred, wrap_wsgi_app

_COUNTDOWN = float(os.environ.get("BENCH_COUNTDOWN", "0")) or None


def not_found(environ, start_response):
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


app = wrap_wsgi_app(not_found, use_deferred=True)


def enqueue(payload, due):
    deferred.defer(job.run, payload, due, _countdown=_COUNTDOWN)
