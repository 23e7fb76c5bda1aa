"""The API over HTTP with JSON, as Google serves it, and its protection against web pages."""

import base64
import json
from typing import Any
from urllib.parse import urlencode

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


async def test_root_answers_when_the_server_is_up(held: Cloud) -> None:
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


async def test_batches_create_and_delete_tasks(held: Cloud) -> None:
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


async def test_policies_locations_and_keys_have_urls(held: Cloud) -> None:
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


async def test_project_with_a_colon_is_part_of_the_url(held: Cloud) -> None:
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
        ("POST", f"/v2beta3/{PARENT}/queues", {"speed": 1}, 400, "INVALID_ARGUMENT", "speed"),
        ("POST", f"/v2/{PARENT}/queues", b"{", 400, "INVALID_ARGUMENT", "Invalid JSON payload"),
        ("POST", f"/v2/{PARENT}/queues", b"[]", 400, "INVALID_ARGUMENT", "must be an object"),
        ("POST", f"/v2/{PARENT}/queues", b"\xff", 400, "INVALID_ARGUMENT", "Invalid JSON payload"),
        ("POST", f"/v2/{PARENT}/queues", b'{"a":' * 5000, 400, "INVALID_ARGUMENT", "Invalid JSON payload"),
        ("POST", f"/v2/{QUEUE}/tasks", {"task": 5}, 400, "INVALID_ARGUMENT", "Invalid JSON payload"),
        ("GET", f"/v2/{QUEUE}/tasks?pageSize=many", None, 400, "INVALID_ARGUMENT", "pageSize"),
        ("GET", f"/v2/{QUEUE}/tasks?speed=1", None, 400, "INVALID_ARGUMENT", "speed"),
        ("GET", f"/v2/{QUEUE}/tasks?pageSize=1&pageSize.x=1", None, 400, "INVALID_ARGUMENT", "pageSize"),
        ("GET", f"/v2beta3/{QUEUE}/tasks?speed=1", None, 400, "INVALID_ARGUMENT", "speed"),
        ("PUT", f"/v2/{QUEUE}", {}, 404, "NOT_FOUND", "No method has this URL"),
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


QUEUE_JSON = {
    "name": QUEUE,
    "rateLimits": {"maxDispatchesPerSecond": 500.0, "maxBurstSize": 100, "maxConcurrentDispatches": 1000},
    "retryConfig": {"maxAttempts": 100, "minBackoff": "0.100s", "maxBackoff": "3600s", "maxDoublings": 16},
    "state": "RUNNING",
}
RATE_AND_BURST = {"rateLimits": {"maxDispatchesPerSecond": 500.0, "maxBurstSize": 100}}


@pytest.mark.parametrize(
    ("fields", "selected"),
    [
        ("", QUEUE_JSON),
        ("*", QUEUE_JSON),
        ("name", {"name": QUEUE}),
        ("name,state", {"name": QUEUE, "state": "RUNNING"}),
        ("retryConfig.maxAttempts", {"retryConfig": {"maxAttempts": 100}}),
        ("retryConfig/maxAttempts", {"retryConfig": {"maxAttempts": 100}}),
        ("retry_config.max_attempts", {"retryConfig": {"maxAttempts": 100}}),
        ("rateLimits(maxDispatchesPerSecond,maxBurstSize)", RATE_AND_BURST),
        ("rateLimits.maxDispatchesPerSecond,rateLimits.maxBurstSize", RATE_AND_BURST),
        ("rateLimits.maxBurstSize,rateLimits", {"rateLimits": QUEUE_JSON["rateLimits"]}),
        ("rateLimits,rateLimits.maxBurstSize", {"rateLimits": QUEUE_JSON["rateLimits"]}),
        ("rateLimits(*)", {"rateLimits": QUEUE_JSON["rateLimits"]}),
        ("*.maxAttempts", {"rateLimits": {}, "retryConfig": {"maxAttempts": 100}, "name": QUEUE, "state": "RUNNING"}),
        ("purgeTime", {}),
    ],
)
async def test_fields_select_a_part_of_the_answer(held: Cloud, fields: str, selected: dict[str, Any]) -> None:
    """Source: "System parameters" of Google's APIs: fields, $fields and X-Goog-FieldMask."""
    for query, headers in (({"fields": fields}, {}), ({"$fields": fields}, {}), ({}, {"X-Goog-FieldMask": fields})):
        path = f"/v2/{QUEUE}?{urlencode(query)}"
        assert await call(held, "GET", path, headers=headers) == (200, selected)


async def test_fields_select_in_each_item_of_a_list(held: Cloud) -> None:
    held.server.ensure_queue(f"{QUEUE}-2")
    first = await ok(held, "GET", f"/v2/{PARENT}/queues?pageSize=1&fields=queues(name,state),nextPageToken")
    assert first.pop("nextPageToken")
    assert first == {"queues": [{"name": QUEUE, "state": "RUNNING"}]}
    names = await ok(held, "GET", f"/v2/{PARENT}/queues?fields=queues.name")
    assert names == {"queues": [{"name": QUEUE}, {"name": f"{QUEUE}-2"}]}


