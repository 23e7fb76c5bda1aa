"""Partial responses: the system parameter ``fields`` and its header ``X-Goog-FieldMask``.

A mask is a list of paths, separated by commas. The names in a path are separated by ``.`` or ``/`` and may be camelCase
or snake_case; ``a(b,c)`` stands for ``a.b,a.c``, and ``*`` for every field. The parameter is documented in Google's
"System parameters", the syntax in its pages on partial responses.
"""

import re
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.rpc.error_details_pb2 import BadRequest

from gae_local_cloud.cloud_tasks.errors import ServiceError
from gae_local_cloud.cloud_tasks.rest_json import bad_request, camel_case, find_field

Selection: TypeAlias = "dict[str, Selection]"
"""The selected fields; an empty dictionary selects everything."""

_TOKEN = re.compile(r"\s*([A-Za-z0-9_@*-]+|[,./()])\s*")
_MAX_LENGTH = 2000
_MAX_DEPTH = 50


def select_fields(answer: Any, mask: str, descriptor: Descriptor | None) -> Any:
    """Return the part of an answer that a mask selects.

    Parameters:
        answer: the answer in JSON.
        mask: the value of the parameter ``fields``; an empty one selects everything.
        descriptor: type of the answer, or None for an empty answer.

    Raises:
        ServiceError: INVALID_ARGUMENT if the mask is malformed or names an unknown field.
    """
    if not mask:
        return answer
    selection = _Parser(mask).parse()
    _check(selection, descriptor, "")
    return _select(answer, selection)


class _Parser:
    """A recursive-descent parser of masks."""

    def __init__(self, mask: str) -> None:
        self._mask = mask
        self._tokens = _TOKEN.findall(mask)
        if len(mask) > _MAX_LENGTH or _TOKEN.sub("", mask):
            raise _invalid_mask(mask)

    def parse(self) -> Selection:
        selection = self._list(depth=0)
        if self._tokens:
            raise _invalid_mask(self._mask)
        return selection

    def _list(self, depth: int) -> Selection:
        """Parse paths, separated by commas."""
        if depth > _MAX_DEPTH:
            raise _invalid_mask(self._mask)
        selection: Selection = {}
        self._path(selection, depth)
        while self._take(","):
            self._path(selection, depth)
        return selection

    def _path(self, selection: Selection, depth: int) -> None:
        """Parse one path into a selection."""
        while True:
            name = self._tokens.pop(0) if self._tokens else ""
            if not re.fullmatch(r"[\w@*-]+", name):
                raise _invalid_mask(self._mask)
            whole = selection.get(name) == {}  # an earlier path selects the whole field
            inner: Selection = {} if whole else selection.setdefault(name, {})
            if self._take("("):
                inner.update(self._list(depth + 1))
                if not self._take(")"):
                    raise _invalid_mask(self._mask)
                return
            if not (self._take(".") or self._take("/")):
                inner.clear()
                return
            selection = inner

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[0] == token:
            self._tokens.pop(0)
            return True
        return False


def _invalid_mask(mask: str) -> ServiceError:
    text = f"Error expanding 'fields' parameter. The mask is malformed: '{mask}'."
    return bad_request("Request contains an invalid argument.", [BadRequest.FieldViolation(description=text)])


def _check(selection: Selection, descriptor: Descriptor | None, path: str) -> None:
    """Check that each selected field exists."""
    for name, inner in selection.items():
        place = f"{path}.{name}".lstrip(".")
        field = None if descriptor is None else find_field(descriptor, name)
        if field is None and name != "*":
            text = f"Error expanding 'fields' parameter. Cannot find matching fields for path '{place}'."
            violation = BadRequest.FieldViolation(field=place, description=text)
            raise bad_request("Request contains an invalid argument.", [violation])
        if field is not None and inner and not _is_open(field):
            _check(inner, field.message_type, place)


def _is_open(field: FieldDescriptor) -> bool:
    """Return whether a field may hold any names: a map, or a message of any type."""
    message = field.message_type
    return message is not None and (message.GetOptions().map_entry or message.full_name == "google.protobuf.Any")


def _select(answer: Any, selection: Selection) -> Any:
    if not selection:
        return answer
    if isinstance(answer, list):
        return [_select(item, selection) for item in answer]
    if not isinstance(answer, dict):
        return answer
    selected = {}
    for name, value in answer.items():
        inners = [inner for wanted, inner in selection.items() if wanted in ("*", name) or camel_case(wanted) == name]
        if inners:
            selected[name] = value if {} in inners else _select(value, _union(inners))
    return selected


def _union(selections: list[Selection]) -> Selection:
    union: Selection = {}
    for selection in selections:
        union |= selection
    return union
