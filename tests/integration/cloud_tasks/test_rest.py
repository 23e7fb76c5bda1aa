"""The API over HTTP with JSON, as Google serves it; and what web pages may not do."""

import base64
import json
from typing import Any

import aiohttp
import pytest

from .harness import PARENT, QUEUE, Cloud, until


async def call(
    cloud: Cloud, verb: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        async with session.request(verb, cloud.rest_url + path, data=data, headers=headers) as response:
            return response.status, json.loads(await response.read())


async def ok(cloud: Cloud, verb: str, path: str, body: Any = None) -> Any:
    status, answer = await call(cloud, verb, path, body)
    assert status == 200, answer
    return answer


async def test_root_tells_that_the_server_is_up(held: Cloud) -> None:
    assert (await ok(held, "GET", "/"))["service"] == "cloud-tasks"


async def test_life_of_a_queue(held: Cloud) -> None:
    name = f"{PARENT}/queues/mine"
    created = await ok(
        held, "POST", f"/v2/{PARENT}/queues?alt=json", {"name": name, "rateLimits": {"maxDispatchesPerSecond": 5}}
    )
    assert created == {
        "name": name,
        "rateLimits": {"maxDispatchesPerSecond": 5.0, "maxBurstSize": 10, "maxConcurrentDispatches": 1000},
        "retryConfig": {"maxAttempts": 100, "minBackoff": "0.100s", "maxBackoff": "3600s", "maxDoublings": 16},
        "state": "RUNNING",
    }
    changed = {**created, "retryConfig": {**created["retryConfig"], "maxAttempts": 7}}
    assert changed == await ok(
        held, "PATCH", f"/v2/{name}?updateMask=retryConfig.maxAttempts", {"retryConfig": {"maxAttempts": 7}}
    )
    assert (await ok(held, "POST", f"/v2/{name}:pause", {}))["state"] == "PAUSED"
    assert (await ok(held, "POST", f"/v2/{name}:resume"))["state"] == "RUNNING"
    assert "purgeTime" in await ok(held, "POST", f"/v2/{name}:purge", {})
    listed = await ok(held, "GET", f"/v2/{PARENT}/queues?pageSize=1")
    assert [queue["name"] for queue in listed["queues"]] == [QUEUE]
    rest = await ok(held, "GET", f"/v2/{PARENT}/queues?pageToken={listed['nextPageToken']}")
    assert [queue["name"] for queue in rest["queues"]] == [name]
    found = await ok(held, "GET", f"/v2/{PARENT}/queues?filter=name:mine")
    assert [queue["name"] for queue in found["queues"]] == [name]
    assert await ok(held, "DELETE", f"/v2/{name}") == {}
    assert (await call(held, "GET", f"/v2/{name}"))[0] == 404


async def test_life_of_a_task(held: Cloud) -> None:
    await held.client.pause_queue(name=QUEUE)
    request = {"relativeUri": "/work", "body": base64.b64encode(b"payload").decode()}
    created = await ok(held, "POST", f"/v2/{QUEUE}/tasks", {"task": {"appEngineHttpRequest": request}})
    name = created["name"]
    assert created["view"] == "BASIC"
    assert "body" not in created["appEngineHttpRequest"]
    full = await ok(held, "GET", f"/v2/{name}?responseView=FULL")
    assert full["appEngineHttpRequest"]["body"] == request["body"]
    assert full["dispatchDeadline"] == "600s"
    assert (await ok(held, "GET", f"/v2/{QUEUE}/tasks"))["tasks"] == [created]
    assert (await ok(held, "POST", f"/v2/{name}:run", {}))["dispatchCount"] == 1
    await until(held.empty)
    assert held.app.received[0].body == b"payload"


async def test_batches(held: Cloud) -> None:
    await held.client.pause_queue(name=QUEUE)
    task = {"task": {"httpRequest": {"url": held.app.url}}}
    operation = await ok(
        held, "POST", f"/v2/{QUEUE}/tasks:batchCreate", {"requests": [task, {"task": {"name": "bad"}}]}
    )
    assert operation["done"] is True
    assert operation["metadata"]["@type"] == "type.googleapis.com/google.cloud.tasks.v2.BatchCreateTasksMetadata"
    assert operation["metadata"]["failedRequests"]["1"]["code"] == 3
    assert await ok(held, "GET", f"/v2/{operation['name']}") == operation
    names = [task["name"] for task in operation["response"]["tasks"]]
    assert len(names) == 1
    await ok(held, "POST", f"/v2/{QUEUE}/tasks:batchDelete", {"names": names})
    assert await held.empty()


async def test_policies_locations_and_keys(held: Cloud) -> None:
    policy = {"bindings": [{"role": "roles/viewer", "members": ["user:a@example.com"]}]}
    kept = await ok(held, "POST", f"/v2/{QUEUE}:setIamPolicy", {"policy": policy})
    assert await ok(held, "POST", f"/v2/{QUEUE}:getIamPolicy", {}) == kept
    answer = await ok(held, "POST", f"/v2/{QUEUE}:testIamPermissions", {"permissions": ["cloudtasks.tasks.create"]})
    assert answer == {"permissions": ["cloudtasks.tasks.create"]}
    locations = await ok(held, "GET", "/v2/projects/test/locations")
    assert PARENT in [location["name"] for location in locations["locations"]]
    assert (await ok(held, "GET", f"/v2/{PARENT}"))["locationId"] == "us-central1"
    config = {"kmsKey": "projects/test/locations/l/keyRings/r/cryptoKeys/k"}
    changed = await ok(held, "PATCH", f"/v2/{PARENT}/cmekConfig?updateMask=kmsKey", config)
    assert changed == {"name": f"{PARENT}/cmekConfig", **config}
    assert await ok(held, "GET", f"/v2/{PARENT}/cmekConfig") == changed


async def test_project_with_a_colon(held: Cloud) -> None:
    name = "projects/example.com:app/locations/us-central1/queues/q"
    held.server.ensure_queue(name)
    assert (await ok(held, "GET", f"/v2/{name}"))["name"] == name
    assert (await ok(held, "POST", f"/v2/{name}:pause"))["state"] == "PAUSED"


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "code", "message"),
    [
        ("GET", f"/v2/{PARENT}/queues/none", None, 404, "NOT_FOUND", "Queue does not exist"),
        ("POST", f"/v2/{PARENT}/queues", {"name": QUEUE}, 409, "ALREADY_EXISTS", "Queue already exists"),
        ("POST", f"/v2/{PARENT}/queues", {"speed": 1}, 400, "INVALID_ARGUMENT", "speed"),
        ("POST", f"/v2/{PARENT}/queues", b"{", 400, "INVALID_ARGUMENT", "Invalid JSON payload"),
        ("POST", f"/v2/{PARENT}/queues", b"[]", 400, "INVALID_ARGUMENT", "must be an object"),
        ("POST", f"/v2/{PARENT}/queues", b"\xff", 400, "INVALID_ARGUMENT", "Invalid JSON payload"),
        ("POST", f"/v2/{PARENT}/queues", b'{"a":' * 5000, 400, "INVALID_ARGUMENT", "Invalid JSON payload"),
        ("POST", f"/v2/{QUEUE}/tasks", {"task": 5}, 400, "INVALID_ARGUMENT", "Invalid JSON payload"),
        ("GET", f"/v2/{QUEUE}/tasks?pageSize=many", None, 400, "INVALID_ARGUMENT", "pageSize"),
        ("GET", f"/v2/{QUEUE}/tasks?speed=1", None, 400, "INVALID_ARGUMENT", "speed"),
        ("GET", f"/v2/{QUEUE}/tasks?pageSize=1&pageSize.x=1", None, 400, "INVALID_ARGUMENT", "pageSize"),
        ("GET", f"/v2beta3/{QUEUE}/tasks?speed=1", None, 400, "INVALID_ARGUMENT", "speed"),
        ("PUT", f"/v2/{QUEUE}", {}, 404, "NOT_FOUND", "Nothing is at this URL"),
        ("GET", "/v3/x", None, 404, "NOT_FOUND", ""),
        ("POST", "/", None, 405, "INVALID_ARGUMENT", ""),
    ],
)
async def test_errors_are_googles_json(
    held: Cloud, verb: str, path: str, body: Any, status: int, code: str, message: str
) -> None:
    answered, answer = await call(held, verb, path, body)
    assert (answered, answer["error"]["code"], answer["error"]["status"]) == (status, status, code)
    assert message in answer["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "rebound.example.com:8124", "Origin": "http://rebound.example.com:8124"},
        {"Host": "rebound.example.com:8124"},
        {"Host": "[::1"},
    ],
)
async def test_web_pages_of_others_are_refused(held: Cloud, headers: dict[str, str]) -> None:
    for verb, path in (("POST", f"/v2/{QUEUE}:pause"), ("GET", f"/v2/{QUEUE}"), ("GET", "/")):
        status, answer = await call(held, verb, path, headers=headers)
        assert (status, answer["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert (await held.client.get_queue(name=QUEUE)).state.name == "RUNNING"


@pytest.mark.parametrize("host", ["localhost:8124", "127.0.0.1:8124", "[::1]:8124", "cloud-tasks:8124", "a.localhost"])
async def test_own_pages_and_programs_are_served(held: Cloud, host: str) -> None:
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}):
        assert (await call(held, "GET", f"/v2/{QUEUE}", headers=headers))[0] == 200


