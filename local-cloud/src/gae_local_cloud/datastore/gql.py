"""GQL: parses the text of a query into a Query or AggregationQuery message."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from gae_local_cloud.datastore.errors import InvalidArgument
from gae_local_cloud.datastore.gql_tokens import Token, tokenize
from gae_local_cloud.datastore.keys import Partition, set_partition
from gae_local_cloud.datastore.messages import (
    AggregationQuery,
    CompositeFilter,
    Filter,
    Message,
    PropertyFilter,
    PropertyOrder,
    Query,
    Value,
    ValueMessage,
)

_COMPARISONS = {
    "=": PropertyFilter.EQUAL,
    "!=": PropertyFilter.NOT_EQUAL,
    "<": PropertyFilter.LESS_THAN,
    "<=": PropertyFilter.LESS_THAN_OR_EQUAL,
    ">": PropertyFilter.GREATER_THAN,
    ">=": PropertyFilter.GREATER_THAN_OR_EQUAL,
}
_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_AGGREGATIONS = ("COUNT", "COUNT_UP_TO", "SUM", "AVG")
_FUNCTIONS = ("KEY", "BLOB", "DATETIME", "ARRAY")
_RESERVED = frozenset(
    {
        *("AGGREGATE", "ALL", "ANCESTOR", "AND", "ANY", "AS", "ASC", "AVG", "BETWEEN", "BINARY", "BY", "CONTAINS"),
        *("COUNT", "COUNT_UP_TO", "DESC", "DESCENDANT", "DISTINCT", "FALSE", "FROM", "GROUP", "HAS", "HAVING", "IN"),
        *("IS", "JOIN", "LIKE", "LIMIT", "NOT", "NULL", "OFFSET", "ON", "OR", "ORDER", "OVER", "SELECT", "SUM", "TRUE"),
        "WHERE",
    }
)
"""Keywords: a name that equals one needs backquotes."""

_BASE64 = re.compile(r"[A-Za-z0-9_-]*")
_TOO_FINE = re.compile(r"\.\d{7}")
_BINDING = re.compile(r"(?!__.*__$)[^\W\d][\w$]*|\$[\w$]*")

_Item = TypeVar("_Item")


def parse(message: Message, partition: Partition) -> Message:
    """Parse a GqlQuery message into a Query or AggregationQuery.

    The grammar is that of "GQL Reference" in the documentation of Firestore in Datastore mode.

    Parameters:
        partition: the partition of the query, and the default one for keys in the text.

    Raises:
        InvalidArgument: the text is not GQL, a binding is missing or unused, or a literal is not allowed.
    """
    parser = _Parser(message, partition)
    parsed = parser.query()
    parser.finish()
    return parsed


class _Bindings:
    """The values bound to a query's parameters."""

    def __init__(self, named: Mapping[str, Message], positional: Sequence[Message]) -> None:
        for name in sorted(named):  # the order of a protocol buffer's map is not that of its JSON
            if not _BINDING.fullmatch(name):
                raise InvalidArgument(f"GQL query parameter name {name!r} is reserved or not a name.")
        self._named = named
        self._positional = positional
        self._unused = set(range(1, len(positional) + 1))

    def find(self, name: str) -> Message:
        if name.isdigit():
            if not 1 <= int(name) <= len(self._positional):
                raise InvalidArgument(f"Absent positional binding: {name}.")
            self._unused.discard(int(name))
            return self._positional[int(name) - 1]
        if name not in self._named:
            raise InvalidArgument(f"Absent named binding: {name}.")
        return self._named[name]

    def finish(self) -> None:
        if self._unused:
            raise InvalidArgument(f"Unused positional binding: {min(self._unused)}.")


