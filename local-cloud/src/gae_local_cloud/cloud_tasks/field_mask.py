"""Field masks, which name the fields that an update changes."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from gae_local_cloud.cloud_tasks.errors import invalid


def merge_masked(source: Message, destination: Message, mask: FieldMask, field: str) -> frozenset[str]:
    """Copy the fields that a mask names, set or unset; an empty mask copies all fields.

    Parameters:
        source: the message to copy from.
        destination: the message to change.
        mask: paths of fields of ``source``.
        field: name of the mask's field in the request, for the message.

    Returns:
        The paths of the mask.

    Raises:
        ServiceError: INVALID_ARGUMENT if a path is not a field of ``source``.
    """
    if not mask.paths or list(mask.paths) == ["*"]:
        destination.CopyFrom(source)
        return frozenset()
    descriptor: Any = source.DESCRIPTOR
    if not mask.IsValidForDescriptor(descriptor):
        raise invalid(f"{field} has a path that is not a field of {descriptor.name}: {', '.join(mask.paths)}")
    complete = type(source)()
    complete.CopyFrom(source)
    _make_parents(complete, mask.paths)
    mask.MergeMessage(complete, destination, replace_message_field=True, replace_repeated_field=True)
    return frozenset(mask.paths)


def _make_parents(message: Message, paths: Iterable[str]) -> None:
    """Create the parents of the named fields: MergeMessage skips a field without a parent instead of clearing it."""
    for path in paths:
        parent = message
        for name in path.split(".")[:-1]:
            parent = getattr(parent, name)
            parent.SetInParent()