async def test_fields_select_in_maps_operations_and_v2beta3(held: Cloud) -> None:
    await held.client.pause_queue(name=QUEUE)
    request = {"relativeUri": "/", "headers": {"X-Mine": "1", "X-Other": "2"}}
    path = f"/v2/{QUEUE}/tasks?fields=appEngineHttpRequest.headers.X-Mine"
    created = await ok(held, "POST", path, {"task": {"appEngineHttpRequest": request}})
    assert created == {"appEngineHttpRequest": {"headers": {"X-Mine": "1"}}}
    path = f"/v2/{QUEUE}/tasks:batchCreate?fields=done,metadata.state"
    operation = await ok(held, "POST", path, {"requests": [{"task": {"httpRequest": {"url": held.app.url}}}]})
    assert operation == {"done": True, "metadata": {"state": "SUCCEEDED"}}
    queue = await ok(held, "GET", f"/v2beta3/{QUEUE}?readMask=stats&fields=type,stats.tasks_count")
    assert queue == {"type": "PUSH", "stats": {"tasksCount": "2"}}
    location = await ok(held, "GET", f"/v2beta3/{PARENT}?fields=locationId")
    assert location == {"locationId": "us-central1"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *(("speed", "speed"), ("name,retryConfig.speed", "retryConfig.speed"), ("name.part", "name.part")),
        *(("(", None), ("a..b", None), ("name,", None), ("rateLimits(", None), ("name)", None), ("na me", None)),
        *(("retryConfig(" * 60 + "name" + ")" * 60, None), ("name," * 500 + "name", None)),
    ],
)
async def test_invalid_fields_are_refused(held: Cloud, fields: str, field: str | None) -> None:
    status, answer = await call(held, "GET", f"/v2/{QUEUE}?{urlencode({'fields': fields})}")
    error = answer["error"]
    assert (status, error["status"]) == (400, "INVALID_ARGUMENT")
    (violation,) = error["details"][0]["fieldViolations"]
    assert violation.get("field") == field
    assert violation["description"].startswith("Error expanding 'fields' parameter.")


async def test_method_override_stands_for_the_verb(held: Cloud) -> None:
    """Source: "System parameters" of Google's APIs."""
    name = f"{PARENT}/queues/mine"
    held.server.ensure_queue(name)

    async def override(verb: str, path: str, body: Any = None, **headers: str) -> Any:
        status, answer = await call(held, "POST", path, body, headers={"X-HTTP-Method-Override": verb, **headers})
        assert status == 200, answer
        return answer

    assert (await override("GET", f"/v2/{name}"))["name"] == name
    changed = await override(
        "PATCH", f"/v2/{name}?updateMask=retryConfig.maxAttempts", {"retryConfig": {"maxAttempts": 7}}
    )
    assert changed["retryConfig"]["maxAttempts"] == 7
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    listed = await override("GET", f"/v2/{PARENT}/queues", b"pageSize=1&fields=queues.name", **form)
    assert listed == {"queues": [{"name": QUEUE}]}
    # curl -d sends JSON with the same type, which is then ignored.
    changed = await override("PATCH", f"/v2/{name}", {"retryConfig": {"maxAttempts": 8}}, **form)
    assert changed["retryConfig"]["maxAttempts"] == 8
    status, paused = await call(held, "POST", f"/v2/{name}:pause", {}, headers=form)
    assert (status, paused["state"]) == (200, "PAUSED")
    assert await override("DELETE", f"/v2/{name}") == {}
    # Only a POST can stand for another verb: a GET never changes anything.
    await call(held, "GET", f"/v2/{QUEUE}", headers={"X-HTTP-Method-Override": "DELETE"})
    assert (await held.client.get_queue(name=QUEUE)).name == QUEUE


@pytest.mark.parametrize("version", ["v2", "v2beta3"])
@pytest.mark.parametrize("parameter", ["updateMask", "update_mask"])
@pytest.mark.parametrize(
    "mask",
    [
        "retryConfig.maxAttempts,rateLimits.maxDispatchesPerSecond",
        "retry_config.max_attempts,rate_limits.max_dispatches_per_second",
        "retryConfig.max_attempts,rate_limits.maxDispatchesPerSecond",
    ],
)
async def test_update_mask_may_be_camel_case_and_snake_case(
    held: Cloud, version: str, parameter: str, mask: str
) -> None:
    body = {
        "retry_config": {"max_attempts": 7, "maxDoublings": 3},
        "rateLimits": {"max_dispatches_per_second": 20, "maxConcurrentDispatches": 3},
    }
    changed = await ok(held, "PATCH", f"/{version}/{QUEUE}?{parameter}={mask}", body)
    assert changed["retryConfig"] == {**QUEUE_JSON["retryConfig"], "maxAttempts": 7}  # type: ignore[dict-item]
    limits = {"maxDispatchesPerSecond": 20.0, "maxBurstSize": 20, "maxConcurrentDispatches": 1000}
    assert changed["rateLimits"] == limits


