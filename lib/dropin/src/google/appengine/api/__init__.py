"""The package of ``wrap_wsgi_app``, ``taskqueue`` and ``labs.taskqueue``."""

from gae_deferred import wrap_wsgi_app

__all__ = ["wrap_wsgi_app"]
