"""Checks the meaning of a value: a number, mostly legacy, that annotates values of certain types."""

from gae_local_cloud.datastore.errors import InvalidArgument
from gae_local_cloud.datastore.messages import ValueMessage

INDEX_VALUE = 18
"""A value from an index, as in the results of projections."""

VECTOR = 31
"""An array of doubles for nearest-neighbor search; its elements are not indexed."""

_LONG_TEXT, _COMPRESSED = 15, 22
_UNINDEXED = (_LONG_TEXT, _COMPRESSED)

_OF_TYPE = {
    "string_value": {1, 2, 3, 4, 5, 6, 8, 10, 11, 12, _LONG_TEXT, 17},
    "integer_value": {13, 29, 30},
    "blob_value": {16, _COMPRESSED},
    "geo_point_value": {23},
    "entity_value": {20},
    "array_value": {VECTOR},
}
"""The meanings that each type of value may have; Google's emulators accept the same."""


def check(name: str, value: ValueMessage, *, projected: bool) -> None:
    """Check the meaning of a value.

    Parameters:
        name: the property, for messages.
        projected: whether the value may come from a projection.

    Raises:
        InvalidArgument: a value of this type, or an indexed one, cannot have the meaning.
    """
    meaning, kind = value.meaning, value.WhichOneof("value_type")
    if not meaning or (projected and meaning == INDEX_VALUE):
        return
    if meaning == INDEX_VALUE:
        raise InvalidArgument(f'The value "{name}" comes from a projection: Projection property cannot be used.')
    if meaning not in _OF_TYPE.get(kind, ()):
        raise InvalidArgument(f'Value "{name}" has a meaning {meaning} which does not match {kind} field.')
    if meaning in _UNINDEXED and not value.exclude_from_indexes:
        raise InvalidArgument(f'Indexed value has meaning {meaning}: the value "{name}" must be excluded from indexes.')
