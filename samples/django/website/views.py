"""The views. Each increment defers three tasks. Each task adds 10 to the count."""

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


# A GET, so that you can try it in a browser. In an app whose counts matter, make it a POST.
@require_safe
def increment(request):
    # Runs as soon as possible.
    deferred.defer(counter.add, counter.KEY, 10)
    # Runs in 60 seconds. Arguments with a leading underscore are options of the task; the others go to the function.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=60)
    # Runs in 120 seconds, in custom_path below.
    deferred.defer(counter.add, counter.KEY, 10, _countdown=120, _url="/custom/path")
    return HttpResponse("Deferred three tasks: now, in 60 s and in 120 s.\n")


@require_safe
def get(request):
    return HttpResponse(str(counter.read(counter.KEY)))


# On a URL of its own, the app can do more than run the task. Here it logs the task's status.
# Cloud Tasks sends no CSRF token. The handler proves who sent the request by other means, so this view alone is exempt.
@csrf_exempt
@require_POST
def custom_path(request):
    # The handler proves that Cloud Tasks sent the request, then runs the function.
    body, status, headers = deferred.Handler().post(request.environ)
    logging.info("Task %s: status %d", request.headers.get("X-AppEngine-TaskName"), status)
    return HttpResponse(body, status=status, headers=dict(headers))
