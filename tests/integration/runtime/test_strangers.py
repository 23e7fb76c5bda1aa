"""Over HTTP, the app unpickles only a body that the local queue is delivering at that moment."""

import http.client
import pickle

import pytest

from gae_deferred import deferred

from .local_app import PATIENCE, LocalApp
from .tasks import GO_ON, RAN, Trap, tell, wait

URL = "/_ah/queue/deferred"
TRAP = pickle.dumps((tell, (Trap(),), {}))


def delivery(task: str, retry: int = 0, queue: str = "default") -> dict[str, str]:
    return {
        "X-AppEngine-TaskName": task,
        "X-AppEngine-QueueName": queue,
        "X-AppEngine-TaskRetryCount": str(retry),
        "X-AppEngine-User-IP": "0.1.0.2",
        "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)",
    }


@pytest.fixture
def in_flight(local: LocalApp):
    """A task that is being delivered for as long as the test lasts."""
    GO_ON.clear()
    task = deferred.defer(wait, "begun")
    assert RAN.next() == "begun"
    yield task
    GO_ON.set()
    local.attempts.last_of(task)


@pytest.mark.parametrize("path", [URL, "/custom/path"])
@pytest.mark.parametrize(
    "headers", [{}, delivery("no-such-task"), delivery("x/../y"), delivery("a", queue="no-such-queue")]
)
def test_a_post_that_does_not_come_from_the_queue_is_refused_and_not_unpickled(
    path: str, headers: dict[str, str], local: LocalApp
):
    status, text = local.request("POST", path, TRAP, headers)
    assert status == 403
    assert text
    assert [event for event in list(RAN.queue.queue) if event != "custom handler"] == []


def test_a_delivery_cannot_be_forged_while_the_real_one_is_under_way(in_flight: deferred.Task, local: LocalApp):
    assert in_flight.name
    for path, body, headers in [
        (URL, TRAP, delivery(in_flight.name)),
        (URL, in_flight.payload, delivery(in_flight.name, retry=1)),
        (URL, in_flight.payload, delivery(in_flight.name, queue="emails")),
        ("/custom/path", in_flight.payload, delivery(in_flight.name)),
        (URL + "/", in_flight.payload, delivery(in_flight.name)),
    ]:
        assert local.request("POST", path, body, headers)[0] == 403
    assert [event for event in list(RAN.queue.queue) if event != "custom handler"] == []


def test_a_delivery_cannot_be_repeated_when_the_task_is_done(local: LocalApp):
    task = deferred.defer(tell, "once")
    local.attempts.last_of(task)
    assert RAN.next() == "once"
    assert local.request("POST", URL, task.payload, delivery(task.name or ""))[0] == 403
    assert RAN.queue.empty()


def test_a_task_that_waits_for_its_time_cannot_be_run_early(local: LocalApp):
    task = deferred.defer(tell, "early", _countdown=3600)
    for retry in (-1, 0):
        assert local.request("POST", URL, task.payload, delivery(task.name or "", retry))[0] == 403
    assert RAN.queue.empty()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_answered_405_with_allow(method: str, local: LocalApp):
    connection = http.client.HTTPConnection("127.0.0.1", local.port, timeout=PATIENCE)
    connection.request(method, URL, headers=delivery("a"))
    response = connection.getresponse()
    assert (response.status, response.headers["Allow"]) == (405, "POST")
    connection.close()


def test_a_chunked_body_is_answered_411_without_waiting_for_it(local: LocalApp):
    connection = http.client.HTTPConnection("127.0.0.1", local.port, timeout=PATIENCE)
    connection.putrequest("POST", URL)
    for name, value in {**delivery("a"), "Transfer-Encoding": "chunked"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


def test_an_oversize_body_is_answered_413_without_waiting_for_it(local: LocalApp):
    connection = http.client.HTTPConnection("127.0.0.1", local.port, timeout=PATIENCE)
    connection.putrequest("POST", URL)
    for name, value in {**delivery("a"), "Content-Length": str(10**12)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_task_of_another_kind_on_the_deferred_url_fails_for_good(local: LocalApp):
    from gae_deferred import Task, cloud_tasks

    task = Task(b"no pickle")
    cloud_tasks.create(task)
    attempt = local.attempts.next_of(task)
    assert (attempt.status, attempt.final) == (200, True)
