"""Property paths and masks: the parts of an entity that a read returns or a write changes."""

import re
from collections.abc import Iterable
from typing import TypeAlias

from gae_local_cloud.datastore import validation
from gae_local_cloud.datastore.errors import InvalidArgument
from gae_local_cloud.datastore.messages import Entity, EntityMessage, Message, ValueMessage

PropertyPath: TypeAlias = tuple[str, ...]
"""Names of properties. Each is a property of the entity value that the previous one names."""

_QUOTED = re.compile(r"`((?:[^`\\]|\\.)+)`(?=\.|$)", re.DOTALL)
_PLAIN = re.compile(r"((?:[^.\\]|\\.?)*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)

KEY_PATH: PropertyPath = ("__key__",)


def parse(text: str) -> PropertyPath:
    """Parse a dotted string.

    A backslash escapes a dot or a backslash in a name (documentation of PropertyMask). A name in backquotes, the form
    that Google's Firestore emulator takes, may contain plain dots.

    Raises:
        InvalidArgument: the string or a name in it is empty, or a name is not allowed.
    """
    if not text:
        raise InvalidArgument("Invalid empty property path string.")
    names = []
    place = 0
    while place <= len(text):
        match = _QUOTED.match(text, place) or _PLAIN.match(text, place)
        assert match is not None  # noqa: S101 - a plain name may be empty
        names.append(_ESCAPED.sub(r"\1", match[1]))
        place = match.end() + 1
    if tuple(names) != KEY_PATH:
        for name in names:
            validation.check_name(name, "property path member name")
    return tuple(names)


def parse_mask(mask: Message) -> list[PropertyPath]:
    """Return the paths of a PropertyMask.

    Raises:
        InvalidArgument: a path is malformed.
    """
    return [parse(text) for text in mask.paths]


def select(entity: EntityMessage, paths: Iterable[PropertyPath]) -> EntityMessage:
    """Return a copy of an entity with its key and only the properties at some paths."""
    selected = Entity()
    if entity.HasField("key"):
        selected.key.CopyFrom(entity.key)
    copy(entity, selected, paths)
    return selected


def copy(source: EntityMessage, target: EntityMessage, paths: Iterable[PropertyPath]) -> None:
    """Copy the properties at some paths from one entity to another. Remove those that the source lacks."""
    for path in paths:
        if path == KEY_PATH:
            continue
        value = find(source, path)
        if value is not None:
            make(target, path).CopyFrom(value)
        else:
            _remove(target, path)


def _remove(entity: EntityMessage, path: PropertyPath) -> None:
    inner = _inside(entity, path[:-1])
    if inner is not None and path[-1] in inner.properties:
        del inner.properties[path[-1]]


def find(entity: EntityMessage, path: PropertyPath) -> ValueMessage | None:
    """Return the value at a path into an entity, or None if it is absent."""
    inner = _inside(entity, path[:-1])
    return inner.properties.get(path[-1]) if inner is not None else None


def make(entity: EntityMessage, path: PropertyPath) -> ValueMessage:
    """Return the value at a path into an entity, created if absent. Other values on the way become entities."""
    for name in path[:-1]:
        value = entity.properties[name]
        if value.WhichOneof("value_type") != "entity_value":
            value.Clear()
            value.entity_value.SetInParent()
        entity = value.entity_value
    return entity.properties[path[-1]]


def _inside(entity: EntityMessage, path: Iterable[str]) -> EntityMessage | None:
    """Return the embedded entity at a path, or None if it is absent."""
    for name in path:
        value = entity.properties.get(name)
        if value is None or value.WhichOneof("value_type") != "entity_value":
            return None
        entity = value.entity_value
    return entity
