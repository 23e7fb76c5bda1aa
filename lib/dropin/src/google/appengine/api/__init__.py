"""``wrap_wsgi_app``, and the module ``taskqueue``."""

from gae_deferred import wrap_wsgi_app

__all__ = ["wrap_wsgi_app"]
