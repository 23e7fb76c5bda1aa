"""Deliveries of App Engine tasks, for tests of what reads them."""

from gae_deferred.delivery import Delivery


def delivery(retry_count: str = "99", queue: str = "default", limit: str | None = None) -> Delivery:
    environ = {
        "HTTP_X_APPENGINE_TASKNAME": "t",
        "HTTP_X_APPENGINE_QUEUENAME": queue,
        "HTTP_X_APPENGINE_TASKRETRYCOUNT": retry_count,
    }
    return Delivery(environ if limit is None else environ | {"HTTP_X_DEFERRED_MAX_ATTEMPTS": limit})
