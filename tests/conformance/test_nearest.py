"""Refusals of vectors and of nearest-neighbor searches, compared with the Firestore emulator.

Google's Firestore emulator checks a search, then answers the query without it. Cloud Datastore's emulator has neither
vectors nor searches. ``tests/integration/datastore/test_nearest.py`` tests results by the documentation of FindNearest.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.datastore.wire import Stub, name_of, refused, search, value, vector

from .conftest import DATASTORE, EMBEDDED, FIRESTORE


@pytest.fixture(params=[EMBEDDED, FIRESTORE])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_vector_comes_back(stub):
    stub.put(stub.entity("K", 1, v=vector(1.0, math.inf)))
    (found,) = stub.lookup(stub.key("K", 1)).found
    assert found.entity.properties["v"] == vector(1.0, math.inf)


def test_the_cloud_datastore_emulator_refuses_vectors(connect):
    stub = connect(DATASTORE)
    with refused("INVALID_ARGUMENT"):
        stub.put(stub.entity("K", 1, v=vector(1.0)))


VECTORS = {
    "indexed": vector(1.0, exclude_from_indexes=False),
    "empty": vector(),
    "of integers": vector(1, 2),
    "with NaN": vector(math.nan),
    "too long": vector(*[0.5] * 2049),
    "not an array": value(1.0, meaning=31),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_bad_vector_is_refused(stub, name):
    with refused("INVALID_ARGUMENT"):
        stub.put(stub.entity("K", 1, v=VECTORS[name]))


def _with(query_vector: Any) -> Any:
    found = search("v", 1.0)
    found.query_vector.CopyFrom(query_vector)
    return found


SEARCHES: dict[str, Callable[[Stub], dict[str, Any]]] = {
    "with a limit": lambda _: {"find_nearest": search("v", 1.0), "limit": 2},
    "with an offset": lambda _: {"find_nearest": search("v", 1.0), "offset": 2},
    "with a cursor": lambda stub: {"find_nearest": search("v", 1.0), "start_cursor": stub.batch("K").end_cursor},
    "of no measure": lambda _: {"find_nearest": search("v", 1.0, measure="DISTANCE_MEASURE_UNSPECIFIED")},
    "for none": lambda _: {"find_nearest": search("v", 1.0, limit=0)},
    "for too many": lambda _: {"find_nearest": search("v", 1.0, limit=101)},
    "for a list": lambda _: {"find_nearest": _with(value([1.0]))},
    "for a number": lambda _: {"find_nearest": _with(value(1.0))},
    "for integers": lambda _: {"find_nearest": _with(vector(1))},
    "for too long a vector": lambda _: {"find_nearest": search("v", *[0.5] * 2049)},
    "shown as a reserved name": lambda _: {"find_nearest": search("v", 1.0, distance_result_property="__d__")},
    "up to NaN": lambda _: {"find_nearest": search("v", 1.0, distance_threshold={"value": math.nan})},
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_bad_search_is_refused(stub, name):
    stub.put(stub.entity("K", 1))
    with refused("INVALID_ARGUMENT"):
        stub.batch("K", **SEARCHES[name](stub))


def test_the_nearest_come_first(stub, backend, request):
    if backend == FIRESTORE:
        request.applymarker(pytest.mark.xfail(reason="it ignores the search", strict=True))
    stub.put(stub.entity("K", 1, v=vector(5.0)), stub.entity("K", 2, v=vector(1.0)), stub.entity("K", 3))
    batch = stub.batch("K", find_nearest=search("v", 0.0))
    assert [name_of(result) for result in batch.entity_results] == [2, 1]
