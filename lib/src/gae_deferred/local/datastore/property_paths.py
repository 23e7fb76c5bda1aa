"""Property masks: the parts of an entity that a read returns or a write touches."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from gae_deferred.local.datastore import validation
from gae_deferred.local.datastore.errors import InvalidArgument
from gae_deferred.local.datastore.messages import Entity, EntityMessage, Message

PropertyPath: TypeAlias = tuple[str, ...]
"""Names of properties, each inside the entity value of the one before."""

KEY_PATH: PropertyPath = ("__key__",)


def parse(text: str) -> PropertyPath:
    """Return the path that a dotted string names; a backslash takes away the meaning of a dot or backslash after it.

    Raises:
        InvalidArgument: the string or a name in it is empty, or a name is not allowed.
    """
    if not text:
        raise InvalidArgument("Invalid empty property path string.")
    names = [""]
    letters = iter(text)
    for letter in letters:
        if letter == ".":
            names.append("")
        elif letter == "\\":
            names[-1] += next(letters, "")
        else:
            names[-1] += letter
    if tuple(names) != KEY_PATH:
        for name in names:
            validation.check_name(name, "property path member name")
    return tuple(names)


def parse_mask(mask: Message) -> list[PropertyPath]:
    """Return the paths of a PropertyMask.

    Raises:
        InvalidArgument: one is not a path.
    """
    return [parse(text) for text in mask.paths]


def select(entity: EntityMessage, paths: Iterable[PropertyPath]) -> EntityMessage:
    """Return an entity with the key of the given one and only the properties at some paths."""
    selected = Entity()
    if entity.HasField("key"):
        selected.key.CopyFrom(entity.key)
    copy(entity, selected, paths)
    return selected


def copy(source: EntityMessage, target: EntityMessage, paths: Iterable[PropertyPath]) -> None:
    """Make the properties of an entity at some paths what they are in another: a value, or absent."""
    for path in paths:
        if path != KEY_PATH:
            _copy(source.properties, target.properties, path)


def _copy(source: Any, target: Any, path: Sequence[str]) -> None:
    name, *rest = path
    if rest:
        inner = source[name].entity_value.properties if _is_entity(source, name) else {}
        if inner or _is_entity(target, name):
            if not _is_entity(target, name):
                target[name].entity_value.SetInParent()
            _copy(inner, target[name].entity_value.properties, rest)
    elif name in source:
        target[name].CopyFrom(source[name])
    elif name in target:
        del target[name]


def _is_entity(properties: Any, name: str) -> bool:
    return name in properties and properties[name].WhichOneof("value_type") == "entity_value"
