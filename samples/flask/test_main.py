"""Tests of the counter app: real requests to it, real tasks from the local cloud."""

import logging
import time
import urllib.error
import urllib.request

import pytest
from gae_deferred import deferred
from google.cloud import ndb

import counter


def get(url):
    """Return what the app answers to a GET."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def eventually(condition):
    """Wait until a condition holds: a task runs soon, but not at once."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "This did not come true within 10 seconds."
        time.sleep(0.01)


def test_an_increment_counts_now_then_after_one_minute_then_after_two(site, queue):
    start = int(get(f"{site}/counter/get"))

    get(f"{site}/counter/increment")

    eventually(lambda: int(get(f"{site}/counter/get")) == start + 10)
    in_a_minute, in_two_minutes = queue.waiting()
    queue.run(in_a_minute)
    eventually(lambda: int(get(f"{site}/counter/get")) == start + 20)
    queue.run(in_two_minutes)
    eventually(lambda: int(get(f"{site}/counter/get")) == start + 30)


def test_a_delayed_task_waits_for_its_time_and_is_posted_where_it_should_be(site, queue):
    before = time.time()
    get(f"{site}/counter/increment")
    after = time.time()

    eventually(lambda: len(queue.waiting()) == 2)
    for task, delay, path in zip(queue.waiting(), [60, 120], ["/_ah/queue/deferred", "/custom/path"], strict=True):
        assert before + delay - 1 <= task.schedule_time.timestamp() <= after + delay + 1
        assert task.app_engine_http_request.relative_uri == path


def test_the_custom_path_logs_how_its_task_went(site, queue, caplog):
    caplog.set_level(logging.INFO)
    get(f"{site}/counter/increment")

    eventually(lambda: len(queue.waiting()) == 2)
    task = queue.waiting()[1]
    queue.run(task)

    task_id = task.name.rpartition("/")[2]
    eventually(lambda: f"Task {task_id}: status 200" in caplog.text)


def test_tasks_that_run_at_the_same_time_lose_nothing(site, queue):
    for _ in range(50):
        deferred.defer(counter.add, "together", 10)

    eventually(lambda: not queue.waiting())
    with ndb.Client().context():
        assert counter.read("together") == 500


@pytest.mark.parametrize("path", ["/_ah/queue/deferred", "/custom/path"])
def test_only_cloud_tasks_can_have_something_run(site, path):
    pretending = {"X-AppEngine-QueueName": "default", "X-AppEngine-TaskName": "mine", "X-AppEngine-TaskRetryCount": "0"}
    request = urllib.request.Request(f"{site}{path}", b"not even a pickle", pretending, method="POST")

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)

    assert refused.value.code == 403
