"""Makes Cloud NDB read entities that the bundled SDK's NDB pickled, such as the ``self`` of a deferred method.

The bundled NDB pickles an entity as an ``EntityProto``, the message in which App Engine's Datastore kept entities.
Cloud NDB (2.7) reads it too, but duplicates repeated values, drops structured ones and rejects named keys. Both leave
out users (``UserProperty``).
"""

import datetime
import functools
import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gae_deferred.bundled_sdk import text

if TYPE_CHECKING:
    from google.cloud import ndb
    from google.cloud.datastore import Entity

MARK = b"~"
"""Every pickle of such an entity holds this: the entity's key names the app, such as ``s~my-project``."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_COMPRESSED = 22
"""Datastore's ``meaning`` of bytes that NDB has compressed."""


@functools.cache
def patch_ndb_unpickling() -> None:
    """Patch ``ndb.Model.__setstate__`` to read entities of the bundled NDB too, in this process from now on."""
    from google.cloud import ndb

    model: Any = ndb.Model
    read_own_state = model.__setstate__

    def read_state(entity: "ndb.Model", state: Any) -> None:
        if isinstance(state, dict):
            read_own_state(entity, state)
        else:
            entity.__dict__.update(_read(_bytes(state), type(entity)).__dict__)

    model.__setstate__ = read_state


def _read(state: bytes, model_class: "type[ndb.Model]") -> "ndb.Model":
    import google.cloud.ndb.model

    model: Any = google.cloud.ndb.model  # its reader of Datastore's entities is not public
    entity: ndb.Model = model._entity_from_ds_entity(_datastore_entity(state), model_class=model_class)
    return entity


def _datastore_entity(state: bytes) -> "Entity":
    """Return the entity of an ``EntityProto`` as Datastore's client library returns it."""
    from google.cloud.datastore import Entity

    messages: Any = importlib.import_module("google.cloud.ndb._legacy_entity_pb")  # the type stubs leave it out
    proto = messages.EntityProto()
    proto.MergePartialFromString(state)
    reference = proto.key()
    path = reference.path.element_list()
    has_key = any(part.has_id() or part.has_name() for part in path)  # otherwise only a kind
    entity = Entity(_key(path, reference.app, reference.name_space) if has_key else None)
    for stored in proto.property_list():
        name = text(stored.name())
        if stored.meaning() == stored.EMPTY_LIST:
            entity[name] = []
        elif stored.multiple():
            entity.setdefault(name, []).append(_value(stored))
        else:
            entity[name] = _value(stored)
        if stored.meaning_uri() == b"ZLIB":
            entity._meanings[name] = (_COMPRESSED, entity[name])
    return entity


def _value(stored: Any) -> Any:
    """Return the value of a property, or one value of a repeated one, as Datastore's client library returns it."""
    value = stored.value()
    if value.has_stringvalue():
        content = value.stringvalue()
        if stored.meaning() == stored.ENTITY_PROTO:
            return _datastore_entity(content)
        return content if stored.meaning() in (stored.BLOB, stored.BYTESTRING) else text(content)
    if value.has_int64value():
        number = value.int64value()
        return _EPOCH + datetime.timedelta(microseconds=number) if stored.meaning() == stored.GD_WHEN else number
    if value.has_booleanvalue():
        return bool(value.booleanvalue())
    if value.has_doublevalue():
        return value.doublevalue()
    if value.has_referencevalue():
        reference = value.referencevalue()
        return _key(reference.pathelement_list(), reference.app(), reference.name_space())
    if value.has_pointvalue():
        from google.cloud.datastore.helpers import GeoPoint

        return GeoPoint(value.pointvalue().x(), value.pointvalue().y())
    return None


def _key(path: Iterable[Any], app: Any, namespace: Any) -> Any:
    """Return a key of Datastore's client library."""
    from google.cloud import ndb

    pairs = [(text(_of(part, "type")), _of(part, "id") or text(_of(part, "name")) or None) for part in path]
    key: Any = ndb.Key(pairs=pairs, app=text(app), namespace=text(namespace))
    return key._key


def _of(part: Any, name: str) -> Any:
    """Return a field of a path element: an attribute in one class of path elements, a method in the other."""
    field = getattr(part, name)
    return field() if callable(field) else field


def _bytes(value: Any) -> Any:
    """Return the state as bytes. A state that Python 2 pickled has been read as text."""
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value
