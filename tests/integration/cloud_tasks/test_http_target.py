"""A queue's HttpTarget overrides the requests of its HTTP tasks."""

from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2

from gae_local_cloud.cloud_tasks.http_target import effective_request
from gae_local_cloud.cloud_tasks.messages import HttpRequest, Queue

from .harness import PARENT, Cloud

URL = "http://www.example.com:8080/path/to?q=1"


def url_with(url: str = URL, **override: Any) -> str:
    queue = Queue()
    queue.http_target.uri_override.SetInParent()
    for field, value in override.items():
        if isinstance(value, dict):
            getattr(queue.http_target.uri_override, field).SetInParent()
            for name, text in value.items():
                setattr(getattr(queue.http_target.uri_override, field), name, text)
        else:
            setattr(queue.http_target.uri_override, field, value)
    return str(effective_request(HttpRequest(url=url), queue).url)


@pytest.mark.parametrize(
    ("override", "url"),
    [
        ({}, URL),
        ({"scheme": 2}, "https://www.example.com:8080/path/to?q=1"),
        ({"host": "other.test"}, "http://other.test:8080/path/to?q=1"),
        ({"port": 123}, "http://www.example.com:123/path/to?q=1"),
        ({"port": 0}, "http://www.example.com/path/to?q=1"),
        ({"path_override": {"path": "/users/1234"}}, "http://www.example.com:8080/users/1234?q=1"),
        ({"path_override": {"path": ""}}, "http://www.example.com:8080?q=1"),
        ({"query_override": {"query_params": "a=1&b=2"}}, "http://www.example.com:8080/path/to?a=1&b=2"),
        ({"query_override": {"query_params": ""}}, "http://www.example.com:8080/path/to"),
        ({"scheme": 2, "host": "o", "port": 1, "path_override": {"path": "/p"}}, "https://o:1/p?q=1"),
    ],
)
def test_parts_of_the_url_are_replaced(override: dict[str, Any], url: str) -> None:
    assert url_with(**override) == url


def test_if_not_exists_fills_in_the_parts_that_the_task_lacks() -> None:
    everything: dict[str, Any] = {
        "scheme": 2,
        "host": "other.test",
        "port": 123,
        "path_override": {"path": "/default"},
        "query_override": {"query_params": "a=1"},
        "uri_override_enforce_mode": 1,
    }
    assert url_with(**everything) == URL
    assert url_with("http://www.example.com/", **everything) == "http://www.example.com:123/default?a=1"


@pytest.mark.parametrize(("enforce_mode", "host"), [(0, "queue.test"), (1, "task.test"), (2, "queue.test")])
def test_enforce_mode_says_which_host_wins(enforce_mode: int, host: str) -> None:
    url = url_with("http://task.test/", host="queue.test", uri_override_enforce_mode=enforce_mode)
    assert url.startswith(f"http://{host}/")


@pytest.mark.parametrize("kind", ["oauth_token", "oidc_token"])
def test_token_of_the_queue_replaces_the_tasks(kind: str) -> None:
    queue, request = Queue(), HttpRequest(url=URL)
    getattr(queue.http_target, kind).service_account_email = "queue@example.com"
    getattr(request, kind).service_account_email = "task@example.com"
    effective = effective_request(request, queue)
    assert getattr(effective, kind).service_account_email == "queue@example.com"


async def test_dispatch_applies_the_queues_overrides(held: Cloud) -> None:
    host, port = held.app.url.removeprefix("http://").split(":")
    queue = tasks_v2.Queue(
        name=f"{PARENT}/queues/target",
        http_target={
            "uri_override": {"scheme": "HTTP", "host": host, "port": int(port), "path_override": {"path": "/queue"}},
            "http_method": "GET",
            "header_overrides": [{"header": {"key": "X-Kind", "value": "queue"}}],
            "oidc_token": {"service_account_email": "a@example.com", "audience": "aud"},
        },
    )
    created = await held.client.create_queue(parent=PARENT, queue=queue)
    assert created.http_target == queue.http_target
    task = await held.create(
        queue.name,
        http_request={
            "url": "https://unreachable.example/task?kept=1",
            "body": b"ignored by a GET",
            "headers": {"x-kind": "task", "X-Other": "kept"},
        },
    )
    assert task.http_request.url == "https://unreachable.example/task?kept=1"
    await held.server.quiet()
    (request,) = held.app.received
    assert (request.method, request.path, request.body) == ("GET", "/queue?kept=1", b"")
    assert (request.headers["x-kind"], request.headers["x-other"]) == ("queue", "kept")
    assert request.headers["authorization"].startswith("Bearer ey")
    await held.create(queue.name, app_engine_http_request={"relative_uri": "/own"})
    await held.server.quiet()
    assert (held.app.received[-1].method, held.app.received[-1].path) == ("POST", "/own")


@pytest.mark.parametrize("enforce_mode", [0, 1, 2])
@pytest.mark.parametrize("scheme", [0, 1, 2])
async def test_each_value_of_the_enums_is_accepted(held: Cloud, scheme: int, enforce_mode: int) -> None:
    override = {"scheme": scheme, "uri_override_enforce_mode": enforce_mode}
    queue = tasks_v2.Queue(name=f"{PARENT}/queues/target", http_target={"uri_override": override})
    created = await held.client.create_queue(parent=PARENT, queue=queue)
    assert created.http_target.uri_override.scheme == scheme
    assert created.http_target.uri_override.uri_override_enforce_mode == enforce_mode


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"uri_override": {"host": ""}}, "uri_override.host must not be empty"),
        ({"uri_override": {"host": "a/b"}}, "uri_override.host is not a host"),
        ({"uri_override": {"port": -1}}, "uri_override.port"),
        ({"uri_override": {"port": 70000}}, "uri_override.port"),
        ({"uri_override": {"scheme": 9}}, "uri_override.scheme is unknown: 9"),
        ({"uri_override": {"uri_override_enforce_mode": 9}}, "uri_override_enforce_mode is unknown: 9"),
        ({"http_method": 99}, "http_target.http_method"),
        ({"header_overrides": [{"header": {"key": "a b", "value": ""}}]}, "header_overrides"),
        ({"header_overrides": [{"header": {"key": "a", "value": "x" * 81920}}]}, "header_overrides"),
        ({"oidc_token": {"service_account_email": "a@example.com"}}, "oidc_token must have"),
        ({"oauth_token": {"service_account_email": "a@example.com"}}, "oauth_token must have"),
    ],
)
async def test_invalid_target_is_refused(held: Cloud, target: dict[str, Any], message: str) -> None:
    queue = tasks_v2.Queue(name=f"{PARENT}/queues/target", http_target=target)
    with pytest.raises(exceptions.InvalidArgument, match=f"Queue.http_target.*{message}|{message}"):
        await held.client.create_queue(parent=PARENT, queue=queue)
