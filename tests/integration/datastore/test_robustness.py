"""Malformed requests never take the server down: whatever comes, the answer is a response or a clear refusal."""

import grpc
import pytest
from google.cloud.datastore_v1 import types
from google.protobuf import descriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .wire import Stub, refused

METHODS = [
    *["Lookup", "RunQuery", "RunAggregationQuery", "BeginTransaction"],
    *["Commit", "Rollback", "AllocateIds", "ReserveIds"],
]
_settings = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_names = st.sampled_from(["", "K", "a", "a.b", "__key__", "__kind__", "__x__", ".", "a\\", "\x00", "é" * 400])
_SCALARS = {
    descriptor.FieldDescriptor.TYPE_STRING: st.one_of(
        _names, st.sampled_from(["SELECT * FROM K", "SELECT COUNT(*) FROM K WHERE a = @1", "select"])
    ),
    descriptor.FieldDescriptor.TYPE_BYTES: st.one_of(st.binary(max_size=12), st.just(b"\x01\x8d\xa6h\xf0\x01K\x00")),
    descriptor.FieldDescriptor.TYPE_BOOL: st.booleans(),
    descriptor.FieldDescriptor.TYPE_DOUBLE: st.floats(),
    descriptor.FieldDescriptor.TYPE_INT32: st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]),
    descriptor.FieldDescriptor.TYPE_INT64: st.sampled_from([0, 1, 5, -1, 2**63 - 1, -(2**63)]),
    descriptor.FieldDescriptor.TYPE_ENUM: st.integers(0, 14),
}


@st.composite
def _message(draw, shape, depth=0):
    """Draw a message of a type with arbitrary fields set to arbitrary things."""
    found = shape._concrete_class()
    fields = [field for field in shape.fields if depth < 6 or field.type != field.TYPE_MESSAGE]
    for field in draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda one: one.name)) if fields else []:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        for _ in range(draw(st.integers(0, 2)) if field.is_repeated else 1):
            if is_map:
                entry = field.message_type.fields_by_name["value"]
                made = draw(_message(entry.message_type, depth + 1)) if entry.message_type else draw(_names)
                if entry.message_type:
                    getattr(found, field.name)[draw(_names)].CopyFrom(made)
            elif field.type == field.TYPE_MESSAGE:
                made = draw(_message(field.message_type, depth + 1))
                target = getattr(found, field.name)
                if field.is_repeated:
                    target.append(made)
                else:
                    target.CopyFrom(made)
            elif field.is_repeated:
                getattr(found, field.name).append(draw(_SCALARS[field.type]))
            else:
                setattr(found, field.name, draw(_SCALARS[field.type]))
    return found


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
def test_bytes_that_are_no_request(stub, method, data):
    assert _code(stub, method, data) in _EXPECTED


@pytest.mark.parametrize("method", METHODS)
@_settings
@given(data=st.data())
def test_requests_with_anything_in_them(stub, method, data):
    request = data.draw(_message(getattr(types, f"{method}Request").pb().DESCRIPTOR))
    request.project_id = stub.project
    request.database_id = ""
    assert _code(stub, method, request.SerializeToString()) in _EXPECTED


@pytest.mark.parametrize("method", ["RunQuery"])
@_settings
@given(data=st.data())
def test_queries_with_anything_in_them(stub, method, data):
    """More often valid than whole requests are."""
    query = data.draw(_message(types.Query.pb().DESCRIPTOR))
    del query.kind[:]
    query.kind.add(name="K")
    request = types.RunQueryRequest.pb()(project_id=stub.project, query=query)
    assert _code(stub, method, request.SerializeToString()) in _EXPECTED


def test_a_cursor_that_has_been_changed_is_refused(stub):
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
