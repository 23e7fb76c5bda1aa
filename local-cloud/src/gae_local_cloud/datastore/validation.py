"""Rules for keys and entities. Limits and messages are the service's."""

import functools
import math
import re
from collections.abc import Iterable
from typing import Any

from gae_local_cloud.datastore import meanings, values
from gae_local_cloud.datastore.errors import InvalidArgument
from gae_local_cloud.datastore.keys import Partition, set_partition
from gae_local_cloud.datastore.messages import EntityMessage, KeyMessage, ValueMessage

MAX_INDEXED_BYTES = 1500
"""Maximum bytes of an indexed string or blob, and of a kind, key name or property name."""

MAX_ENTITY_BYTES = 2**20 - 4
"""Maximum bytes of an entity: 1 MiB minus 4."""

MAX_INDEXED_VALUES = 20_000
"""Maximum number of indexed values of an entity (documentation, "Limits"; Google's emulator takes 5,000)."""

_MIN_VALUE_BYTES = 4  # of an indexed value in a serialized entity

MAX_PATH_ELEMENTS = 100
"""Maximum number of elements of a key's path."""

MAX_DEPTH = 20
"""Maximum nesting of entities inside entities."""

MAX_DIMENSIONS = 2048
"""Maximum number of dimensions of a vector."""

_UNCHECKED = {"null_value", "boolean_value", "integer_value", "double_value"}
_RESERVED = re.compile(r"__.*__", re.DOTALL)
_DIMENSION = re.compile(r"[A-Za-z\d.\-_]{1,100}")
_PROJECT = re.compile(r"(?:[a-z\d.\-]+:)?[a-z\d][a-z\d\-]{0,99}")
_MIN_SECONDS, _MAX_SECONDS = -62_135_596_800, 253_402_300_799  # years 1 to 9999


def check_name(name: str, what: str, *, reserved: bool = False) -> None:
    """Check a kind, a key name or a property name.

    Parameters:
        what: the term for it in error messages.
        reserved: whether names of the form ``__x__`` are allowed.

    Raises:
        InvalidArgument: the name is empty, too long or reserved.
    """
    if not name:
        raise InvalidArgument(f"The {what} is the empty string.")
    if len(name) > MAX_INDEXED_BYTES // 4 and len(name.encode()) > MAX_INDEXED_BYTES:
        raise InvalidArgument(f"The {what} is longer than {MAX_INDEXED_BYTES} bytes.")
    if not reserved and is_reserved(name):
        raise InvalidArgument(f'The {what} "{name}" is reserved.')


def is_reserved(name: str) -> bool:
    """Return whether a name has the form ``__x__``, which is reserved for the service."""
    return name.startswith("__") and _RESERVED.fullmatch(name) is not None


def check_dimension(name: str, what: str, *, reserved: bool = False) -> None:
    """Check a database or namespace id. The empty id is the default one.

    Raises:
        InvalidArgument: the id is too long, reserved, or has a character that is not allowed.
    """
    if not name:
        return
    if not _DIMENSION.fullmatch(name):
        raise InvalidArgument(f'Illegal string "{name}" in {what}.')
    if not reserved and is_reserved(name):
        raise InvalidArgument(f'The {what} "{name}" is reserved.')


@functools.lru_cache(maxsize=256)
def check_scope(project: str, database: str) -> None:
    """Check the project and database of a request.

    Raises:
        InvalidArgument: the project is missing; or an id is too long, reserved, or has a character that is not allowed.
    """
    if not project:
        raise InvalidArgument("The project_id is required.")
    if not _PROJECT.fullmatch(project):
        raise InvalidArgument(f'"{project}" is an invalid project id: it may have small letters, digits and hyphens.')
    check_dimension(database, "database id")


def check_partition(key: KeyMessage, scope: Partition) -> None:
    """Check that a key is in the project and database of its request, and fill in missing dimensions.

    Raises:
        InvalidArgument: the key names another project or database.
    """
    partition = key.partition_id
    project, database = partition.project_id or scope.project, partition.database_id or scope.database
    if (project, database) != (scope.project, scope.database):
        asked = "~".join(filter(None, (scope.project, scope.database)))
        found = "~".join(filter(None, (project, database)))
        raise InvalidArgument(f"mismatched databases within request: {asked} vs. {found}")
    if not partition.project_id or partition.database_id != database:
        set_partition(key, Partition(project, database, partition.namespace_id))


def check_key(key: KeyMessage, *, incomplete: bool = False, reserved: bool = False) -> None:
    """Check a key's path and namespace.

    Parameters:
        incomplete: whether the last path element must be incomplete; otherwise it must be complete.
        reserved: whether kinds, names and namespaces of the form ``__x__`` are allowed.

    Raises:
        InvalidArgument: the key breaks a rule.
    """
    path = key.path
    if not path:
        raise InvalidArgument("Key path is empty.")
    if len(path) > MAX_PATH_ELEMENTS:
        raise InvalidArgument(f"Key path is too long. Cannot exceed {MAX_PATH_ELEMENTS} elements.")
    check_dimension(key.partition_id.namespace_id, "namespace id", reserved=reserved)
    last = len(path) - 1
    for position, element in enumerate(path):
        check_name(element.kind, "kind", reserved=reserved)
        which = element.WhichOneof("id_type")
        if which == "name":
            check_name(element.name, "key path element name", reserved=reserved)
        elif which == "id" and not element.id:
            raise InvalidArgument("Key path id is invalid. Must not be zero.")
        elif which is None and not (incomplete and position == last):
            raise InvalidArgument(f"Key path element must not be incomplete: [{_path_text(path)}]")
        if which is not None and incomplete and position == last:
            raise InvalidArgument(f"Key path element must not be complete: [{_path_text(path)}]")


