"""App Engine's Deferred API on Cloud Tasks and Datastore.

>>> from gae_deferred import deferred, wrap_wsgi_app
"""

from gae_deferred import deferred, errors
from gae_deferred.datastore import context
from gae_deferred.task import Task, TaskRetryOptions
from gae_deferred.version import __version__
from gae_deferred.wsgi import wrap_wsgi_app

__all__ = ["Task", "TaskRetryOptions", "__version__", "context", "deferred", "errors", "wrap_wsgi_app"]
