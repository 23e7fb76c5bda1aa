"""Entities of the bundled SDK's NDB in pickles, such as that of a deferred method of one, as entities of Cloud NDB.

The state of such an entity is an ``EntityProto``, the message in which App Engine's Datastore had entities. Cloud NDB
(2.7) reads these too, but has repeated values twice, no structured ones, and takes no key that has a name. Users
(``UserProperty``) are left out by both.
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
"""In every pickle of such an entity: its key names the app, ``s~my-project`` for example."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_COMPRESSED = 22
"""Meaning, in Datastore, of bytes that NDB has compressed."""


@functools.cache
def patch_ndb_unpickling() -> None:
    """Have ``ndb.Model`` read entities of the bundled NDB when it is unpickled, in this process from now on."""
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

    model: Any = google.cloud.ndb.model  # what it reads entities from Datastore with is not public
    entity: ndb.Model = model._entity_from_ds_entity(_datastore_entity(state), model_class=model_class)
    return entity


def _datastore_entity(state: bytes) -> "Entity":
    """Return an entity as it would come from Datastore today."""
    from google.cloud.datastore import Entity

    messages: Any = importlib.import_module("google.cloud.ndb._legacy_entity_pb")  # which the type stubs leave out
    proto = messages.EntityProto()
    proto.MergePartialFromString(state)
    reference = proto.key()
    path = reference.path.element_list()
    has_key = len(path) > 1 or any(part.has_id() or part.has_name() for part in path)  # else it tells the kind only
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
    """Return the value of a property, or of one of its values, as it would come from Datastore today."""
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
    """Return a field of a part of a path, which is an attribute in one class of them and a method in the other."""
    field = getattr(part, name)
    return field() if callable(field) else field


def _bytes(value: Any) -> Any:
    """Return the state as bytes; of Python 2, it has been read as text."""
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value
