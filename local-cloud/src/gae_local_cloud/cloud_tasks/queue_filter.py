"""The filter of ListQueues: ``state: PAUSED``, ``rate_limits.max_dispatches_per_second >= 5 AND NOT name: test``.

The syntax is a subset of Cloud Logging's filters. Fields are compared with ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``
and ``:`` (has, or contains). Comparisons are joined by AND, which may be left out, and OR; they may have NOT or ``-``
before them and parentheses around them.
"""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from gae_local_cloud.cloud_tasks.errors import invalid
from gae_local_cloud.cloud_tasks.messages import Queue
from gae_local_cloud.cloud_tasks.times import from_duration, from_timestamp

Predicate: TypeAlias = Callable[[Queue], bool]

_TOKEN = re.compile(r'\s*(?:(?P<operator><=|>=|!=|[<>=:()-])|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s<>=!:()"]+))')
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda field, value: bool(field == value),
    "!=": lambda field, value: bool(field != value),
    "<": lambda field, value: bool(field < value),
    "<=": lambda field, value: bool(field <= value),
    ">": lambda field, value: bool(field > value),
    ">=": lambda field, value: bool(field >= value),
}
_MAX_LENGTH = 2000
_MAX_DEPTH = 50


def queue_filter(text: str) -> Predicate:
    """Return a filter as a predicate; an empty filter matches every queue.

    Raises:
        ServiceError: INVALID_ARGUMENT if the filter cannot be parsed or names an unknown field.
    """
    if len(text) > _MAX_LENGTH:
        raise invalid(f"filter has {len(text)} characters, the limit is {_MAX_LENGTH}")
    return _Parser(text).parse()


class _Parser:
    """A recursive-descent parser with one method for each level of precedence."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._wrong(f"at character {position + 1}")
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind]))
            position = match.end()

    def parse(self) -> Predicate:
        if not self._tokens:
            return lambda queue: True
        predicate = self._or()
        if self._tokens:
            raise self._wrong(f'at "{self._tokens[0][1]}"')
        return predicate

    def _or(self) -> Predicate:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong("nested too deeply")
        choices = [self._and()]
        while self._take_word("OR"):
            choices.append(self._and())
        self._depth -= 1
        return lambda queue: any(choice(queue) for choice in choices)

    def _and(self) -> Predicate:
        parts = [self._not()]
        while self._tokens and self._tokens[0] not in (("operator", ")"), ("word", "OR")):
            self._take_word("AND")
            parts.append(self._not())
        return lambda queue: all(part(queue) for part in parts)

    def _not(self) -> Predicate:
        negations = 0
        while self._take_word("NOT") or self._take_operator("-"):
            negations += 1
        predicate = self._term()
        return predicate if negations % 2 == 0 else lambda queue: not predicate(queue)

    def _term(self) -> Predicate:
        if self._take_operator("("):
            predicate = self._or()
            if not self._take_operator(")"):
                raise self._wrong("a parenthesis is not closed")
            return predicate
        kind, path = self._next("a field")
        if kind != "word":
            raise self._wrong(f'"{path}" is not a field')
        kind, operator = self._next("an operator")
        if kind != "operator" or operator not in (*_COMPARISONS, ":"):
            raise self._wrong(f'"{operator}" is not an operator')
        kind, value = self._next("a value")
        if (kind, value) == ("operator", "-"):
            value += self._next("a value")[1]
        elif kind == "operator":
            raise self._wrong(f'"{value}" is not a value')
        if kind == "quoted":
            value = re.sub(r"\\(.)", r"\1", value)
        return _comparison(path, operator, value)

    def _next(self, expected: str) -> tuple[str, str]:
        if not self._tokens:
            raise self._wrong(f"{expected} is missing at the end")
        return self._tokens.pop(0)

    def _take_word(self, word: str) -> bool:
        return self._take(("word", word))

    def _take_operator(self, operator: str) -> bool:
        return self._take(("operator", operator))

    def _take(self, token: tuple[str, str]) -> bool:
        if self._tokens and self._tokens[0] == token:
            self._tokens.pop(0)
            return True
        return False

    def _wrong(self, what: str) -> Exception:
        return invalid(f'filter cannot be parsed, {what}: "{self._text}"')


def _comparison(path: str, operator: str, value: str) -> Predicate:
    fields = _fields(path)
    leaf = fields[-1]
    if operator == ":" and (leaf.message_type is not None and value == "*"):
        return lambda queue: _reach(queue, fields) is not None
    wanted = _value(leaf, value, path)
    if operator == ":" and leaf.type == FieldDescriptor.TYPE_STRING:
        return lambda queue: str(wanted).lower() in str(_reach(queue, fields) or "").lower()
    compare = _COMPARISONS["=" if operator == ":" else operator]

    def matches(queue: Queue) -> bool:
        found = _reach(queue, fields)
        return found is not None and compare(found, wanted)

    return matches


def _fields(path: str) -> list[FieldDescriptor]:
    """Return the descriptors of a path's fields, whose names may be protobuf's or JSON's."""
    message: Any = Queue.DESCRIPTOR
    fields: list[FieldDescriptor] = []
    for part in path.split("."):
        found = (
            None if message is None else message.fields_by_name.get(part) or message.fields_by_camelcase_name.get(part)
        )
        if found is None:
            raise invalid(f'filter names an unknown field of a queue: "{path}"')
        fields.append(found)
        message = found.message_type
    return fields


def _value(leaf: FieldDescriptor, text: str, path: str) -> Any:
    """Parse a value by the type of its field."""
    try:
        if leaf.enum_type is not None:
            return leaf.enum_type.values_by_name[text.upper()].number
        if leaf.type == FieldDescriptor.TYPE_STRING:
            return text
        if leaf.message_type is None:
            return float(text)
        if leaf.message_type.full_name == Duration.DESCRIPTOR.full_name:
            duration = Duration()
            duration.FromJsonString(text)
            return from_duration(duration)
        if leaf.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
            timestamp = Timestamp()
            timestamp.FromJsonString(text)
            return from_timestamp(timestamp)
    except (KeyError, ValueError) as error:
        raise invalid(f'filter compares {path} with an invalid value: "{text}"') from error
    raise invalid(f"filter cannot compare the message {path}, only its fields")


def _reach(queue: Queue, fields: list[FieldDescriptor]) -> Any:
    """Return a field's value in a queue, or None if its parent message is unset."""
    value: Any = queue
    for field in fields:
        if field.message_type is not None and not value.HasField(field.name):
            return None
        value = getattr(value, field.name)
    if isinstance(value, Duration):
        return from_duration(value)
    if isinstance(value, Timestamp):
        return from_timestamp(value)
    return value
