"""The unmodified Cloud NDB client."""

import datetime
import threading

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb


class Inner(ndb.Model):
    number = ndb.IntegerProperty()
    tags = ndb.StringProperty(repeated=True)


class Flat(ndb.Model):
    number = ndb.IntegerProperty()
    name = ndb.StringProperty()


class Everything(ndb.Model):
    integer = ndb.IntegerProperty()
    real = ndb.FloatProperty()
    truth = ndb.BooleanProperty()
    string = ndb.StringProperty()
    text = ndb.TextProperty()
    blob = ndb.BlobProperty()
    compressed = ndb.BlobProperty(compressed=True)
    json = ndb.JsonProperty()
    pickled = ndb.PickleProperty()
    moment = ndb.DateTimeProperty()
    day = ndb.DateProperty()
    time = ndb.TimeProperty()
    key_to = ndb.KeyProperty()
    place = ndb.GeoPtProperty()
    numbers = ndb.IntegerProperty(repeated=True)
    inner = ndb.StructuredProperty(Inner)
    flats = ndb.StructuredProperty(Flat, repeated=True)
    local = ndb.LocalStructuredProperty(Inner)
    generic = ndb.GenericProperty()
    computed = ndb.ComputedProperty(lambda self: (self.string or "").upper())


class Item(ndb.Model):
    number = ndb.IntegerProperty()
    group = ndb.StringProperty()
    tags = ndb.StringProperty(repeated=True)


@pytest.fixture
def items(ndb_context):
    keys = ndb.put_multi(
        [Item(id=number, number=number, group="ab"[number % 2], tags=["all", str(number)]) for number in range(1, 26)]
    )
    assert [key.id() for key in keys] == list(range(1, 26))


def test_every_property_type_comes_back(ndb_context):
    given = Everything(
        id="e",
        integer=-5,
        real=1.5,
        truth=True,
        string="é",
        text="x" * 5000,
        blob=b"\xff\x00",
        compressed=b"z" * 3000,
        json={"a": [1, None]},
        pickled={"s": {1, 2}},
        moment=datetime.datetime(2020, 1, 2, 3, 4, 5, 678901),
        day=datetime.date(2020, 1, 2),
        time=datetime.time(3, 4, 5),
        key_to=ndb.Key("A", 1, "B", "b"),
        place=ndb.GeoPt(52.5, 13.4),
        numbers=[3, 1, 2],
        inner=Inner(number=1, tags=["x"]),
        flats=[Flat(number=1, name="x"), Flat(number=2, name="z")],
        local=Inner(number=9),
        generic="anything",
    )
    given.put()
    found = ndb.Key(Everything, "e").get(use_cache=False)
    assert found is not given
    # Compare dicts: NDB finds structured properties that it read unequal to new ones.
    assert found.to_dict() == given.to_dict()
    assert Everything.query(Everything.inner.number == 1).get().key == given.key
    assert Everything.query(Everything.flats.name == "z").get().key == given.key
    assert Everything.query(Everything.moment == given.moment).get().key == given.key
    assert Everything.query(Everything.place == given.place).get().key == given.key
    assert Everything.query(Everything.key_to == given.key_to).get().key == given.key
    assert Everything.query(Everything.computed == "É").get().key == given.key


def test_get_or_insert_inserts_once(ndb_context):
    first = Item.get_or_insert("x", number=1)
    again = Item.get_or_insert("x", number=2)
    assert (first.number, again.number) == (1, 1)


def test_keys_are_allocated_and_deleted(ndb_context):
    keys = Item.allocate_ids(5)
    assert len({key.id() for key in keys}) == 5
    key = Item(number=1).put()
    assert key.get().number == 1
    key.delete()
    assert key.get() is None
    ndb.delete_multi(keys)


def test_a_transaction_retries_on_a_conflict_and_commits_once(any_server, project, monkeypatch):
    """The other transaction begins to commit first. It waits for our locks, or has stored already."""
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", any_server.address)
    tries = []

    def add_ten(key: ndb.Key) -> None:
        with ndb.Client(project=project, credentials=AnonymousCredentials()).context(cache_policy=False):
            ndb.transaction(lambda: _add(key, 10))

    @ndb.transactional(retries=3)
    def increment(key: ndb.Key) -> None:
        item = key.get()
        tries.append(item.number)
        if len(tries) == 1:
            other.start()
            any_server.wait_until(lambda: any_server.waiting() == 1 or not other.is_alive())
        item.number += 1
        item.put()

    with ndb.Client(project=project, credentials=AnonymousCredentials()).context(cache_policy=False):
        key = Item(number=0).put()
        other = threading.Thread(target=add_ten, args=(key,))
        increment(key)
        other.join(20)
        assert tries == [0, 10]
        assert key.get().number == 11


def _add(key: ndb.Key, amount: int) -> None:
    item = key.get()
    item.number += amount
    item.put()


def test_an_error_in_a_transaction_leaves_nothing(ndb_context):
    def fail() -> None:
        Item(id="never", number=1).put()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        ndb.transaction(fail)
    assert Item.get_by_id("never") is None


def test_queries(items):
    assert [item.number for item in Item.query(Item.group == "a").order(-Item.number).fetch(3)] == [24, 22, 20]
    assert [item.number for item in Item.query(Item.number > 20, Item.number <= 23)] == [21, 22, 23]
    assert Item.query(Item.tags == "7").get().number == 7
    assert [key.id() for key in Item.query(Item.number.IN([3, 5])).fetch(keys_only=True)] == [3, 5]
    assert Item.query(ndb.OR(Item.number == 3, Item.group == "a")).count() == 13
    assert Item.query(Item.number != 3).count() == 24
    assert Item.query().count() == 25
    assert Item.query().count(limit=7) == 7
    assert [item.number for item in Item.query().order(Item.number).fetch(2, offset=3)] == [4, 5]
    assert [item.number for item in Item.query().order(Item.number).iter(limit=2)] == [1, 2]


def test_projection_and_distinct(items):
    groups = Item.query(projection=[Item.group], distinct_on=[Item.group]).fetch()
    assert [item.group for item in groups] == ["a", "b"]
    with pytest.raises(ndb.UnprojectedPropertyError):
        _ = groups[0].number


def test_pages(items):
    query = Item.query().order(Item.number)
    numbers, cursor, more = [], None, True
    while more:
        page, cursor, more = query.fetch_page(10, start_cursor=cursor)
        numbers.extend(item.number for item in page)
    assert numbers == list(range(1, 26))


def test_ancestor_queries(ndb_context):
    parent = ndb.Key("Book", "b")
    Item(parent=parent, number=1).put()
    Item(number=2).put()
    assert [item.number for item in Item.query(ancestor=parent)] == [1]


def test_a_query_with_an_absurdly_short_timeout_fails(ndb_context):
    """python-ndb's system test ``test_fetch_w_absurdly_short_timeout`` expects code 504."""
    Item(number=1).put()
    for _ in range(20):
        with pytest.raises(exceptions.GatewayTimeout):
            Item.query().fetch(timeout=1e-9)


def test_namespaces(ndb_context):
    Item(id=1, namespace="other", number=1).put()
    assert Item.query().count() == 0
    assert Item.query(namespace="other").count() == 1
