"""Property transforms: changes that the server makes to stored values."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from gae_local_cloud.datastore import meanings, property_paths, validation
from gae_local_cloud.datastore.errors import InvalidArgument
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.messages import EntityMessage, Message, PropertyTransform, Value, ValueMessage

_MAX_INT64, _MIN_INT64 = 2**63 - 1, -(2**63)
_NUMBERS = ("integer_value", "double_value")
_MILLISECOND = 1000


def check(transforms: Iterable[Message], scope: Partition) -> None:
    """Check transforms.

    Parameters:
        scope: the project and database of the entity.

    Raises:
        InvalidArgument: a transform breaks a rule.
    """
    paths = {_check(transform, scope) for transform in transforms}
    for path in paths:
        if any(path[:length] in paths for length in range(1, len(path))):
            raise InvalidArgument(
                f"Cannot transform property {path[0]} and its nested property {'.'.join(path)} at the same time."
            )


def _check(transform: Message, scope: Partition) -> property_paths.PropertyPath:
    """Check one transform and return its path."""
    path = property_paths.parse(transform.property)
    if path == property_paths.KEY_PATH:
        raise InvalidArgument('Invalid property path member name "__key__".')
    kind = transform.WhichOneof("transform_type")
    if kind is None:
        raise InvalidArgument(f'The transform of "{transform.property}" has no type.')
    if kind == "set_to_server_value":
        if transform.set_to_server_value != PropertyTransform.REQUEST_TIME:
            raise InvalidArgument(f'The transform of "{transform.property}" has an unknown server value.')
    elif kind in _ARITHMETIC:
        if getattr(transform, kind).WhichOneof("value_type") not in _NUMBERS:
            raise InvalidArgument("Input must be int64 or double.")
    else:
        for element in getattr(transform, kind).values:
            validation.check_value(transform.property, element, scope, in_array=True)
    return path


def apply(entity: EntityMessage, transforms: Iterable[Message], now: int) -> list[ValueMessage]:
    """Apply checked transforms to an entity in order, and return their results.

    Parameters:
        now: the time for ``REQUEST_TIME``, in microseconds since the epoch; it is rounded down to the millisecond.
    """
    return [_apply(entity, transform, now) for transform in transforms]


def _apply(entity: EntityMessage, transform: Message, now: int) -> ValueMessage:
    kind = transform.WhichOneof("transform_type")
    value = property_paths.make(entity, property_paths.parse(transform.property))
    if kind == "set_to_server_value":
        value.Clear()
        value.timestamp_value.FromMicroseconds(now - now % _MILLISECOND)
    elif kind in _ARITHMETIC:
        operand = getattr(transform, kind)
        stored = _number(value)
        number = _ARITHMETIC[kind](stored, _number(operand))
        if number is not stored:  # a new value is indexed like its operand
            value.CopyFrom(operand)
            _set_number(value, number)
    else:
        _change_array(value, getattr(transform, kind).values, append=kind == "append_missing_elements")
        return Value(null_value=0)
    return Value.FromString(value.SerializeToString())


def _number(value: ValueMessage) -> int | float | None:
    kind = value.WhichOneof("value_type")
    return getattr(value, kind) if kind in _NUMBERS else None


def _set_number(value: ValueMessage, number: int | float) -> None:
    if isinstance(number, int):
        value.integer_value = number
    else:
        value.double_value = number


def _add(stored: int | float | None, given: int | float) -> int | float:
    if stored is None:
        return given
    if isinstance(stored, int) and isinstance(given, int):
        return min(max(stored + given, _MIN_INT64), _MAX_INT64)
    return float(stored) + float(given)


def _extreme(larger: bool) -> Callable[[int | float | None, int | float], int | float]:
    def choose(stored: int | float | None, given: int | float) -> int | float:
        if stored is None:
            return given
        if math.isnan(stored):
            return stored
        if math.isnan(given):
            return given
        return given if (given > stored if larger else given < stored) else stored

    return choose


_ARITHMETIC: dict[str, Callable[[Any, Any], int | float]] = {
    "increment": _add,
    "maximum": _extreme(True),
    "minimum": _extreme(False),
}


def _change_array(value: ValueMessage, elements: Iterable[ValueMessage], *, append: bool) -> None:
    is_list = value.WhichOneof("value_type") == "array_value" and value.meaning != meanings.VECTOR
    current = list(value.array_value.values) if is_list else []
    if append:
        for element in elements:
            if not any(_equivalent(element, other) for other in current):
                current.append(element)
    else:
        unwanted = list(elements)
        current = [element for element in current if not any(_equivalent(element, other) for other in unwanted)]
    kept = Value()
    kept.array_value.SetInParent()
    kept.array_value.values.extend(current)
    value.CopyFrom(kept)


def _equivalent(one: ValueMessage, other: ValueMessage) -> bool:
    """Return whether two elements of arrays are equal: 1 equals 1.0, and NaN equals NaN."""
    left, right = _number(one), _number(other)
    if left is not None and right is not None:
        return left == right or (math.isnan(left) and math.isnan(right))
    bare = [Value.FromString(value.SerializeToString()) for value in (one, other)]
    for value in bare:
        value.ClearField("exclude_from_indexes")
        value.ClearField("meaning")
    return bool(bare[0] == bare[1])
