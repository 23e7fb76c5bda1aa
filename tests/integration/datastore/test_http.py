"""The API over HTTP, with JSON and with protobuf, beside the API over gRPC."""

import json
import os
import subprocess
import sys
import threading
from typing import Any, NamedTuple
from unittest.mock import Mock

import grpc
import pytest
import requests
from google.cloud import datastore
from google.cloud.datastore_v1 import types
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gae_local_cloud.datastore import errors
from gae_local_cloud.storage import StorageError, StorageFull

from .random_messages import message
from .wire import Mutation, Stub, count, refused, serving, where

PROTOBUF = "application/x-protobuf"
METHODS = [
    *["Lookup", "RunQuery", "RunAggregationQuery", "BeginTransaction"],
    *["Commit", "Rollback", "AllocateIds", "ReserveIds"],
]


@pytest.fixture
def url(http_address, project):
    return f"http://{http_address}/v1/projects/{project}"


def test_curl_commits_queries_and_looks_up(url, project):
    key = {"partitionId": {"projectId": project}, "path": [{"kind": "K", "name": "n"}]}
    entity = {"key": key, "properties": {"v": {"integerValue": "5"}}}
    commit = {"mode": "NON_TRANSACTIONAL", "mutations": [{"upsert": entity}]}
    response = requests.post(f"{url}:commit", json=commit, timeout=10)
    assert response.status_code == 200
    assert int(response.json()["mutationResults"][0]["version"]) > 0

    query = {"query": {"kind": [{"name": "K"}]}}
    (result,) = requests.post(f"{url}:runQuery", json=query, timeout=10).json()["batch"]["entityResults"]
    assert result["entity"] == entity

    response = requests.post(f"{url}:lookup", data=json.dumps({"keys": [key]}), timeout=10)  # without a content type
    assert response.json()["found"][0]["entity"]["properties"] == entity["properties"]

    response = requests.post(f"{url}:runQuery?$alt=json;enum-encoding=int", json=query, timeout=10)
    assert response.json()["batch"]["entityResultType"] == 1


def test_an_error_in_json_has_the_form_of_googles_apis(url):
    response = requests.post(f"{url}:lookup", json={"keys": [{"path": []}]}, timeout=10)
    assert response.status_code == 400
    assert response.json() == {"error": {"code": 400, "message": "Key path is empty.", "status": "INVALID_ARGUMENT"}}
    for body in (b"{", b'{"nonsense": 1}', b"[1]", b"\xff", b"[" * 100_000):
        response = requests.post(f"{url}:lookup", data=body, timeout=10)
        assert response.status_code == 400, body
        assert response.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_an_error_in_protobuf_is_a_google_rpc_status(url):
    response = requests.post(f"{url}:lookup", data=b"\xff", headers={"Content-Type": PROTOBUF}, timeout=10)
    assert (response.status_code, response.headers["Content-Type"]) == (400, PROTOBUF)
    status = Status.FromString(response.content)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "not a LookupRequest" in status.message


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidArgument("why"), 400),
        (errors.FailedPrecondition("why"), 400),
        (errors.PermissionDenied("why"), 403),
        (errors.NotFound("why"), 404),
        (errors.AlreadyExists("why"), 409),
        (errors.Aborted("why"), 409),
        (StorageFull("why"), 429),
        (errors.Unimplemented("why"), 501),
        (StorageError("why"), 500),
        (ValueError("a secret"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_the_http_status_of_its_code(server, url, error, status, monkeypatch):
    monkeypatch.setattr(server.server.service, "lookup", Mock(side_effect=error))
    answers = [requests.post(f"{url}:lookup", headers={"Content-Type": type_}, timeout=10) for type_ in ("", PROTOBUF)]
    assert [answer.status_code for answer in answers] == [status, status]
    found, binary = answers[0].json()["error"], Status.FromString(answers[1].content)
    assert (found["code"], found["message"]) == (status, binary.message)
    assert getattr(grpc.StatusCode, found["status"]).value[0] == binary.code
    assert binary.message == ("Lookup failed: see the local cloud's log" if isinstance(error, ValueError) else "why")


def test_a_request_that_is_too_large_is_refused(url):
    entity = {"key": {"path": [{"kind": "K"}]}, "properties": {"v": {"stringValue": "x" * 11 * 2**20}}}
    response = requests.post(f"{url}:commit", json={"mutations": [{"upsert": entity}]}, timeout=30)
    assert response.status_code == 400
    assert "10485760 bytes" in response.json()["error"]["message"]
    response = requests.post(f"{url}:commit", data=b" " * 33 * 2**20, timeout=30)
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("POST", ":nonsense", 404),
        ("GET", ":lookup", 404),
        ("POST", ":export", 501),
        ("POST", ":import", 501),
        ("GET", "/indexes", 501),
        ("POST", "/indexes", 501),
        ("GET", "/indexes/1", 501),
        ("DELETE", "/indexes/1", 501),
    ],
)
def test_a_url_without_a_method_is_refused(url, verb, path, status):
    response = requests.request(verb, f"{url}{path}", timeout=10)
    assert response.status_code == status
    if status == 501:
        assert "The local Datastore has no" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=lambda headers: next(iter(headers)),
)
def test_web_pages_of_other_origins_are_refused(url, http_address, headers):
    for path in (f"http://{http_address}/reset", f"{url}:runQuery"):
        response = requests.post(path, headers=headers, timeout=10)
        assert response.status_code == 403
        assert response.json()["error"]["status"] == "PERMISSION_DENIED"


