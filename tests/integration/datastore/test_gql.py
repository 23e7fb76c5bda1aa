"""GQL."""

import datetime

import pytest

from .wire import name_of, plain, refused, rows, value


@pytest.fixture
def things(stub):
    stub.put(
        stub.entity("Q", "a", n=1, s="x", l=[1, 2]),
        stub.entity("Q", "b", n=2, s="it's", t=datetime.datetime(2020, 1, 1), e={"f": 1}),
        stub.entity("Q", "c", n=3, s=None, b=b"hi"),
        stub.entity("Q", "a", "Q", "k", n=9),
    )
    return stub


def _run(stub, text, *positional, literals=True, method="RunQuery", **named):
    def binding(thing):
        return {"cursor": thing} if isinstance(thing, bytes) else {"value": value(thing)}

    query = {
        "query_string": text,
        "allow_literals": literals,
        "positional_bindings": [binding(thing) for thing in positional],
        "named_bindings": {name: binding(thing) for name, thing in named.items()},
    }
    return stub.call(method, gql_query=query)


def _names(stub, text, *positional, **fields):
    return [name_of(result) for result in _run(stub, text, *positional, **fields).batch.entity_results]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM Q", ["a", "k", "b", "c"]),
        ("select __key__ from `Q` where `n` >= 2 order by n desc", ["k", "c", "b"]),
        ("SELECT * FROM Q WHERE n > 1 AND n < 9", ["b", "c"]),
        ("SELECT * FROM Q WHERE 1 < n AND 9 > n", ["b", "c"]),
        ("SELECT * FROM Q WHERE n != 1 ORDER BY n ASC, s DESC", ["b", "c"]),
        ("SELECT * FROM Q WHERE n = 2 OR (s = 'x' AND n < 2)", ["a", "b"]),
        ("SELECT * FROM Q WHERE n IN ARRAY(1, 3)", ["a", "c"]),
        ("SELECT * FROM Q WHERE n NOT IN ARRAY(1, 3)", ["b", "k"]),
        ("SELECT * FROM Q WHERE l CONTAINS 2", ["a"]),
        ("SELECT * FROM Q WHERE 2 IN l", ["a"]),
        ("SELECT * FROM Q WHERE s IS NULL", ["c"]),
        ("SELECT * FROM Q WHERE s = 'it''s'", ["b"]),
        ('SELECT * FROM Q WHERE s = "it\\\'s"', ["b"]),
        ("SELECT * FROM Q WHERE t = DATETIME('2020-01-01T00:00:00Z')", ["b"]),
        ("SELECT * FROM Q WHERE b = BLOB('aGk')", ["c"]),
        ("SELECT * FROM Q WHERE e.f = 1", ["b"]),
        ("SELECT * WHERE __key__ HAS ANCESTOR KEY(Q, 'a')", ["a", "k"]),
        ("SELECT * FROM Q WHERE KEY(Q, 'a') HAS DESCENDANT __key__", ["a", "k"]),
        ("SELECT * FROM Q LIMIT 2 OFFSET 1", ["k", "b"]),
        ("SELECT * FROM Q LIMIT 2147483647", ["a", "k", "b", "c"]),
        ("SELECT DISTINCT ON (n) n, s FROM Q", ["a", "b", "c"]),
    ],
)
def test_queries(things, text, expected):
    assert _names(things, text) == expected


def test_projections(things):
    assert rows(_run(things, "SELECT DISTINCT n FROM Q").batch.entity_results) == [{"n": n} for n in (1, 2, 3, 9)]


def test_bindings_stand_for_values_and_cursors(things):
    text = "SELECT * FROM Q WHERE n > @low AND n < @high LIMIT @most"
    assert _names(things, text, literals=False, low=1, high=9, most=1, unused=0) == ["b"]
    assert _names(things, "SELECT * FROM Q WHERE n IN @1 AND s = @2", [1, 2], "x", literals=False) == ["a"]
    cursor = _run(things, "SELECT * FROM Q LIMIT 2").batch.end_cursor
    assert _names(things, "SELECT * FROM Q OFFSET @1 + 1", cursor) == ["c"]
    assert _names(things, "SELECT * FROM Q LIMIT @1", cursor) == ["a", "k"]
    assert _names(things, "SELECT * FROM Q LIMIT FIRST(1, @1)", cursor) == ["a"]


