"""The counter app, in Django. App Engine serves `app`; the site itself is in website/."""

import os

from django.core.wsgi import get_wsgi_application
from gae_deferred import wrap_wsgi_app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "website.settings")

# From here on every request has an NDB context, so that views and tasks can use Datastore. And gae_deferred takes care
# of two addresses: /_ah/queue/deferred, to which Cloud Tasks posts the tasks, and /_ah/warmup.
app = wrap_wsgi_app(get_wsgi_application(), use_deferred=True)