def test_status_reset_and_shutdown_are_those_of_googles_emulators():
    stopped = threading.Event()
    with serving(on_shutdown=stopped.set) as server:
        root, stub = f"http://{server.http_address}", Stub(server.address, "p")
        assert requests.get(root, timeout=10).text.strip() == "Ok"
        stub.put(stub.entity("K", 1, v=[1, 2]), stub.entity("K", 2, namespace="n"))
        transaction = stub.begin()
        allocated = stub.put(stub.entity("K")).mutation_results[0].key
        assert requests.post(f"{root}/reset", timeout=10).status_code == 200
        assert stub.get("K", 1) is None
        assert stub.names("K") == stub.names("K", order=["v"]) == stub.names("__kind__") == []
        assert stub.names("__namespace__") == []
        with refused("INVALID_ARGUMENT", "Invalid transaction"):
            stub.commit(Mutation(upsert=stub.entity("K", 1)), transaction=transaction)
        assert stub.put(stub.entity("K", v=1)).mutation_results[0].key != allocated
        assert len(stub.names("K", where("v", "=", 1))) == 1
        assert requests.post(f"{root}/shutdown", timeout=10).status_code == 200
        assert stopped.is_set()
        stub.close()


def test_a_datastore_inside_another_program_is_not_shut_down(http_address):
    assert requests.post(f"http://{http_address}/shutdown", timeout=10).status_code == 501


@pytest.fixture
def http_client(http_address, project, monkeypatch):
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", http_address)
    return datastore.Client(project=project, _use_grpc=False)


def test_google_cloud_datastore_over_http(http_client):
    with http_client.transaction() as transaction:
        entity = datastore.Entity(http_client.key("K", "n"))
        entity["v"] = 1
        transaction.put(entity)
    assert http_client.get(entity.key) == entity
    query = http_client.query(kind="K")
    assert list(query.fetch()) == [entity]
    assert next(iter(http_client.aggregation_query(query).count("n").fetch()))[0].value == 1
    assert len(http_client.allocate_ids(http_client.key("K"), 3)) == 3
    http_client.reserve_ids_multi([http_client.key("K", 7)])
    transaction = http_client.transaction()
    transaction.begin()
    transaction.rollback()


_WITHOUT_GRPC = """
import sys
from google.cloud import datastore
client = datastore.Client(project=sys.argv[1])
entity = datastore.Entity(client.key("K", "n"))
client.put(entity)
assert client.get(entity.key) == entity
assert "grpc._cython" not in sys.modules or not client._use_grpc
"""


def test_google_cloud_datastore_with_grpc_disabled(http_address, project):
    environment = {"DATASTORE_EMULATOR_HOST": http_address, "GOOGLE_CLOUD_DISABLE_GRPC": "true"}
    subprocess.run([sys.executable, "-c", _WITHOUT_GRPC, project], env={**os.environ, **environment}, check=True)


