"""Field masks: which fields of a message an update is about."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from gae_local_cloud.cloud_tasks.errors import invalid


def merge_masked(source: Message, destination: Message, mask: FieldMask, field: str) -> frozenset[str]:
    """Copy the fields that a mask names, set or not; all of them if it names none.

    Parameters:
        source: is left as it is.
        destination: is changed.
        mask: paths of ``source``'s fields.
        field: the request's field that the mask is, for the message.

    Returns:
        The mask's paths; empty if it names none.

    Raises:
        ServiceError: INVALID_ARGUMENT: a path is not one of ``source``.
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
    """Make the messages that contain the paths' fields: MergeMessage skips what has no parent, rather than clear it."""
    for path in paths:
        parent = message
        for name in path.split(".")[:-1]:
            parent = getattr(parent, name)
            parent.SetInParent()
