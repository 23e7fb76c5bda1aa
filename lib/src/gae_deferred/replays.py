"""Keeps a receipt of each signed task that succeeded, so a captured request cannot run the task again.

On App Engine only the task queue can send tasks. Anywhere else, anybody who has seen a task's request can send it
again. So a receipt in Datastore says that the task has run.
"""

import datetime
import logging
from typing import TYPE_CHECKING

from gae_deferred import clock, datastore, headers, signing_keys
from gae_deferred.delivery import Delivery
from gae_deferred.signing import MAX_AGE

if TYPE_CHECKING:
    from google.cloud import ndb

_ID = headers.ID.environ_key
_SIGNATURE = headers.SIGNATURE.environ_key

_logger = logging.getLogger(__name__)


def has_run(delivery: Delivery) -> bool:
    """Return whether a task with a verified signature has succeeded before. Ask only where receipts are kept.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: Datastore cannot be asked; the queue tries again.
    """
    if not _is_noted(delivery):
        return False
    return bool(datastore.run_in_own_database(lambda: _key(delivery).get()) is not None)


def note(delivery: Delivery) -> None:
    """Keep a receipt of a task that has succeeded, until its signature is too old. Never raises: the task has run."""
    if not _is_noted(delivery):
        return

    def write() -> None:
        from google.cloud import ndb

        from gae_deferred.entities import Receipt

        expires = clock.naive_now() + datetime.timedelta(seconds=MAX_AGE)
        ndb.put_multi([Receipt(key=_key(delivery), expires=expires)])

    try:
        datastore.run_in_own_database(write)
    except Exception:
        _logger.exception("No receipt of the task %s could be kept; its request can be sent again", delivery.name)


def _is_noted(delivery: Delivery) -> bool:
    return bool(delivery.environ.get(_SIGNATURE)) and signing_keys.are_set()


def _key(delivery: Delivery) -> "ndb.Key":
    from google.cloud import ndb

    from gae_deferred.entities import Receipt

    return ndb.Key(Receipt, f"ran-{delivery.environ[_ID]}", namespace="")
