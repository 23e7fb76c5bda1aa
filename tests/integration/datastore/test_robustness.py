"""The server answers every malformed request with a response or a clear refusal."""

import grpc
import pytest
from google.cloud.datastore_v1 import types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .random_messages import message
from .wire import Mutation, Stub, refused

METHODS = [
    *["Lookup", "RunQuery", "RunAggregationQuery", "BeginTransaction"],
    *["Commit", "Rollback", "AllocateIds", "ReserveIds"],
]
_settings = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def _code(stub: Stub, method: str, data: bytes) -> grpc.StatusCode:
    """Send the bytes of a request and return the status code of the answer."""
    call = stub.channel.unary_unary(f"/google.datastore.v1.Datastore/{method}")
    try:
        call(data, timeout=20)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


_EXPECTED = {
    *(grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED),
    *(grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED),
    *(grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS),
}


@pytest.mark.parametrize("method", METHODS)
@_settings
@given(data=st.binary(max_size=40))
def test_random_bytes_are_answered(stub, method, data):
    assert _code(stub, method, data) in _EXPECTED


@pytest.mark.parametrize("method", METHODS)
@_settings
@given(data=st.data())
def test_random_requests_are_answered(stub, method, data):
    request = data.draw(message(getattr(types, f"{method}Request").pb().DESCRIPTOR))
    request.project_id = stub.project
    request.database_id = ""
    assert _code(stub, method, request.SerializeToString()) in _EXPECTED


@pytest.mark.parametrize("method", ["RunQuery"])
@_settings
@given(data=st.data())
def test_random_queries_are_answered(stub, method, data):
    """Random queries are valid more often than whole random requests."""
    query = data.draw(message(types.Query.pb().DESCRIPTOR))
    del query.kind[:]
    query.kind.add(name="K")
    request = types.RunQueryRequest.pb()(project_id=stub.project, query=query)
    assert _code(stub, method, request.SerializeToString()) in _EXPECTED


def test_a_call_with_an_expired_deadline_is_not_answered_and_not_committed(stub):
    for number in range(1, 201):
        with refused("DEADLINE_EXCEEDED"):
            stub.call("Lookup", timeout=1e-9, keys=[stub.key("K", 1)])
        with refused("DEADLINE_EXCEEDED"):
            stub.call("Commit", timeout=1e-9, mode=2, mutations=[Mutation(upsert=stub.entity("Late", number))])
    assert stub.names("Late") == []


@pytest.mark.parametrize(
    ("method", "instead"),
    [
        ("ExportEntities", "gae-local-cloud data export"),
        ("ImportEntities", "gae-local-cloud data import"),
        *((method, "index.yaml") for method in ("CreateIndex", "DeleteIndex", "GetIndex", "ListIndexes")),
    ],
)
def test_an_admin_method_is_unimplemented_and_names_its_local_equivalent(stub, method, instead):
    call = stub.channel.unary_unary(f"/google.datastore.admin.v1.DatastoreAdmin/{method}")
    with refused("UNIMPLEMENTED", instead):
        call(b"", timeout=10)


def test_a_changed_cursor_is_refused(stub):
    stub.put(stub.entity("K", 1, v="x"), stub.entity("K", 2, v="y"))
    cursor = stub.batch("K", order=["v"], limit=1).end_cursor
    for place in range(6, len(cursor)):
        for changed in (cursor[:place], cursor[:place] + b"\xff" + cursor[place + 1 :], cursor + b"\x00"):
            request = types.RunQueryRequest.pb()(project_id=stub.project)
            request.query.kind.add(name="K")
            request.query.order.add(direction=1).property.name = "v"
            request.query.start_cursor = changed
            code = _code(stub, "RunQuery", request.SerializeToString())
            assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)
    with refused("INVALID_ARGUMENT", "cursor"):
        stub.names("K", order=["v"], start_cursor=cursor[:-1])
