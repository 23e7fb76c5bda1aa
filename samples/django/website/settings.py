"""Django's settings: safe in production as they are, convenient on a laptop."""

import os

from django.core.exceptions import ImproperlyConfigured

# On a laptop the app uses a local Datastore. Everything else counts as production: a forgotten variable then makes the
# app refuse to start, not trust strangers.
LOCAL = "DATASTORE_EMULATOR_HOST" in os.environ and os.environ.get("GAE_ENV") != "standard"

# With DEBUG, Django shows visitors the traceback of an error.
DEBUG = LOCAL

# Everybody who knows the key can forge what Django signs. The key for laptops is public, so production needs its own:
# "Deploy it" in README.md makes one.
SECRET_KEY = "django-insecure-for-laptops-only" if LOCAL else os.environ.get("DJANGO_SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "Set DJANGO_SECRET_KEY in production, or DATASTORE_EMULATOR_HOST=127.0.0.1:8081 beside a running "
        "`gae-deferred dev`: see README.md."
    )

# The host names of the site. App Engine's are under appspot.com. Name domains of your own in the variable, separated by
# commas.
ALLOWED_HOSTS = [name.strip() for name in os.environ.get("DJANGO_ALLOWED_HOSTS", "").split(",") if name.strip()]
ALLOWED_HOSTS += ["localhost", "127.0.0.1", "[::1]"] if LOCAL else [".appspot.com"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# App Engine serves https; a laptop does not.
CSRF_COOKIE_SECURE = not LOCAL

ROOT_URLCONF = "website.urls"
WSGI_APPLICATION = "main.app"

# The app stores its data in Datastore, through Cloud NDB, and has no SQL database. The admin, Django's users and its
# models need one: set DATABASES before you add their apps here.
INSTALLED_APPS = []
DATABASES = {}

TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en"

# App Engine collects stderr as the log. Django's own handlers would write its messages a second time.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"django": {"handlers": []}},
}
