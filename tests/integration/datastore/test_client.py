"""The unmodified google-cloud-datastore client."""

import pytest
from google.api_core import exceptions
from google.cloud import datastore
from google.cloud.datastore.query import And, Or, PropertyFilter

from gae_local_cloud.datastore import transactions


def _put(client, name, **properties):
    entity = datastore.Entity(client.key("Task", name))
    entity.update(properties)
    client.put(entity)
    return entity


def test_put_get_delete(client):
    entity = _put(client, "a", done=False, tags=["x", "y"], priority=4)
    assert client.get(entity.key) == entity
    client.delete(entity.key)
    assert client.get(entity.key) is None
    assert client.get_multi([entity.key]) == []


def test_a_batch_and_an_incomplete_key(client):
    with client.batch() as batch:
        entities = [datastore.Entity(client.key("Task")) for _ in range(3)]
        for entity in entities:
            batch.put(entity)
    assert len({entity.key.id for entity in entities}) == 3


def test_queries_page_over_more_than_a_batch(client):
    for start in range(0, 700, 350):
        client.put_multi([datastore.Entity(client.key("Many", number + 1)) for number in range(start, start + 350)])
    query = client.query(kind="Many")
    assert len(list(query.fetch())) == 700
    assert len(list(query.fetch(limit=400, offset=350))) == 350
    iterator = query.fetch(limit=500)
    assert len(list(iterator)) == 500
    assert len(list(query.fetch(start_cursor=iterator.next_page_token))) == 200


def test_composite_filters(client):
    for name, priority, done in [("a", 1, True), ("b", 2, False), ("c", 3, True)]:
        _put(client, name, priority=priority, done=done)
    query = client.query(kind="Task")
    query.add_filter(filter=Or([PropertyFilter("priority", "=", 2), And([PropertyFilter("done", "=", True)])]))
    assert [entity.key.name for entity in query.fetch()] == ["a", "b", "c"]
    query = client.query(kind="Task", order=["-priority"])
    query.add_filter(filter=PropertyFilter("priority", "NOT_IN", [2]))
    assert [entity.key.name for entity in query.fetch()] == ["c", "a"]


def test_a_transaction_and_a_write_of_what_it_has_read_conflict(any_server, project, monkeypatch):
    """python-datastore's system test ``test_failure_with_contention`` expects it in any concurrency mode."""
    monkeypatch.setattr(transactions, "MAX_WRITE_WAIT", 0.05)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", any_server.address)
    client = datastore.Client(project=project)
    entity = _put(client, "a", priority=1)

    def contend() -> None:
        with client.transaction() as transaction:
            mine = client.get(entity.key)
            _put(datastore.Client(project=project), "a", priority=2)
            mine["priority"] = 3
            transaction.put(mine)

    with pytest.raises(exceptions.Conflict):
        contend()
    assert client.get(entity.key)["priority"] in (1, 2)


def test_ids_are_allocated_and_reserved(client):
    keys = client.allocate_ids(client.key("Task"), 4)
    assert len({key.id for key in keys}) == 4
    client.reserve_ids_multi(keys)


def test_reading_at_an_earlier_time(client):
    entity = _put(client, "a", priority=1)
    with client.transaction(read_only=True) as transaction:
        assert client.get(entity.key, transaction=transaction)["priority"] == 1
