"""Keys: their partitions, and their paths as ordered bytes."""

from typing import NamedTuple

from gae_local_cloud.datastore import ordered
from gae_local_cloud.datastore.messages import Key, KeyMessage

_INCOMPLETE = b"\x00"
_ID = b"\x01"
_NAME = b"\x02"


class Partition(NamedTuple):
    """One namespace of one database of one project. A query is confined to one partition."""

    project: str
    database: str
    namespace: str


class EntityKey(NamedTuple):
    """A complete key: its partition and its :func:`encode_path`."""

    partition: Partition
    path: bytes


def encode_path(key: KeyMessage) -> bytes:
    """Encode the path of a key so that bytes sort as keys do.

    Element by element: kind, then id before name, ids as numbers, names as UTF-8. An entity sorts before its
    descendants, whose paths all begin with its :func:`ancestor_prefix`.
    """
    parts = []
    for element in key.path:
        parts.append(ordered.text(element.kind.encode()))
        which = element.WhichOneof("id_type")
        if which == "id":
            parts.append(_ID + ordered.integer(element.id))
        elif which == "name":
            parts.append(_NAME + ordered.text(element.name.encode()))
        else:
            parts.append(_INCOMPLETE)
    parts.append(ordered.TERMINATOR)
    return b"".join(parts)


def decode_path(encoded: bytes, key: KeyMessage, start: int = 0) -> int:
    """Append the elements of an encoded path to a key; return the offset after it."""
    while encoded[start : start + 2] != ordered.TERMINATOR:
        kind, start = ordered.untext(encoded, start)
        element = key.path.add(kind=kind.decode())
        tag = encoded[start : start + 1]
        start += 1
        if tag == _ID:
            element.id = ordered.uninteger(encoded, start)
            start += 8
        elif tag == _NAME:
            name, start = ordered.untext(encoded, start)
            element.name = name.decode()
    return start + 2


def elements(path: bytes) -> list[tuple[bytes, bytes]]:
    """Return the kind and name of each element of an encoded path; the name is empty if the element has an id."""
    found = []
    start = 0
    while path[start : start + 2] != ordered.TERMINATOR:
        kind, start = ordered.untext(path, start)
        if path[start : start + 1] == _NAME:
            name, start = ordered.untext(path, start + 1)
        else:
            name, start = b"", start + 9
        found.append((kind, name))
    return found


def path_end(encoded: bytes, start: int) -> int:
    """Return the offset after an encoded path that starts at ``start``."""
    while encoded[start : start + 2] != ordered.TERMINATOR:
        start = encoded.index(ordered.TERMINATOR, start) + 2
        tag = encoded[start : start + 1]
        start += 1
        if tag == _ID:
            start += 8
        elif tag == _NAME:
            start = encoded.index(ordered.TERMINATOR, start) + 2
    return start + 2


def kind_of(path: bytes) -> str:
    """Return the kind of the entity with an encoded path: that of its last element."""
    parent = lineage(path)[-2:-1]
    start = len(parent[0]) - len(ordered.TERMINATOR) if parent else 0
    kind, _ = ordered.untext(path, start)
    return kind.decode()


def ancestor_prefix(path: bytes) -> bytes:
    """Return the common prefix of the encoded paths of an entity and all its descendants."""
    return path[: -len(ordered.TERMINATOR)]


def lineage(path: bytes) -> list[bytes]:
    """Return the encoded paths of an entity's ancestors, root first, and its own."""
    paths = []
    start = 0
    while path[start : start + 2] != ordered.TERMINATOR:
        start = path.index(ordered.TERMINATOR, start) + 2
        tag = path[start : start + 1]
        start += 1
        if tag == _ID:
            start += 8
        elif tag == _NAME:
            start = path.index(ordered.TERMINATOR, start) + 2
        paths.append(path[:start] + ordered.TERMINATOR)
    return paths


def partition_of(key: KeyMessage) -> Partition:
    """Return the partition of a key."""
    partition = key.partition_id
    return Partition(partition.project_id, partition.database_id, partition.namespace_id)


def make_key(partition: Partition, path: bytes) -> KeyMessage:
    """Return a key as a message, from its partition and encoded path."""
    key = Key()
    set_partition(key, partition)
    decode_path(path, key)
    return key


def set_partition(key: KeyMessage, partition: Partition) -> None:
    """Set the partition of a key. Empty dimensions are left out, as in the service."""
    key.partition_id.project_id = partition.project
    key.partition_id.database_id = partition.database
    key.partition_id.namespace_id = partition.namespace


def describe(key: KeyMessage) -> str:
    """Return a key's path for an error message: ``Parent:name/Child:5``."""
    return "/".join(f"{element.kind}:{element.name or element.id or '(incomplete)'}" for element in key.path)