async def test_update_mask_of_v2beta3_may_be_snake_case(held: Cloud) -> None:
    body = {"appEngineHttpQueue": {"appEngineRoutingOverride": {"service": "worker"}}}
    mask = "app_engine_http_queue.app_engine_routing_override.service"
    await ok(held, "PATCH", f"/v2beta3/{QUEUE}?updateMask={mask}", body)
    assert (await held.client.get_queue(name=QUEUE)).app_engine_routing_override.service == "worker"


INVALID = "Invalid JSON payload received."
UNKNOWN_PARAMETER = (
    f'{INVALID} Unknown name "speed": Cannot bind query parameter. '
    "Field 'speed' could not be found in request message."
)


@pytest.mark.parametrize(
    ("path", "body", "violations"),
    [
        (
            f"/v2/{PARENT}/queues",
            {"name": f"{PARENT}/queues/q", "speed": 1, "retryConfig": {"fast": 1, "max_attempts": 3}},
            [
                ("queue", f"{INVALID} Unknown name \"speed\" at 'queue': Cannot find field."),
                ("queue.retry_config", f"{INVALID} Unknown name \"fast\" at 'queue.retry_config': Cannot find field."),
            ],
        ),
        (
            f"/v2/{QUEUE}/tasks:batchCreate",
            {"requests": [{}, {"task": {"httpRequest": {"verb": "GET", "headers": {"anything": "1"}}}}]},
            [
                (
                    "requests[1].task.http_request",
                    f"{INVALID} Unknown name \"verb\" at 'requests[1].task.http_request': Cannot find field.",
                )
            ],
        ),
        (f"/v2/{QUEUE}:pause", {"speed": 1}, [(None, f'{INVALID} Unknown name "speed": Cannot find field.')]),
        (
            f"/v2/{QUEUE}:pause?speed=1",
            {},
            [(None, UNKNOWN_PARAMETER)],
        ),
    ],
)
async def test_unknown_names_are_refused_in_googles_words(
    held: Cloud, path: str, body: Any, violations: list[tuple[str | None, str]]
) -> None:
    """Source: answers of Google's REST APIs that people quote in issues, such as of decolua/9router#1876."""
    status, answer = await call(held, "POST", path, body)
    error = answer["error"]
    assert (status, error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["message"] == "\n".join(text for _, text in violations)
    (details,) = error["details"]
    assert details["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [(one.get("field"), one["description"]) for one in details["fieldViolations"]] == violations


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
        {"Host": "cloud-tasks:8124"},
        {"Host": "metadata.google.internal"},
        {"Host": "host.docker.internal:8124"},
        {"Host": "192.168.1.5:8124"},
        {"Host": "0.0.0.0:8124"},
        {"Host": "localhost.example.com"},
        {"Host": ""},
    ],
)
async def test_web_pages_of_other_sites_are_refused(held: Cloud, headers: dict[str, str]) -> None:
    for verb, path in (("POST", f"/v2/{QUEUE}:pause"), ("GET", f"/v2/{QUEUE}"), ("GET", "/")):
        status, answer = await call(held, verb, path, headers=headers)
        assert (status, answer["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert (await held.client.get_queue(name=QUEUE)).state.name == "RUNNING"


@pytest.mark.parametrize("host", ["localhost:8124", "LOCALHOST", "127.0.0.1:8124", "[::1]:8124", "a.localhost"])
async def test_programs_and_pages_of_the_server_itself_are_served(held: Cloud, host: str) -> None:
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}):
        assert (await call(held, "GET", f"/v2/{QUEUE}", headers=headers))[0] == 200


async def test_v2beta3_has_its_own_form_of_queues(held: Cloud) -> None:
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


async def test_v2beta3_has_statistics_on_request(held: Cloud) -> None:
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


async def test_held_clock_can_be_read_and_advanced(held: Cloud) -> None:
    assert await ok(held, "GET", "/local/clock") == {"now": "2023-11-14T22:13:20Z", "held": True}
    held.app.statuses = [500] * 13
    await held.create()
    await held.server.quiet()
    # 0.1 + 0.2 + ... + 409.6 s: one call runs thirteen retries, each at its exact time.
    shown = await ok(held, "POST", "/local/clock:advance", {"seconds": 3600})
    assert shown["now"] == "2023-11-14T23:13:20Z"
    start = held.app.received[0].at
    assert [request.at - start for request in held.app.received] == [100_000 * (2**n - 1) for n in range(14)]
    assert await held.empty()
    for seconds in (-1, "soon", None, float("inf")):
        assert (await call(held, "POST", "/local/clock:advance", {"seconds": seconds}))[0] == 400
    assert (await call(held, "POST", "/local/clock:advance", b"no"))[0] == 400


async def test_machines_clock_cannot_be_advanced(live: Cloud) -> None:
    status, answer = await call(live, "POST", "/local/clock:advance", {"seconds": 1})
    assert (status, answer["error"]["status"]) == (400, "FAILED_PRECONDITION")
    assert (await ok(live, "GET", "/local/clock"))["held"] is False
