"""The entities of a transaction's tasks: how full each is, and what the log says of each task."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from gae_deferred import Task, cloud_tasks, datastore, errors, limits, outbox

pytestmark = pytest.mark.usefixtures("datastore")


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[outbox._Outbox]:
    """An outbox that is never written."""
    monkeypatch.setenv("DEFERRED_LOCATION", "us-east1")
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "key:0123456789abcdef0123456789abcdef")
    monkeypatch.setattr(outbox, "_as_tasklet", lambda function: Mock())
    with datastore.context():
        yield outbox._Outbox()


def tasks(*sizes: int) -> list[Task]:
    return [Task(b"x" * size, transactional=True) for size in sizes]


def test_a_page_is_as_large_as_its_requests(box: outbox._Outbox):
    box.add(tasks(400_000, 600_000, 10))
    box.add(tasks(1000, 500_000, 20))
    assert [len(page.requests) for page in box._pages] == [1, 3, 2]
    assert [page.size for page in box._pages] == [sum(map(len, page.requests)) for page in box._pages]


def test_the_largest_task_fills_an_entity_to_its_last_byte(box: outbox._Outbox):
    def added(size: int) -> int:
        """Return the bytes of the request of a task with a payload of this size."""
        alone = outbox._Outbox()
        alone.add(tasks(size))
        return len(alone._pages[0].requests[0])

    largest = 900_000 + limits.MAX_ENTITY_BYTES - added(900_000)
    assert added(largest) == limits.MAX_ENTITY_BYTES
    with pytest.raises(errors.TaskTooLargeError, match="outbox entity"):
        added(largest + 1)


def test_a_page_has_room_for_an_entity_and_until_it_was_written_as_often_as_allowed():
    page = outbox._Page(Mock())
    assert page.has_room(limits.MAX_ENTITY_BYTES)
    assert not page.has_room(limits.MAX_ENTITY_BYTES + 1)
    for _ in range(outbox._MAX_WRITES):
        assert page.has_room(1)
        page.writes += 1
    assert not page.has_room(1)


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (errors.TaskAlreadyExistsError("known"), "INFO"),
        (errors.TombstonedTaskError("has run"), "INFO"),
        (errors.TransientError("away"), "ERROR"),
    ],
)
def test_only_a_task_that_waits_for_a_sweep_is_an_error_in_the_log(
    outcome: Exception,
    level: str,
    box: outbox._Outbox,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    deleted: list[Any] = []
    box.add(tasks(1))
    monkeypatch.setattr(cloud_tasks, "send", lambda requests: [outcome])
    monkeypatch.setattr("google.cloud.ndb.delete_multi", deleted.extend)
    with caplog.at_level("INFO", logger=outbox.__name__):
        box._send()
    assert [record.levelname for record in caplog.records] == [level]
    assert deleted == ([] if level == "ERROR" else [box._pages[0].key])


def test_an_entity_is_deleted_when_queues_have_all_of_its_own_tasks(
    box: outbox._Outbox, monkeypatch: pytest.MonkeyPatch
):
    deleted: list[Any] = []
    away = errors.TransientError("away")
    box.add(tasks(500_000, 1, 500_000, 500_000, 1))
    outcomes: list[Any] = ["sent", errors.TombstonedTaskError("has run"), away, "sent", "sent"]
    monkeypatch.setattr(cloud_tasks, "send", lambda requests: outcomes)
    monkeypatch.setattr("google.cloud.ndb.delete_multi", deleted.extend)
    box._send()
    first, _, last = box._pages
    assert deleted == [first.key, last.key]
