"""The counter app, in Django. App Engine serves ``app``. The site itself is in website/."""

import os

from django.core.wsgi import get_wsgi_application
from gae_deferred import wrap_wsgi_app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "website.settings")

# Opens an NDB context for each request, in which views and tasks use Datastore. Answers /_ah/queue/deferred, to which
# Cloud Tasks posts the tasks, and /_ah/warmup.
app = wrap_wsgi_app(get_wsgi_application(), use_deferred=True)
