"""Leases of the outbox, whose entities are in sixteen parts: one sweep at a time holds a part."""

import contextlib
import datetime
from typing import TYPE_CHECKING, Any

from gae_deferred import clock

if TYPE_CHECKING:
    from google.cloud import ndb

DURATION = datetime.timedelta(seconds=180)
"""Time after which a lease expires, unless its sweep renews it."""


def take(digit: str, holder: str) -> bool:
    """Take or renew the lease of a part, unless another sweep has it. Return whether the holder has the lease now.

    Parameters:
        digit: the digit that the ids of the part begin with.
        holder: id of the sweep.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.cloud import ndb

    from gae_deferred.entities import SweepLease

    def take() -> bool:
        key = _key(digit)
        lease: Any = key.get()
        now = clock.naive_now()
        if lease is not None and lease.holder != holder and now < lease.until < now + 2 * DURATION:
            return False  # a longer lease is ignored: its holder's clock was wrong
        ndb.put_multi([SweepLease(key=key, holder=holder, until=now + DURATION)])
        return True

    try:
        return bool(ndb.transaction(take))
    except (GoogleAPICallError, RetryError):  # most likely Aborted: another sweep takes it at this moment
        return False


def give_back(digit: str, holder: str) -> None:
    """End a lease, so that another sweep may begin at once. If that fails, the lease expires."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.cloud import ndb

    def give_back() -> None:
        key = _key(digit)
        lease: Any = key.get()
        if lease is not None and lease.holder == holder:
            key.delete()

    with contextlib.suppress(GoogleAPICallError, RetryError):
        ndb.transaction(give_back)


def _key(digit: str) -> "ndb.Key":
    from google.cloud import ndb

    from gae_deferred.entities import SweepLease

    return ndb.Key(SweepLease, digit, namespace="")
