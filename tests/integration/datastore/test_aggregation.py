"""Aggregation queries."""

import math

import pytest

from .wire import Aggregation, Mutation, avg_of, count, refused, sum_of, where


@pytest.fixture
def numbers(stub):
    stub.put(
        stub.entity("N", "a", v=1, w=1),
        stub.entity("N", "b", v=2.5, w=1),
        stub.entity("N", "c", v="text", w=2),
        stub.entity("N", "d", v=None),
        stub.entity("N", "e", v=[10, 20]),
        stub.entity("N", "f", w=3),
    )
    return stub


def test_counts(numbers):
    assert numbers.aggregate("N", count()) == {"property_1": 6}
    assert numbers.aggregate("N", count(), where=where("w", "=", 1)) == {"property_1": 2}
    assert numbers.aggregate("N", count(), limit={"value": 4}, offset=1) == {"property_1": 4}
    assert numbers.aggregate("N", count("all"), count(up_to=3), count("none", up_to=0), count()) == {
        "all": 6,
        "property_1": 3,
        "none": 0,
        "property_2": 6,
    }
    assert numbers.aggregate("N", count(), where=where("v", ">", 0)) == {"property_1": 4}  # e counts once


def test_sums_and_averages_are_of_the_numbers_in_the_index(numbers):
    assert numbers.aggregate("N", sum_of("v"), avg_of("v")) == {"property_1": 33.5, "property_2": 33.5 / 4}
    assert numbers.aggregate("N", sum_of("w", "s")) == {"s": 7}
    assert numbers.aggregate("N", sum_of("w", "s"), where=where("w", "=", 1)) == {"s": 2}
    assert numbers.aggregate("N", sum_of("v", "v"), sum_of("w", "w"), count("n")) == {"v": 3.5, "w": 4, "n": 3}
    assert numbers.aggregate("Nobody", sum_of("v"), avg_of("v")) == {"property_1": 0, "property_2": None}


@pytest.mark.parametrize(("sign", "largest"), [(1, 2**63 - 1), (-1, 2**63)])
def test_a_sum_is_an_integer_as_long_as_it_has_64_bits(stub, sign: int, largest: int):
    stub.put(stub.entity("Big", 1, v=sign * (largest - 1)), stub.entity("Big", 2, v=sign))
    found = stub.aggregate("Big", sum_of("v", "s"))["s"]
    assert (found, type(found)) == (sign * largest, int)
    stub.put(stub.entity("Big", 3, v=sign))
    assert type(stub.aggregate("Big", sum_of("v", "s"))["s"]) is float


def test_sums_overflow_to_doubles_and_nan_wins(stub):
    stub.put(stub.entity("Big", 1, v=2**63 - 1), stub.entity("Big", 2, v=2**63 - 1))
    assert stub.aggregate("Big", sum_of("v", "s")) == {"s": 2.0**64}
    stub.put(stub.entity("Big", 3, v=math.nan))
    assert math.isnan(stub.aggregate("Big", sum_of("v", "s"))["s"])
    stub.put(stub.entity("Inf", 1, v=math.inf), stub.entity("Inf", 2, v=-math.inf))
    assert math.isnan(stub.aggregate("Inf", sum_of("v", "s"))["s"])


def test_an_aggregation_goes_over_more_than_a_batch(stub):
    stub.put(*(stub.entity("Many", number, v=number) for number in range(1, 451)))
    assert stub.aggregate("Many", count("n"), sum_of("v", "s")) == {"n": 450, "s": 450 * 451 // 2}


@pytest.mark.parametrize(
    ("aggregations", "message"),
    [
        ([], "can not be empty"),
        ([count(f"a{number}") for number in range(6)], "aggregation query is 5. Received: 6"),
        ([count("a"), sum_of("v", "a")], "duplicate alias: a"),
        ([count("__a__")], "reserved"),
        ([Aggregation(alias="x")], "not set"),
        ([count(up_to=-1)], "greater than or equal to zero"),
        ([sum_of("__key__")], "not supported for the property: __key__"),
    ],
)
def test_aggregations_that_break_a_rule_are_refused(stub, aggregations, message):
    with refused("INVALID_ARGUMENT", message):
        stub.aggregate("K", *aggregations)


def test_an_aggregation_in_a_transaction_conflicts_with_what_changes_it(optimistic_stub):
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=1))
    transaction = optimistic_stub.begin()
    optimistic_stub.call(
        "RunAggregationQuery",
        aggregation_query={"nested_query": {"kind": [{"name": "K"}]}, "aggregations": [count()]},
        read_options={"transaction": transaction},
    )
    optimistic_stub.put(optimistic_stub.entity("K", 2, v=1))
    with refused("ABORTED", "K:2"):
        optimistic_stub.commit(Mutation(upsert=optimistic_stub.entity("Seen", 1)), transaction=transaction)
