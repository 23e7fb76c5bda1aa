"""Requests in JSON, read by the conventions of Google's REST APIs.

Names of fields may be camelCase or snake_case, also in field masks. Unknown names are refused in Google's words, with a
``google.rpc.BadRequest`` that lists them.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest

from gae_local_cloud.cloud_tasks.errors import ServiceError, invalid

Json: TypeAlias = dict[str, Any]

_INVALID = "Invalid JSON payload received."


def parse_message(json: Json, message_type: type[Message]) -> Message:
    """Return a request message.

    Parameters:
        json: the request; its field masks are changed to camelCase.
        message_type: class of the request message.

    Raises:
        ServiceError: INVALID_ARGUMENT if a name is unknown or a value does not fit its field.
    """
    descriptor: Any = message_type.DESCRIPTOR
    unknown = list(_unknown_names(json, descriptor, ""))
    if unknown:
        raise bad_request(
            "\n".join(text for _, text in unknown),
            (BadRequest.FieldViolation(field=path, description=text) for path, text in unknown),
        )
    try:
        return json_format.ParseDict(json, message_type())
    except json_format.ParseError as error:
        raise invalid(f"{_INVALID} {error}") from error


def bad_request(message: str, violations: "Iterable[BadRequest.FieldViolation]") -> ServiceError:
    """Return INVALID_ARGUMENT with a ``google.rpc.BadRequest`` that lists the invalid fields."""
    return invalid(message, BadRequest(field_violations=violations))


def unknown_parameter(name: str) -> ServiceError:
    """Return the error for a query parameter that is not a field of the request."""
    text = (
        f'{_INVALID} Unknown name "{name}": Cannot bind query parameter. '
        f"Field '{name}' could not be found in request message."
    )
    return bad_request(text, [BadRequest.FieldViolation(description=text)])


def find_field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    """Return a field by its name in protobuf or in JSON, or None."""
    return descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)


def camel_case(name: str) -> str:
    """Return a name, or a path of names, in camelCase."""
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def _unknown_names(json: Any, descriptor: Descriptor, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the error text of each unknown name in a message; change field masks to camelCase."""
    if not isinstance(json, dict):
        return  # ParseDict refuses the value
    for name, value in json.items():
        field = find_field(descriptor, name)
        if field is None:
            place = f" at '{path}'" if path else ""
            yield path, f'{_INVALID} Unknown name "{name}"{place}: Cannot find field.'
        elif field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        elif field.message_type.full_name == FieldMask.DESCRIPTOR.full_name:
            if isinstance(value, str):
                json[name] = camel_case(value)
        elif not field.message_type.full_name.startswith("google.protobuf."):  # those are strings or numbers in JSON
            inner = f"{path}.{field.name}".lstrip(".")
            if isinstance(value, list):
                for index, item in enumerate(value):
                    yield from _unknown_names(item, field.message_type, f"{inner}[{index}]")
            else:
                yield from _unknown_names(value, field.message_type, inner)
