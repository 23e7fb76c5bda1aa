"""Sizes in bytes that Datastore counts for entities and index entries.

The rules are those of "Storage Size Calculations" in its documentation. Statistics use them; the database file has
other sizes.
"""

import functools
from collections.abc import Mapping, Sequence

from gae_local_cloud.datastore import keys, ordered, values
from gae_local_cloud.datastore.messages import KeyMessage, ValueMessage

_KEY = 16
_ENTITY = 32
_INDEX_ENTRY = 32

FIXED = {
    "null_value": 1,
    "boolean_value": 1,
    "integer_value": 8,
    "double_value": 8,
    "timestamp_value": 8,
    "geo_point_value": 16,
}
"""The size of a value by its type, of those types whose values have one size."""

_FIXED_ENCODED = {values.NULL: 1, values.BOOLEAN: 1, values.INTEGER: 8, values.DOUBLE: 8, values.GEO_POINT: 16}


def of_string(string: str) -> int:
    """Return the size of a string."""
    return len(string.encode()) + 1


of_name = functools.lru_cache(maxsize=1024)(of_string)
"""Return the size of a property name or a kind. They recur, so sizes are remembered."""


def of_key(key: KeyMessage) -> int:
    """Return the size of a key."""
    namespace = key.partition_id.namespace_id
    path = (of_string(element.kind) + (of_string(element.name) if element.name else 8) for element in key.path)
    return _KEY + sum(path) + (of_string(namespace) if namespace else 0)


def of_path(namespace: str, path: bytes) -> tuple[int, int]:
    """Return the size of a key, given its namespace and encoded path, and the number of elements of the path."""
    elements = keys.elements(path)
    size = _KEY + (of_string(namespace) if namespace else 0)
    for kind, name in elements:
        size += len(kind) + 1 + (len(name) + 1 if name else 8)
    return size, len(elements)


def of_value(value: ValueMessage) -> int:
    """Return the size of a property's value. An array or entity has the sum of its elements or properties."""
    kind = value.WhichOneof("value_type")
    fixed = FIXED.get(kind)
    if fixed is not None:
        return fixed
    if kind == "string_value":
        return of_string(value.string_value)
    if kind == "blob_value":
        return len(value.blob_value)
    if kind == "key_value":
        return of_key(value.key_value)
    if kind == "array_value":
        return sum(map(of_value, value.array_value.values))
    inner = value.entity_value
    return of_properties(inner.properties) + (of_key(inner.key) if inner.HasField("key") else 0)


def of_properties(properties: Mapping[str, ValueMessage]) -> int:
    """Return the size of properties with their names."""
    return sum(of_string(name) + of_value(value) for name, value in properties.items())


def of_entity(key: int, properties: int) -> int:
    """Return the size of an entity, given the sizes of its key and its properties."""
    return key + properties + _ENTITY


def of_indexed(encoded: bytes) -> int:
    """Return the size of a value in an index. Bytes count as a string: an index has one type for both."""
    tag = encoded[:1]
    fixed = _FIXED_ENCODED.get(tag)
    if fixed is not None:
        return fixed
    if tag == values.TEXT:
        return ordered.text_size(encoded[1:]) + 1
    return of_key(values.decode(encoded).key_value)


def of_kind_entry(key: int, kind: int) -> int:
    """Return the size of an entity's entry in the index of its kind, given the sizes of its key and kind.

    An entry in the index of one property also has the name of the property and a value.
    """
    return key + kind + _INDEX_ENTRY


def of_composite_entries(key: int, columns: Sequence[Sequence[int]], count: int) -> int:
    """Return the size of an entity's entries in a composite index.

    Parameters:
        columns: for each property, the sizes of the entity's values.
        count: number of entries.
    """
    return count * (key + _INDEX_ENTRY) + sum(sum(column) * (count // len(column)) for column in columns)