class Answer(NamedTuple):
    """The comparable part of an answer: a status code with its message, or a response as JSON."""

    code: str
    message: str
    content: Any


_PASSING = {"readTime", "commitTime", "updateTime", "createTime", "version", "transaction", "executionDuration"}


def _comparable(content: Any) -> Any:
    """Return JSON without times, versions and random ids."""
    if isinstance(content, list):
        return [_comparable(element) for element in content]
    if isinstance(content, dict):
        return {name: _comparable(inner) for name, inner in content.items() if name not in _PASSING}
    return content


def _over_grpc(stub: Stub, method: str, request: Any) -> Answer:
    call = stub.channel.unary_unary(f"/google.datastore.v1.Datastore/{method}")
    try:
        data = call(request.SerializeToString(), timeout=20)
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details(), None)
    response = getattr(types, f"{method}Response").pb().FromString(data)
    return Answer("OK", "", _comparable(json_format.MessageToDict(response)))


def _over_http(session: requests.Session, url: str, method: str, request: Any, *, protobuf: bool) -> Answer:
    body = request.SerializeToString() if protobuf else json_format.MessageToJson(request)
    content_type = PROTOBUF if protobuf else "application/json"
    address = f"{url}:{method[0].lower()}{method[1:]}"
    response = session.post(address, data=body, headers={"Content-Type": content_type}, timeout=20)
    if response.status_code != 200 and protobuf:
        status = Status.FromString(response.content)
        name = next(code.name for code in grpc.StatusCode if code.value[0] == status.code)
        return Answer(name, status.message, None)
    if response.status_code != 200:
        error = response.json()["error"]
        return Answer(error["status"], error["message"], None)
    if protobuf:
        found = getattr(types, f"{method}Response").pb().FromString(response.content)
        return Answer("OK", "", _comparable(json_format.MessageToDict(found)))
    return Answer("OK", "", _comparable(response.json()))


@pytest.fixture(scope="session")
def session():
    with requests.Session() as found:
        yield found


@pytest.mark.parametrize("method", [name for name in METHODS if name != "AllocateIds"])  # its ids are new each time
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_random_requests_have_the_same_answer_over_each_face(stub, url, session, method, data):
    request = data.draw(message(getattr(types, f"{method}Request").pb().DESCRIPTOR))
    request.project_id = stub.project
    request.database_id = ""
    try:
        json_format.Parse(json_format.MessageToJson(request), type(request)())
    except (json_format.Error, ValueError):  # the message has no JSON form: its timestamp is after the year 9999
        return
    answer = _over_grpc(stub, method, request)
    assert _over_http(session, url, method, request, protobuf=True) == answer
    assert _over_http(session, url, method, request, protobuf=False) == answer


def test_requests_of_each_method_have_the_same_answer_over_each_face(stub, url, session):
    stub.put(*(stub.entity("K", number, a=number % 3, b=str(number)) for number in range(1, 400)))
    query = types.Query.pb()(kind=[{"name": "K"}], order=[{"property": {"name": "a"}, "direction": 2}])
    requests_ = {
        "Lookup": types.LookupRequest.pb()(keys=[stub.key("K", 1), stub.key("K", 999)]),
        "RunQuery": types.RunQueryRequest.pb()(query=query),
        "RunAggregationQuery": types.RunAggregationQueryRequest.pb()(
            aggregation_query={"nested_query": query, "aggregations": [count("n")]}
        ),
        "Commit": types.CommitRequest.pb()(mode=2, mutations=[Mutation(upsert=stub.entity("K", 1, a=1, b="1"))]),
        "ReserveIds": types.ReserveIdsRequest.pb()(keys=[stub.key("K", 5)]),
        "Rollback": types.RollbackRequest.pb()(transaction=b"never begun"),
    }
    for method, request in requests_.items():
        request.project_id = stub.project
        answer = _over_grpc(stub, method, request)
        assert (answer.code == "OK") is (method != "Rollback")
        for protobuf in (True, False):
            assert _over_http(session, url, method, request, protobuf=protobuf) == answer, method
