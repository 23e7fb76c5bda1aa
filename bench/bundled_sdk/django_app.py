"""The counter sample in Django, written for the bundled SDK; settings and views in one file."""

import logging
import os

import counter
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from google.appengine.api import wrap_wsgi_app
from google.appengine.ext import deferred

settings.configure(
    SECRET_KEY=os.environ["DJANGO_SECRET_KEY"],
    ALLOWED_HOSTS=[".appspot.com"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[],
    DATABASES={},
    USE_TZ=True,
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["console"], "level": "INFO"},
        "loggers": {"django": {"handlers": []}},
    },
)
django.setup()


@require_safe
def increment(request):
    deferred.defer(counter.add, counter.KEY, 10)
    deferred.defer(counter.add, counter.KEY, 10, _countdown=60)
    deferred.defer(counter.add, counter.KEY, 10, _countdown=120, _url="/custom/path")
    return HttpResponse("Deferred three tasks: now, in 60 s and in 120 s.\n")


@require_safe
def get(request):
    return HttpResponse(str(counter.read(counter.KEY)))


@csrf_exempt
@require_POST
def custom_path(request):
    body, status, headers = deferred.Handler().post(request.environ)
    logging.info("Task %s: status %d", request.headers.get("X-AppEngine-TaskName"), status)
    return HttpResponse(body, status=status, headers=dict(headers))


urlpatterns = [
    path("counter/increment", increment),
    path("counter/get", get),
    path("custom/path", custom_path),
]

app = wrap_wsgi_app(get_wsgi_application(), use_deferred=True)