class _Parser:
    def __init__(self, message: Message, partition: Partition) -> None:
        self._tokens = tokenize(message.query_string)
        self._place = 0
        self._bindings = _Bindings(message.named_bindings, message.positional_bindings)
        self._literals = message.allow_literals
        self._partition = partition

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _take(self) -> Token:
        token = self._next
        self._place += 1
        return token

    def _accept(self, *words: str) -> bool:
        """Take the next words if they are these keywords or symbols."""
        ahead = self._tokens[self._place : self._place + len(words)]
        if [token.text if token.kind == "symbol" else token.keyword for token in ahead] != list(words):
            return False
        self._place += len(words)
        return True

    def _expect(self, *words: str) -> None:
        if not self._accept(*words):
            raise self._unexpected(" ".join(words))

    def _unexpected(self, wanted: str) -> InvalidArgument:
        found = self._next.text or "the end of the query"
        return InvalidArgument(f"GQL query error: expected {wanted}, found {found!r} at position {self._next.place}.")

    def _list(self, item: Callable[[], _Item]) -> list[_Item]:
        items = [item()]
        while self._accept(","):
            items.append(item())
        return items

    def _enclosed(self, inside: Callable[[], _Item]) -> _Item:
        self._expect("(")
        found = inside()
        self._expect(")")
        return found

    def _name(self) -> str:
        if self._next.kind not in ("name", "quoted") or self._next.keyword in _RESERVED:
            raise self._unexpected("a name")
        return self._take().text

    def _property(self) -> str:
        name = self._name()
        while self._accept("."):
            name += "." + self._name()
        return name

    def _call_follows(self, names: Sequence[str]) -> bool:
        return self._next.keyword in names and self._tokens[self._place + 1].text == "("

    def _no_literal(self, token: Token) -> None:
        if not self._literals:
            raise InvalidArgument(f"Disallowed literal: {token.text}.")

    def query(self) -> Message:
        if self._accept("AGGREGATE"):
            aggregations = self._list(self._aggregation)
            self._expect("OVER")
            return AggregationQuery(aggregations=aggregations, nested_query=self._enclosed(self._select))
        if self._next.keyword == "SELECT" and self._tokens[self._place + 1].keyword in _AGGREGATIONS:
            self._take()
            aggregations = self._list(self._aggregation)
            return AggregationQuery(aggregations=aggregations, nested_query=self._source(Query()))
        return self._select()

    def finish(self) -> None:
        if self._next.kind != "end":
            raise self._unexpected("the end of the query")
        self._bindings.finish()

    def _aggregation(self) -> Message:
        if not self._call_follows(_AGGREGATIONS):
            raise self._unexpected("an aggregation")
        function = self._take().keyword
        found = AggregationQuery.Aggregation()
        if function == "COUNT":
            self._enclosed(lambda: self._expect("*"))
            found.count.SetInParent()
        elif function == "COUNT_UP_TO":
            found.count.up_to.value = self._enclosed(self._integer)
        else:
            getattr(found, function.lower()).property.name = self._enclosed(self._property)
        if self._accept("AS"):
            found.alias = self._name()
        return found

    def _select(self) -> Message:
        self._expect("SELECT")
        query = Query()
        if self._accept("DISTINCT", "ON"):
            for name in self._enclosed(lambda: self._list(self._property)):
                query.distinct_on.add(name=name)
            self._projection(query)
        elif self._accept("DISTINCT"):
            if self._next.text == "*":
                raise self._unexpected("a name")
            for name in self._projection(query):
                query.distinct_on.add(name=name)
        else:
            self._projection(query)
        return self._rest(query)

    def _projection(self, query: Message) -> list[str]:
        if self._accept("*"):
            return []
        names = self._list(self._property)
        for name in names:
            query.projection.add().property.name = name
        return names

    def _source(self, query: Message) -> Message:
        if self._accept("FROM"):
            query.kind.add(name=self._name())
        if self._accept("WHERE"):
            query.filter.CopyFrom(self._disjunction())
        return query

    def _rest(self, query: Message) -> Message:
        self._source(query)
        if self._accept("ORDER", "BY"):
            self._list(lambda: self._order(query))
        if self._accept("LIMIT"):
            self._limit(query)
        if self._accept("OFFSET"):
            self._offset(query)
        return query

    def _order(self, query: Message) -> None:
        order = query.order.add(direction=PropertyOrder.ASCENDING)
        order.property.name = self._property()
        if self._accept("DESC"):
            order.direction = PropertyOrder.DESCENDING
        else:
            self._accept("ASC")

    def _limit(self, query: Message) -> None:
        def number_and_cursor() -> None:
            self._position(query, "end_cursor")
            self._expect(",")
            self._position(query, "end_cursor")
            if not query.end_cursor or not query.HasField("limit"):
                raise InvalidArgument("GQL query error: LIMIT FIRST needs a number and a cursor.")

        if self._accept("FIRST"):
            self._enclosed(number_and_cursor)
        else:
            self._position(query, "end_cursor")

    def _offset(self, query: Message) -> None:
        self._position(query, "start_cursor")
        if query.start_cursor and self._accept("+"):
            query.offset = self._integer()

    def _position(self, query: Message, cursor: str) -> None:
        """Parse a number or a cursor and set the limit, offset or cursor of a query."""
        if self._next.kind == "binding":
            binding = self._bindings.find(self._next.text)
            if binding.WhichOneof("parameter_type") == "cursor":
                self._take()
                setattr(query, cursor, binding.cursor)
                return
        number = self._integer()
        if cursor == "end_cursor":
            query.limit.value = number
        else:
            query.offset = number

    def _integer(self) -> int:
        place = self._next.place
        value = self._value()
        if value.WhichOneof("value_type") != "integer_value" or not -(2**31) <= value.integer_value < 2**31:
            raise InvalidArgument(f"GQL query error: expected a 32-bit integer at position {place}.")
        return int(value.integer_value)

    def _disjunction(self) -> Message:
        return self._joined(CompositeFilter.OR, "OR", self._conjunction)

    def _conjunction(self) -> Message:
        return self._joined(CompositeFilter.AND, "AND", self._condition)

    def _joined(self, operator: int, word: str, part: Callable[[], Message]) -> Message:
        parts = [part()]
        while self._accept(word):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return Filter(composite_filter=CompositeFilter(op=operator, filters=parts))

    def _condition(self) -> Message:
        if self._next.text == "(" and self._next.kind == "symbol":
            return self._enclosed(self._disjunction)
        if self._value_follows():
            return self._backward(self._value())
        name = self._property()
        if self._accept("IS"):
            self._no_literal(self._next)
            self._expect("NULL")
            return _filter(name, PropertyFilter.EQUAL, Value(null_value=0))
        if self._accept("HAS", "ANCESTOR"):
            return _filter(name, PropertyFilter.HAS_ANCESTOR, self._value())
        if self._accept("CONTAINS"):
            return _equal_or_in(name, self._value())
        if self._accept("NOT", "IN"):
            return _filter(name, PropertyFilter.NOT_IN, self._value())
        if self._accept("IN"):
            return _equal_or_in(name, self._value())
        return _filter(name, _COMPARISONS[self._comparison()], self._value())

    def _backward(self, value: ValueMessage) -> Message:
        """Parse the rest of a condition that began with a value and ends with a property."""
        if self._accept("IN"):
            return _equal_or_in(self._property(), value)
        if self._accept("HAS", "DESCENDANT"):
            return _filter(self._property(), PropertyFilter.HAS_ANCESTOR, value)
        comparison = self._comparison()
        return _filter(self._property(), _COMPARISONS[_MIRRORED[comparison]], value)

    def _comparison(self) -> str:
        if self._next.kind != "symbol" or self._next.text not in _COMPARISONS:
            raise self._unexpected("a comparison")
        return self._take().text

    def _value_follows(self) -> bool:
        token = self._next
        if token.kind in ("binding", "integer", "double", "string"):
            return True
        return token.keyword in ("TRUE", "FALSE", "NULL") or self._call_follows(_FUNCTIONS)

    def _value(self) -> ValueMessage:
        token = self._next
        if token.kind == "binding":
            self._take()
            binding = self._bindings.find(token.text)
            if binding.WhichOneof("parameter_type") != "value":
                raise InvalidArgument(f"GQL query error: the binding for @{token.text} is not a value.")
            return binding.value
        if not self._value_follows():
            raise self._unexpected("a value")
        self._no_literal(token)
        self._take()
        if token.kind == "integer":
            return _integer(token)
        if token.kind == "double":
            return Value(double_value=float(token.text))
        if token.kind == "string":
            return Value(string_value=token.text)
        if token.keyword == "NULL":
            return Value(null_value=0)
        if token.keyword in ("TRUE", "FALSE"):
            return Value(boolean_value=token.keyword == "TRUE")
        return self._enclosed(lambda: self._function(token.keyword))

    def _function(self, name: str) -> ValueMessage:
        if name == "KEY":
            return self._key()
        if name == "ARRAY":
            return _array(self._list(self._value))
        text = self._string()
        if name == "BLOB":
            return _blob(text)
        value = Value()
        try:
            value.timestamp_value.FromJsonString(_in_micros(text))
        except ValueError as error:
            raise InvalidArgument(f"GQL query error: {text!r} is not an RFC 3339 time.") from error
        return value

    def _key(self) -> ValueMessage:
        value = Value()
        set_partition(value.key_value, self._partition)
        partition = value.key_value.partition_id
        for keyword, dimension in (("PROJECT", "project_id"), ("NAMESPACE", "namespace_id")):
            if self._call_follows((keyword,)):
                self._take()
                setattr(partition, dimension, self._enclosed(self._string))
                self._expect(",")
        self._list(lambda: self._path_element(value.key_value))
        return value

    def _path_element(self, key: Message) -> None:
        element = key.path.add(kind=self._name())
        self._expect(",")
        token = self._take()
        if token.kind == "integer":
            element.id = _integer(token).integer_value
        elif token.kind == "string":
            element.name = token.text
        else:
            raise InvalidArgument(f"GQL query error: expected an id or a name at position {token.place}.")

    def _string(self) -> str:
        if self._next.kind != "string":
            raise self._unexpected("a string")
        return self._take().text


