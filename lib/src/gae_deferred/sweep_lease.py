"""Leases of the sixteen parts of the outbox: each part belongs to one sweep at a time."""

import contextlib
import datetime
from typing import TYPE_CHECKING, Any

from gae_deferred import clock

if TYPE_CHECKING:
    from google.cloud import ndb

DURATION = datetime.timedelta(seconds=180)
"""How long a part belongs to a sweep that does not renew its lease."""


def take(digit: str, holder: str) -> bool:
    """Take a part of the outbox, or keep it, unless somebody else has it. Return whether it is the holder's.

    Parameters:
        digit: the digit that the ids of the part begin with.
        holder: who sweeps.
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
