"""Outbox entities as Datastore returns them: parsed, refused, and written without the requests that were sent."""

import datetime
from typing import Any
from unittest.mock import Mock

import pytest
from google.cloud import tasks_v2
from google.cloud.datastore_v1 import types

from gae_deferred import stored_outbox
from gae_deferred.stored_outbox import StoredRequest

CREATED = datetime.datetime(2026, 11, 29, 12, 0, 0, 123456, tzinfo=datetime.UTC)
QUEUE = "projects/p/locations/l/queues/q"


def request(parent: str = QUEUE, **task: Any) -> types.Value:
    data = tasks_v2.CreateTaskRequest.serialize(tasks_v2.CreateTaskRequest(parent=parent, task=task))
    return types.Value(blob_value=data)


def array(*values: types.Value) -> types.Value:
    return types.Value(array_value=types.ArrayValue(values=values))


APP_ENGINE = request(app_engine_http_request={"headers": {"X-Mine": "1"}, "body": b"on App Engine"})
HTTP = request(http_request={"url": "https://app.example", "headers": {"X-Mine": "2"}, "body": b"elsewhere"})
TIME = types.Value(timestamp_value=CREATED)
TEXT = types.Value(string_value="text")
NUMBER = types.Value(integer_value=5)


def parse(**properties: types.Value) -> Any:
    return stored_outbox._parse(Mock(), types.Entity(properties=properties))


@pytest.mark.parametrize(
    ("properties", "error"),
    [
        ({"requests": array(HTTP)}, "The entity has no time of creation"),
        ({"requests": array(HTTP), "created": TEXT}, "The entity has no time of creation"),
        ({"created": TIME}, "The entity has 0 requests and 0 seals"),
        ({"created": TIME, "requests": HTTP}, "The property requests is not a list"),
        (
            {"created": TIME, "requests": array(HTTP, TEXT)},
            "The property requests holds a value that is not a blob_value",
        ),
        (
            {"created": TIME, "requests": array(HTTP, HTTP), "seals": array(TEXT)},
            "The entity has 2 requests and 1 seals",
        ),
        (
            {"created": TIME, "requests": array(HTTP), "seals": array(NUMBER)},
            "The property seals holds a value that is not a string_value",
        ),
        (
            {"created": TIME, "requests": array(request(name="a"))},
            "A request in the entity names no queue, or has no target",
        ),
        (
            {"created": TIME, "requests": array(request("", http_request={"url": "https://app.example"}))},
            "A request in the entity names no queue, or has no target",
        ),
    ],
)
def test_an_entity_that_cannot_be_read_is_refused_with_its_fault(properties: dict[str, types.Value], error: str):
    with pytest.raises((TypeError, ValueError)) as raised:
        parse(**properties)
    assert str(raised.value) == error


def test_requests_of_both_kinds_are_read_with_their_seals_and_the_exact_time():
    entity = parse(created=TIME, requests=array(APP_ENGINE, HTTP), seals=array(TEXT, types.Value(string_value="other")))
    assert entity.created == CREATED.replace(tzinfo=None)
    assert [stored.seal for stored in entity.requests] == ["text", "other"]
    assert [stored.data for stored in entity.requests] == [APP_ENGINE.blob_value, HTTP.blob_value]
    assert [stored_outbox.header(stored, "X-Mine") for stored in entity.requests] == ["1", "2"]
    assert [stored_outbox.header(stored, "X-Other") for stored in entity.requests] == [None, None]
    assert [stored_outbox.body(stored) for stored in entity.requests] == [b"on App Engine", b"elsewhere"]


def test_requests_without_seals_have_empty_ones():
    entity = parse(created=TIME, requests=array(APP_ENGINE, HTTP))
    assert [stored.seal for stored in entity.requests] == ["", ""]


def key_of(database: str | None) -> Any:
    return Mock(project=lambda: "p", database=lambda: database, flat=lambda: ["_DeferredOutbox", "a1"])


def test_a_seal_is_of_one_database(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "key:0123456789abcdef0123456789abcdef")
    seals = [stored_outbox.seal(key_of(name), CREATED, b"request") for name in (None, "", "one", "two")]
    assert seals[0] == seals[1]  # the default database
    assert len({*seals}) == 3
    checked = [
        stored_outbox.check_seal(key_of("one"), CREATED, StoredRequest(b"request", each, Mock())) for each in seals
    ]
    assert [seal.name for seal in checked] == ["FORGED", "FORGED", "VALID", "FORGED"]


def test_without_keys_a_seal_is_empty():
    assert stored_outbox.seal(key_of(None), CREATED, b"request") == ""


def test_an_entity_keeps_the_requests_that_have_not_ended_with_their_seals():
    entity = Mock(requests=[b"1", b"2", b"3"], seals=["one", "two", "three"])
    stored_outbox.remove(entity, {b"2"})
    assert (entity.requests, entity.seals) == ([b"1", b"3"], ["one", "three"])
    entity.put.assert_called_once_with()
    entity.key.delete.assert_not_called()


def test_an_entity_without_seals_keeps_none():
    entity = Mock(requests=[b"1", b"2"], seals=[])
    stored_outbox.remove(entity, {b"1"})
    assert (entity.requests, entity.seals) == ([b"2"], [])


def test_an_entity_whose_requests_have_all_ended_is_deleted():
    entity = Mock(requests=[b"1", b"2"], seals=[])
    stored_outbox.remove(entity, {b"1", b"2"})
    entity.key.delete.assert_called_once_with()
    entity.put.assert_not_called()


def test_no_request_gets_lost_if_somebody_has_taken_away_seals_since_the_entity_was_read():
    entity = Mock(requests=[b"1", b"2"], seals=["one"])
    with pytest.raises(ValueError, match="shorter"):
        stored_outbox.remove(entity, {b"1"})