def _integer(token: Token) -> ValueMessage:
    number = int(token.text)
    if not -(2**63) <= number < 2**63:
        raise InvalidArgument(f"GQL query error: {token.text} is not a 64-bit integer.")
    return Value(integer_value=number)


def _blob(text: str) -> ValueMessage:
    """Decode web-safe base64 without padding."""
    if not _BASE64.fullmatch(text) or len(text) % 4 == 1:
        raise InvalidArgument(f"GQL query error: {text!r} is not base64 with the letters - and _ and without padding.")
    return Value(blob_value=base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _in_micros(text: str) -> str:
    """Return an RFC 3339 time in the form that protobuf parses.

    Raises:
        ValueError: the time has more than 6 fractional digits.
    """
    if _TOO_FINE.search(text):
        raise ValueError(text)
    return text.upper()


def _array(elements: Sequence[ValueMessage]) -> ValueMessage:
    value = Value()
    value.array_value.values.extend(elements)
    return value


def _equal_or_in(name: str, value: ValueMessage) -> Message:
    """Return an EQUAL filter for a value, or an IN filter for an array."""
    is_array = value.WhichOneof("value_type") == "array_value"
    return _filter(name, PropertyFilter.IN if is_array else PropertyFilter.EQUAL, value)


def _filter(name: str, operator: Any, value: ValueMessage) -> Message:
    return Filter(property_filter={"property": {"name": name}, "op": operator, "value": value})