def test_the_parsed_query_is_in_the_response(things):
    query = _run(things, "SELECT n FROM Q WHERE s = 'x' LIMIT 3").query
    assert query.kind[0].name == "Q"
    assert query.projection[0].property.name == "n"
    assert plain(query.filter.property_filter.value) == "x"
    assert query.limit.value == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT COUNT(*) FROM Q", {"property_1": 4}),
        ("SELECT SUM(n) AS total, COUNT_UP_TO(2) FROM Q WHERE n < 9", {"total": 6, "property_1": 2}),
        ("AGGREGATE COUNT(*) AS c, AVG(n) OVER (SELECT * FROM Q WHERE n > 1)", {"c": 3, "property_1": 14 / 3}),
    ],
)
def test_aggregations(things, text, expected):
    (result,) = _run(things, text, method="RunAggregationQuery").batch.aggregation_results
    assert {alias: plain(found) for alias, found in result.aggregate_properties.items()} == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected SELECT"),
        ("SELECT * FROM", "expected a name"),
        ("SELECT * FROM Q WHERE n", "expected a comparison"),
        ("SELECT * FROM Q extra", "expected the end of the query, found 'extra' at position 16"),
        ("SELECT * FROM Q WHERE n = 'open", "unexpected"),
        ("SELECT * FROM Q WHERE n = @1", "Absent positional binding: 1"),
        ("SELECT * FROM Q WHERE n = @x", "Absent named binding: x"),
        ("SELECT * FROM Q LIMIT 'a'", "expected a 32-bit integer at position 22"),
        ("SELECT * FROM Q LIMIT 2147483648", "expected a 32-bit integer"),
        ("SELECT * FROM Q LIMIT -2147483648", "Limit must be non-negative"),
        ("SELECT * FROM Q LIMIT -2147483649", "expected a 32-bit integer"),
        ("SELECT COUNT(*) FROM Q", "expected a Query"),
        ("SELECT * FROM Q WHERE b = BLOB('?')", "base64"),
        ("SELECT * FROM Q WHERE t = DATETIME('noon')", "RFC 3339"),
        ("SELECT * FROM Q WHERE n = 9223372036854775808", "64-bit"),
        ("SELECT * FROM Q WHERE n = -9223372036854775809", "64-bit"),
        ("SELECT * FROM Q WHERE t = DATETIME('2020-01-01T00:00:00.1234567Z')", "RFC 3339"),
        ("SELECT * FROM Q WHERE b = BLOB(5)", "expected a string"),
        ("SELECT * FROM Q WHERE n = ORDER", "expected a value"),
        ("SELECT * FROM Q WHERE __key__ = KEY(Q, x)", "expected an id or a name at position"),
        ("SELECT * FROM Q LIMIT FIRST(1, 2)", "needs a number and a cursor"),
        ("SELECT DISTINCT * FROM Q", "expected a name"),
        ("AGGREGATE n OVER (SELECT * FROM Q)", "expected an aggregation"),
    ],
)
def test_text_that_is_not_gql_is_refused(things, text, message):
    with refused("INVALID_ARGUMENT", message):
        _run(things, text)


def test_literals_are_refused_unless_allowed_and_bindings_must_be_used(things):
    with refused("INVALID_ARGUMENT", "Disallowed literal: 1."):
        _run(things, "SELECT * FROM Q WHERE n = 1", literals=False)
    with refused("INVALID_ARGUMENT", "Unused positional binding: 2"):
        _run(things, "SELECT * FROM Q WHERE n = @1", 1, 2)


def test_of_several_bad_parameter_names_the_first_in_order_is_told(stub):
    with refused("INVALID_ARGUMENT", "parameter name ''"):
        _run(stub, "SELECT * FROM Q", **dict.fromkeys(("__x__", "", "1"), 1))


@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        *(("d = 1.5", True), ("d = -1.5", False), ("yes = TRUE", True), ("yes = FALSE", False), ("no = false", True)),
        *(("z = NULL", True), ("d = NULL", False), ("low = -9223372036854775808", True)),
        *(("high = 9223372036854775807", True), ("k = KEY(Q, 1, R, 'a')", True), ("k = KEY(Q, 1, R, 'b')", False)),
        ("t = DATETIME('2020-01-01t00:00:00.000001z')", True),
    ],
)
def test_literals(stub, condition, is_met):
    key = stub.key("Q", 1, "R", "a")
    at = datetime.datetime(2020, 1, 1, microsecond=1)
    stub.put(stub.entity("L", 1, d=1.5, yes=True, no=False, z=None, low=-(2**63), high=2**63 - 1, k=key, t=at))
    assert _names(stub, f"SELECT * FROM L WHERE {condition}") == [1] * is_met  # noqa: S608  # GQL of this file


def test_a_key_may_name_its_project_and_namespace(stub):
    stub.put(stub.entity("L", 1, k=stub.key("Q", 1, namespace="n")))
    text = "SELECT * FROM L WHERE k = KEY(PROJECT('{}'), NAMESPACE('n'), Q, 1)"
    assert _names(stub, text.format(stub.project)) == [1]
    assert _names(stub, "SELECT * FROM L WHERE k = KEY(Q, 1)") == []
