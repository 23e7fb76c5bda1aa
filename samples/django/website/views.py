"""The views. Each increment defers three tasks; the count shows which of them have run."""

import logging

from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe
from gae_deferred import deferred

import counter


@require_safe
def index(request):
    page = 'Open <a href="/counter/increment">/counter/increment</a>, then <a href="/counter/get">/counter/get</a>.\n'
    return HttpResponse(page)


# A GET, so that a browser is all you need to try it. Where an increment matters to someone, make it a POST.
@require_safe
def increment(request):
    # As soon as possible.
    deferred.defer(counter.add, counter.KEY, 10)
    # In a minute. Arguments that begin with an underscore are about the task; all others are for the function.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=60)
    # In two minutes, and posted to an address of our own: custom_path, below.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=120, _url="/custom/path")
    return HttpResponse("Deferred three tasks: now, in 60 s and in 120 s.\n")


@require_safe
def get(request):
    return HttpResponse(str(counter.read(counter.KEY)))


# An address of your own is the place for what should happen around a task: here, a line in the log.
# Cloud Tasks has no CSRF token to show. The handler below has its own proof of who is calling, so this view, and no
# other, goes without.
@csrf_exempt
@require_POST
def custom_path(request):
    # Makes sure that the request comes from Cloud Tasks, then runs the function.
    body, status, headers = deferred.Handler().post(request.environ)
    logging.info("Task %s: status %d", request.headers.get("X-AppEngine-TaskName"), status)
    return HttpResponse(body, status=status, headers=dict(headers))
