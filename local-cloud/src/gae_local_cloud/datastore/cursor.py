"""Cursors: positions between two results of a query, as opaque bytes."""

import hashlib
from collections.abc import Sequence

from gae_local_cloud.datastore.errors import InvalidArgument
from gae_local_cloud.datastore.indexes import Component
from gae_local_cloud.datastore.interval import Bound

_VERSION = b"\x01"
_BEFORE, _AFTER = b"\x00", b"\x01"
_SIGNATURE = 4


def encode(bound: Bound, order: Sequence[Component]) -> bytes:
    """Return the cursor for a point between two positions of a query that sorts by ``order``.

    A cursor names a place in an index, so it stays valid when entities are inserted or deleted. It has no direction:
    the query with every order reversed walks back from it.
    """
    if order[-1].descending:
        bound = bound.flipped()
    return _VERSION + _signature(order) + (_AFTER if bound.after else _BEFORE) + bound.encoded


def decode(encoded: bytes, order: Sequence[Component]) -> Bound:
    """Return the point that a cursor names.

    Raises:
        InvalidArgument: the bytes are not a cursor, or the cursor is of a query with other sort orders.
    """
    header = len(_VERSION) + _SIGNATURE
    if encoded[:1] != _VERSION or encoded[header : header + 1] not in (_BEFORE, _AFTER):
        raise InvalidArgument("The cursor is invalid: it does not come from this server.")
    if encoded[1:header] != _signature(order):
        raise InvalidArgument("The cursor is invalid: it comes from a query with other sort orders or filters.")
    bound = Bound(encoded[header + 1 :], encoded[header : header + 1] == _AFTER)
    return bound.flipped() if order[-1].descending else bound


def _signature(order: Sequence[Component]) -> bytes:
    """Return a digest of sort orders; it is the same with every order reversed."""
    backwards = order[-1].descending
    text = repr([(name, descending != backwards) for name, descending in order])
    return hashlib.blake2b(text.encode(), digest_size=_SIGNATURE).digest()