async def test_beta_has_queues_in_its_own_form(held: Cloud) -> None:
    name = f"{PARENT}/queues/beta"
    override = {"appEngineHttpQueue": {"appEngineRoutingOverride": {"service": "worker"}}}
    created = await ok(held, "POST", f"/v2beta3/{PARENT}/queues", {"name": name, "type": "PUSH", **override})
    assert created["appEngineHttpQueue"]["appEngineRoutingOverride"]["service"] == "worker"
    assert (created["type"], created["taskTtl"], created["tombstoneTtl"]) == ("PUSH", "2678400s", "86400s")
    assert "stats" not in created
    assert (await held.client.get_queue(name=name)).app_engine_routing_override.service == "worker"
    moved = {"appEngineHttpQueue": {"appEngineRoutingOverride": {"service": "other"}}}
    mask = "appEngineHttpQueue.appEngineRoutingOverride.service"
    changed = await ok(held, "PATCH", f"/v2beta3/{name}?updateMask={mask}", moved)
    assert changed["appEngineHttpQueue"]["appEngineRoutingOverride"]["service"] == "other"
    status, answer = await call(held, "POST", f"/v2beta3/{PARENT}/queues", {"name": name + "2", "type": "PULL"})
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_beta_has_statistics_for_those_who_ask(held: Cloud) -> None:
    held.app.statuses = [500]
    await held.create()
    await held.server.quiet()
    await held.create(http_request={"url": held.app.url})
    await held.server.quiet()
    queue = await ok(held, "GET", f"/v2beta3/{QUEUE}?readMask=name,stats")
    assert queue["stats"] == {
        "tasksCount": "1",
        "oldestEstimatedArrivalTime": "2023-11-14T22:13:20.100Z",
        "executedLastMinuteCount": "2",
        "concurrentDispatchesCount": "0",
        "effectiveExecutionRate": 500.0,
    }
    held.held.advance(0.1)
    await held.server.quiet()
    held.held.advance(61)
    listed = await ok(held, "GET", f"/v2beta3/{PARENT}/queues?readMask=stats")
    assert listed["queues"][0]["stats"]["executedLastMinuteCount"] == "0"


async def test_held_clock_is_read_and_advanced(held: Cloud) -> None:
    assert await ok(held, "GET", "/local/clock") == {"now": "2023-11-14T22:13:20Z", "held": True}
    held.app.statuses = [500] * 13
    await held.create()
    await held.server.quiet()
    # 0.1 + 0.2 + ... + 409.6 s: thirteen retries in one call, each at its exact time.
    shown = await ok(held, "POST", "/local/clock:advance", {"seconds": 3600})
    assert shown["now"] == "2023-11-14T23:13:20Z"
    start = held.app.received[0].at
    assert [request.at - start for request in held.app.received] == [100_000 * (2**n - 1) for n in range(14)]
    assert await held.empty()
    for seconds in (-1, "soon", None, float("inf")):
        assert (await call(held, "POST", "/local/clock:advance", {"seconds": seconds}))[0] == 400
    assert (await call(held, "POST", "/local/clock:advance", b"no"))[0] == 400


async def test_machines_clock_is_not_advanced(live: Cloud) -> None:
    status, answer = await call(live, "POST", "/local/clock:advance", {"seconds": 1})
    assert (status, answer["error"]["status"]) == (400, "FAILED_PRECONDITION")
    assert (await ok(live, "GET", "/local/clock"))["held"] is False