def _path_text(path: Iterable[Any]) -> str:
    return ", ".join(f"{element.kind}: {element.name or element.id or ''}" for element in path)


def is_complete(key: KeyMessage) -> bool:
    """Return whether a key's last path element has an id or name. A key without a path counts as complete."""
    return not key.path or key.path[-1].WhichOneof("id_type") is not None


def check_properties(entity: EntityMessage, scope: Partition) -> None:
    """Check an entity's properties, and fill in the project of keys among its values.

    Raises:
        InvalidArgument: a name or value breaks a rule.
    """
    properties = entity.properties
    for name in properties:
        _check_property_name(name)
        check_value(name, properties[name], scope)


@functools.lru_cache(maxsize=1024)
def _check_property_name(name: str) -> None:
    check_name(name, "property.name")


def check_value(
    name: str,
    value: ValueMessage,
    scope: Partition,
    *,
    in_array: bool = False,
    depth: int = 0,
    projected: bool = False,
) -> None:
    """Check a property's value, and normalize it: times to microseconds, keys with their project.

    Parameters:
        name: the property, for error messages.
        projected: whether the value may come from a projection.

    Raises:
        InvalidArgument: the value breaks a rule.
    """
    kind = value.WhichOneof("value_type")
    if kind in _UNCHECKED:
        pass
    elif kind in ("string_value", "blob_value"):
        _check_length(
            name,
            value.string_value.encode() if kind == "string_value" else value.blob_value,
            value.exclude_from_indexes,
        )
    elif kind == "array_value":
        _check_array(name, value, scope, in_array=in_array, depth=depth)
    elif kind == "entity_value":
        _check_embedded(value.entity_value, scope, depth=depth + 1)
    elif kind == "key_value":
        _check_key_value(value.key_value, scope)
    elif kind == "timestamp_value":
        _check_timestamp(value.timestamp_value)
    elif kind == "geo_point_value":
        _check_coordinate("latitude", value.geo_point_value.latitude, 90.0)
        _check_coordinate("longitude", value.geo_point_value.longitude, 180.0)
    elif kind is None:
        raise InvalidArgument(f'The value "{name}" does not contain a value.')
    if value.meaning:
        meanings.check(name, value, projected=projected)


def _check_length(name: str, data: bytes, excluded: bool) -> None:
    if not excluded and len(data) > MAX_INDEXED_BYTES:
        raise InvalidArgument(f'The value of property "{name}" is longer than {MAX_INDEXED_BYTES} bytes.')


def _check_array(name: str, value: ValueMessage, scope: Partition, *, in_array: bool, depth: int) -> None:
    if in_array:
        raise InvalidArgument("list_value cannot contain a Value containing another list_value.")
    if value.meaning == meanings.VECTOR:
        check_vector(value)
        if not value.exclude_from_indexes:
            raise InvalidArgument(f'The vector "{name}" must be excluded from indexes.')
        return
    if value.exclude_from_indexes:
        raise InvalidArgument("Exclude from indexes cannot be set on a list value")
    for element in value.array_value.values:
        check_value(name, element, scope, in_array=True, depth=depth)


def check_vector(value: ValueMessage) -> None:
    """Check the elements of a vector.

    Raises:
        InvalidArgument: the vector is empty or too long, or an element is not a double or is NaN.
    """
    elements = value.array_value.values
    if not elements:
        raise InvalidArgument("Cannot have a zero length vector.")
    if len(elements) > MAX_DIMENSIONS:
        raise InvalidArgument(f"Vectors must be at most {MAX_DIMENSIONS} dimensions.")
    for element in elements:
        if element.WhichOneof("value_type") != "double_value":
            raise InvalidArgument("Vector must only contain values of type 'double'.")
        if math.isnan(element.double_value):
            raise InvalidArgument("Vector cannot contain NaN values.")


def _check_embedded(entity: EntityMessage, scope: Partition, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"Entity values may be nested at most {MAX_DEPTH} levels deep.")
    if entity.HasField("key") and not entity.key.path:
        raise InvalidArgument("Key path is empty.")
    for name, value in entity.properties.items():
        _check_property_name(name)
        check_value(name, value, scope, depth=depth)


def _check_key_value(key: KeyMessage, scope: Partition) -> None:
    check_key(key, reserved=True)
    if not key.partition_id.project_id:
        key.partition_id.project_id = scope.project
        key.partition_id.database_id = key.partition_id.database_id or scope.database


def _check_timestamp(timestamp: Any) -> None:
    if not _MIN_SECONDS <= timestamp.seconds <= _MAX_SECONDS:
        raise InvalidArgument("Timestamp seconds exceeds limit for field")
    if not 0 <= timestamp.nanos < 1_000_000_000:
        raise InvalidArgument("Timestamp nanos exceeds limit for field")
    timestamp.nanos -= timestamp.nanos % 1000  # stored to the microsecond


def _check_coordinate(what: str, degrees: float, limit: float) -> None:
    if math.isnan(degrees):
        raise InvalidArgument(f"Geo point {what} is not a number.")
    if not -limit <= degrees <= limit:
        raise InvalidArgument(f"Geo point {what} outside permitted range -{limit} to {limit}.")


def check_size(entity: EntityMessage) -> None:
    """Check an entity's size.

    Raises:
        InvalidArgument: the entity has too many bytes or too many indexed values.
    """
    size = entity.ByteSize()
    if size > MAX_ENTITY_BYTES:
        raise InvalidArgument("maximum entity size is 1048576 bytes")
    if size > _MIN_VALUE_BYTES * MAX_INDEXED_VALUES and values.count_indexed(entity) > MAX_INDEXED_VALUES:
        raise InvalidArgument(f"Too many indexed properties: an entity may have {MAX_INDEXED_VALUES} indexed values.")
