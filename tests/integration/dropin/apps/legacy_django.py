"""An app on the bundled SDK: Django in one file."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from google.appengine.api import wrap_wsgi_app
from google.appengine.ext import deferred, ndb


class Tally(ndb.Model):
    total = ndb.IntegerProperty(default=0, indexed=False)


def grow(name, step):
    def add():
        tally = Tally.get_by_id(name) or Tally(id=name)
        tally.total += step
        tally.put()

    ndb.transaction(add)


def increment(request):
    deferred.defer(grow, "django", 10)
    deferred.defer(grow, "django", 10, _countdown=60)
    deferred.defer(grow, "django", 10, _url="/custom/path", _countdown=120)
    return HttpResponse("deferred")


def show(request):
    tally = Tally.get_by_id("django")
    return HttpResponse(str(tally.total if tally else 0))


@csrf_exempt
def custom_path(request):
    print("a task came by the custom path")
    text, status, headers = deferred.Handler().post(request.environ)
    return HttpResponse(text, status=status.value, headers=dict(headers))


urlpatterns = [path("counter/increment", increment), path("counter/get", show), path("custom/path", custom_path)]

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of no use outside of tests",
    USE_TZ=True,
)
app = wrap_wsgi_app(get_wsgi_application(), use_deferred=True)
