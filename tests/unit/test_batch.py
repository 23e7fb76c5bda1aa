"""Batches: which tasks can be created together, and where a call is full."""

import pytest
from google.cloud import tasks_v2

from gae_deferred import batch
from gae_deferred.errors import BadTaskStateError, DuplicateTaskNameError
from gae_deferred.task import Task


def request_of(size: int, queue: str = "q") -> tasks_v2.CreateTaskRequest:
    """Return a request of exactly so many bytes, at least 2**14 of them in its body."""
    request = tasks_v2.CreateTaskRequest(parent=queue, task=tasks_v2.Task(http_request={"body": bytes(2**14)}))
    missing = size - tasks_v2.CreateTaskRequest.pb(request).ByteSize()
    for correction in range(8):  # a longer body needs longer field tags
        request.task.http_request.body = bytes(2**14 + missing - correction)
        if tasks_v2.CreateTaskRequest.pb(request).ByteSize() == size:
            return request
    raise AssertionError(f"no request of {size} bytes can be made")


@pytest.mark.parametrize(("more", "batches"), [(0, [[0, 1], [2, 3]]), (1, [[0], [1, 2], [3]])])
def test_a_call_is_full_at_exactly_eight_mebibytes(more: int, batches: list[list[int]]):
    half = 4 * 2**20
    requests = [request_of(size) for size in (half + more, half, half, half + more)]
    assert list(batch.split(requests)) == batches


def test_a_later_call_is_full_at_the_same_size():
    half = 4 * 2**20
    requests = [request_of(size) for size in (half, half + 1, half, half)]
    assert list(batch.split(requests)) == [[0], [1], [2, 3]]


def test_a_call_is_full_at_exactly_a_hundred_tasks():
    requests = [request_of(2**14 + 100) for _ in range(201)]
    assert [len(indices) for indices in batch.split(requests)] == [100, 100, 1]


def test_a_request_that_is_larger_than_a_call_goes_alone():
    assert list(batch.split([request_of(2**23 + 1), request_of(2**15)])) == [[0], [1]]


def test_each_queue_has_calls_of_its_own():
    requests = [request_of(2**15, queue) for queue in ("a", "b", "a")]
    assert list(batch.split(requests)) == [[0, 2], [1]]


def test_tasks_that_were_checked_before_count():
    first = Task(b"x", name="n")
    before = {(first.queue_name, first.name): first}
    with pytest.raises(BadTaskStateError, match="twice"):
        batch.check([first], before)
    with pytest.raises(DuplicateTaskNameError):
        batch.check([Task(b"x", name="n")], before)
    batch.check([Task(b"x", name="n", queue="other"), Task(b"x"), Task(b"x")], before)
