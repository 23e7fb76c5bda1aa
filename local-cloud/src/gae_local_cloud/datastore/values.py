"""Property values as ordered bytes, and the indexed values of an entity.

Types sort as Datastore documents: null < integer and timestamp < boolean < bytes and string < double < geo point < key.
Two types that share a place compare by the same encoding: a timestamp by its microseconds since the epoch, a string by
its UTF-8.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

from gae_local_cloud.datastore import keys, meanings, ordered
from gae_local_cloud.datastore.messages import EntityMessage, Value, ValueMessage, timestamp_micros

NULL = b"\x08"
INTEGER = b"\x10"
BOOLEAN = b"\x18"
TEXT = b"\x20"
DOUBLE = b"\x28"
GEO_POINT = b"\x30"
KEY = b"\x38"

TypedValue: TypeAlias = tuple[str, ValueMessage, str | None]
"""A property: its name, its value, and the value's type, such as ``string_value``; None if it is unset."""


def _encode_key(value: Any) -> bytes:
    partition = value.partition_id
    return b"".join(
        (
            KEY,
            ordered.text(partition.project_id.encode()),
            ordered.text(partition.database_id.encode()),
            ordered.text(partition.namespace_id.encode()),
            keys.encode_path(value),
        )
    )


_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "null_value": lambda _: NULL,
    "integer_value": lambda number: INTEGER + ordered.integer(number),
    "timestamp_value": lambda timestamp: INTEGER + ordered.integer(timestamp_micros(timestamp)),
    "boolean_value": lambda truth: BOOLEAN + (b"\x01" if truth else b"\x00"),
    "blob_value": lambda data: TEXT + ordered.text(data),
    "string_value": lambda string: TEXT + ordered.text(string.encode()),
    "double_value": lambda number: DOUBLE + ordered.double(number),
    "geo_point_value": lambda point: GEO_POINT + ordered.double(point.latitude) + ordered.double(point.longitude),
    "key_value": _encode_key,
}


def encode(value: ValueMessage) -> bytes:
    """Encode a value for an index.

    Raises:
        KeyError: the value is an array, an entity or unset; such values are not indexed as a whole.
    """
    kind = value.WhichOneof("value_type")
    return _ENCODERS[kind](getattr(value, kind))


def decode(encoded: bytes) -> ValueMessage:
    """Return the value of an index entry, with the meaning of an index value.

    A timestamp becomes an integer, and bytes that are valid UTF-8 become a string, as in the service.
    """
    value = Value(meaning=meanings.INDEX_VALUE)
    tag = encoded[:1]
    if tag == NULL:
        value.null_value = 0
    elif tag == INTEGER:
        value.integer_value = ordered.uninteger(encoded, 1)
    elif tag == BOOLEAN:
        value.boolean_value = encoded[1] == 1
    elif tag == TEXT:
        data, _ = ordered.untext(encoded, 1)
        try:
            value.string_value = data.decode()
        except UnicodeDecodeError:
            value.blob_value = data
    elif tag == DOUBLE:
        value.double_value = ordered.undouble(encoded, 1)
    elif tag == GEO_POINT:
        value.geo_point_value.latitude = ordered.undouble(encoded, 1)
        value.geo_point_value.longitude = ordered.undouble(encoded, 9)
    elif tag == KEY:
        project, end = ordered.untext(encoded, 1)
        database, end = ordered.untext(encoded, end)
        namespace, end = ordered.untext(encoded, end)
        keys.set_partition(value.key_value, keys.Partition(project.decode(), database.decode(), namespace.decode()))
        keys.decode_path(encoded, value.key_value, end)
    else:
        raise ValueError(f"Not an encoded value: {encoded!r}")
    return value


def end_of(encoded: bytes, start: int) -> int:
    """Return the offset after the encoded value that starts at ``start``."""
    tag = encoded[start : start + 1]
    start += 1
    if tag == NULL:
        return start
    if tag == BOOLEAN:
        return start + 1
    if tag in (INTEGER, DOUBLE):
        return start + 8
    if tag == GEO_POINT:
        return start + 16
    start = encoded.index(ordered.TERMINATOR, start) + 2
    if tag == TEXT:
        return start
    for _dimension in ("database", "namespace"):
        start = encoded.index(ordered.TERMINATOR, start) + 2
    return keys.path_end(encoded, start)


def typed(properties: Any) -> list[TypedValue]:
    """Return the values of properties with their types.

    Functions that need each value take this list, because reading a message takes longer than reading a list.
    """
    return [(name, value := properties[name], value.WhichOneof("value_type")) for name in properties]


def indexed(entity: EntityMessage, only: Collection[str] | None = None) -> dict[str, list[bytes]]:
    """Return the indexed values of each property of an entity, encoded, sorted and without duplicates.

    The properties of an embedded entity have dotted names (``address.city``). A property that is excluded from indexes,
    or whose array is empty, is left out: no filter or order finds it.

    Parameters:
        only: properties to return; None for all.
    """
    properties = entity.properties
    if only is not None:
        roots = {name for name in properties if any(wanted == name or wanted.startswith(f"{name}.") for wanted in only)}
        properties = {name: properties[name] for name in roots}
    return indexed_typed(typed(properties))


def indexed_typed(properties: Iterable[TypedValue]) -> dict[str, list[bytes]]:
    """Return the indexed values of each property, as :func:`indexed` does."""
    found: dict[str, list[bytes]] = {}
    _collect("", properties, found)
    return {name: column if len(column) == 1 else sorted({*column}) for name, column in found.items()}


def count_indexed(entity: EntityMessage) -> int:
    """Return the number of indexed values of an entity, duplicates included."""
    found: dict[str, list[bytes]] = {}
    _collect("", typed(entity.properties), found)
    return sum(map(len, found.values()))


def _collect(prefix: str, properties: Iterable[TypedValue], found: dict[str, list[bytes]]) -> None:
    for name, value, kind in properties:
        if kind is None or value.exclude_from_indexes:  # also a vector
            continue
        encode_value = _ENCODERS.get(kind)
        if encode_value is not None:
            found.setdefault(prefix + name, []).append(encode_value(getattr(value, kind)))
        elif kind == "array_value":
            elements = value.array_value.values
            _collect(prefix, ((name, element, element.WhichOneof("value_type")) for element in elements), found)
        elif kind == "entity_value":
            _collect(f"{prefix}{name}.", typed(value.entity_value.properties), found)
