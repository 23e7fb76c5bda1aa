"""Django's settings: safe as they stand on App Engine, convenient on a laptop."""

import os

# A laptop is where a local Datastore answers and App Engine does not run us. Anywhere else counts as production, so
# that a forgotten variable closes doors and never opens one.
LOCAL = "DATASTORE_EMULATOR_HOST" in os.environ and os.environ.get("GAE_ENV") != "standard"

# The page with a traceback and every setting is for its developer alone.
DEBUG = LOCAL

# Production stops here with a KeyError until the variable is set: the README says how to make a key. Whoever knows the
# key can forge what Django signs, so the one for laptops, which all the world can read, is only taken there.
SECRET_KEY = "django-insecure-for-laptops-only" if LOCAL else os.environ["DJANGO_SECRET_KEY"]

# The names that this site answers to. App Engine has its names under appspot.com; put a domain of your own into the
# variable, several with commas between.
ALLOWED_HOSTS = [name.strip() for name in os.environ.get("DJANGO_ALLOWED_HOSTS", "").split(",") if name.strip()]
ALLOWED_HOSTS += ["localhost", "127.0.0.1", "[::1]"] if LOCAL else [".appspot.com"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# App Engine speaks https with visitors; a laptop does not.
CSRF_COOKIE_SECURE = not LOCAL

ROOT_URLCONF = "website.urls"
WSGI_APPLICATION = "main.app"

# What is stored is in Datastore, through ndb: nothing here needs a SQL database or the apps that do. Templates, static
# files, sessions and the admin are added as in any Django project.
INSTALLED_APPS = []
DATABASES = {}

TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en"

# App Engine collects what is written to stderr. Django's own handlers would write its messages a second time.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"django": {"handlers": []}},
}
