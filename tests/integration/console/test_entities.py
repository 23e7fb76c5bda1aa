"""Entities: kinds, tables, GQL, one entity with all types of values, and dead letters."""

import asyncio
import datetime
import os
import re
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb

from gae_local_cloud.console.gql_text import select

from .conftest import ConsoleUser, text_of


class Address(ndb.Model):
    city = ndb.StringProperty()


class Thing(ndb.Model):
    """An entity with a value of each type."""

    number = ndb.IntegerProperty()
    text = ndb.StringProperty()
    ratio = ndb.FloatProperty()
    truth = ndb.BooleanProperty()
    when = ndb.DateTimeProperty()
    owner = ndb.KeyProperty()
    place = ndb.GeoPtProperty()
    tags = ndb.StringProperty(repeated=True)
    data = ndb.JsonProperty()
    blob = ndb.BlobProperty()
    packed = ndb.TextProperty(compressed=True)
    address = ndb.LocalStructuredProperty(Address)
    pickled = ndb.PickleProperty()
    nothing = ndb.StringProperty()


class RunsCode:
    """A value whose pickle would make a file if it were unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def full() -> Thing:
    """Return an entity with all properties."""
    return Thing(
        id="full",
        number=-7,
        text="<script>alert(1)</script>",
        ratio=0.25,
        truth=True,
        when=datetime.datetime(2026, 1, 2, 3, 4, 5, 678),
        owner=ndb.Key("Owner", "ada", "Pet", 3),
        place=ndb.GeoPt(52.5, 13.25),
        tags=["a", "b"],
        data={"deep": [1, None]},
        blob=b"\x00\xff",
        packed="long " * 1000,
        address=Address(city="Berlin"),
        pickled={"key": (1, 2)},
    )


async def put(user: ConsoleUser, make: Callable[[], list[ndb.Model]], namespace: str = "") -> list[str]:
    """Store entities that a function makes in an NDB context, and return their keys as ``urlsafe`` does.

    That is done in a thread: the local cloud is served by the event loop of the test.
    """

    def work() -> list[str]:
        client = ndb.Client(project="local-dev", namespace=namespace, credentials=AnonymousCredentials())
        with client.context():
            return [key.urlsafe().decode() for key in ndb.put_multi(make())]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTORE_EMULATOR_HOST", user.cloud.datastore_address)
        return await asyncio.to_thread(work)


def query_path(**parameters: str) -> str:
    return "/console/entities/query?" + urlencode({"project": "local-dev", **parameters})


def keys(html: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="[^"]*">([^<]*)</a>', html)


async def numbered(user: ConsoleUser, count: int) -> None:
    await put(user, lambda: [Thing(id=f"v{n:03}", number=n * 7 % 120, text=f"t{n % 3}") for n in range(count)])


async def test_kinds_are_counted_in_each_namespace(user: ConsoleUser):
    assert "No entity is stored" in text_of(await user.get("/console/entities"))
    await numbered(user, 3)
    await put(user, lambda: [Thing(id=1, number=1)], namespace="tenant")
    text = text_of(await user.get("/console/entities"))
    assert "no namespace Kind Entities Thing 3" in text
    assert "namespace tenant Kind Entities Thing 1" in text


async def test_a_table_is_sorted_filtered_and_paged(user: ConsoleUser):
    await numbered(user, 120)
    html = await user.get(query_path(kind="Thing", sort="-number"))
    first = keys(html)
    assert len(first) == 50
    rest = re.search(r'href="([^"]*)" rel="next"', html)[1].replace("&amp;", "&")
    found = first + keys(await user.get(rest))
    assert found == [f"Thing:v{n:03}" for n in sorted(range(120), key=lambda n: -(n * 7 % 120))][:100]
    html = await user.get(query_path(kind="Thing", property="number", operator="<", value="3"))
    assert len(keys(html)) == 3
    html = await user.get(query_path(kind="Thing", property="text", value="t1"))
    assert len(keys(html)) == 40
    assert "The query finds nothing" in text_of(await user.get(query_path(kind="Thing", property="text", value="t9")))


async def test_gql_answers_and_explains_its_errors(user: ConsoleUser):
    await numbered(user, 10)
    html = await user.get(query_path(gql="SELECT * FROM Thing WHERE number >= 14 AND number <= 21 ORDER BY number"))
    assert keys(html) == ["Thing:v002", "Thing:v003"]
    assert "10" in text_of(await user.get(query_path(gql="SELECT COUNT(*) AS n, SUM(number) FROM Thing")))
    html = await user.get(query_path(gql="SELECT * FROM Thing WHER number = 1"), status=400)
    assert "expected the end of the query, found 'WHER'" in text_of(html)
    assert "<mark>WHER</mark>" in html
    html = await user.get(query_path(gql="SELECT <b>"), status=400)
    assert "<b>" not in html


async def test_a_query_shows_the_index_that_it_needs_in_production(user: ConsoleUser):
    await numbered(user, 3)
    text = text_of(await user.get(query_path(gql="SELECT * FROM Thing WHERE text = 't1' ORDER BY number DESC")))
    assert "- kind: Thing properties: - name: text - name: number direction: desc" in text


async def test_an_entity_shows_each_type_of_value(user: ConsoleUser, tmp_path):
    urlsafe, _ = await put(user, lambda: [full(), Thing(id=2, pickled=RunsCode(str(tmp_path / "ran")))])
    html = await user.get(query_path(kind="Thing"))
    urls = re.findall(r'href="(/console/entities/entity[^"]*)"', html)
    texts = [text_of(await user.get(url)) for url in urls]
    hostile, whole = sorted(texts, key=len)
    for shown in (
        "number integer -7",
        "text string <script>alert(1)</script>",
        "ratio float 0.25",
        "truth boolean True",
        "when date and time 2026-01-02T03:04:05.000678Z",
        "owner key ndb.Key('Owner', 'ada', 'Pet', 3)",
        "place geographical point 52.5, 13.25",
        "tags list 0 string a 1 string b",
        '"deep": [ 1, null ]',
        "00 ff",
        "unpacked 4.9 KiB",
        "{'key': (1, 2)}",
        "nothing null None",
        "ndb.Key('Thing', 'full')",
        urlsafe,
    ):
        assert shown in whole
    assert "posix.mkdir(" in hostile
    assert not (tmp_path / "ran").exists()


async def test_keys_in_namespaces_and_with_parents_are_as_ndb_writes_them(user: ConsoleUser):
    (urlsafe,) = await put(user, lambda: [Thing(parent=ndb.Key("Parent", "p"), id=5)], namespace="tenant")
    html = await user.get(query_path(kind="Thing", namespace="tenant"))
    text = text_of(await user.get(re.search(r'href="(/console/entities/entity[^"]*)"', html)[1]))
    assert urlsafe in text
    assert "ndb.Key('Parent', 'p', 'Thing', 5, namespace='tenant')" in text
    assert "Parent:p" in text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("5", "5"),
        ("-1.5e3", "-1.5e3"),
        ("true", "true"),
        ("it's", "'it''s'"),
        ("a' OR 1 = '1", "'a'' OR 1 = ''1'"),
        ("KEY(Thing, 1)", "KEY(Thing, 1)"),
        ("2026-01-02", "'2026-01-02'"),
    ],
)
def test_values_are_written_as_gql(value: str, written: str):
    expected = f"SELECT * FROM `A``.B` WHERE `c`.`d` = {written}"  # noqa: S608 - GQL
    assert select("A`.B", property_name="c.d", value=value) == expected


async def test_a_dead_letter_is_sent_again_and_deleted(user: ConsoleUser, monkeypatch: pytest.MonkeyPatch):
    # NDB keeps one model of each kind: that of gae-deferred is back when this test has ended.
    monkeypatch.setitem(ndb.Model._kind_map, "_DeferredDeadLetter", None)

    class DeadLetter(ndb.Model):
        reason = ndb.StringProperty()
        queue = ndb.StringProperty()
        url = ndb.TextProperty()
        callable = ndb.TextProperty()
        error = ndb.TextProperty()
        headers = ndb.JsonProperty()
        payload = ndb.BlobProperty()
        attempts = ndb.IntegerProperty(indexed=False)
        failed_at = ndb.DateTimeProperty()

        @classmethod
        def _get_kind(cls) -> str:
            return "_DeferredDeadLetter"

    assert "There are none" in text_of(await user.get("/console/dead-letters"))
    letter = {
        "reason": "failed",
        "queue": "mail",
        "url": "/ok",
        "callable": "mail.send",
        "error": "Traceback ...\nMailError: 550 <no> such user",
        "headers": {},
        "payload": b"x",
        "attempts": 1,
        "failed_at": datetime.datetime(2026, 1, 2),
    }
    await put(user, lambda: [DeadLetter(id=number, **letter) for number in (11, 12)])
    text = text_of(await user.get("/console/dead-letters"))
    assert "failed mail mail.send 1 MailError: 550 <no> such user" in text
    await user.post("/console/dead-letters", status=400, kind="_DeferredDeadLetter", action="resend")
    await user.post("/console/dead-letters", status=400, kind="Thing", action="delete", letter="11")
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "local:" + "k" * 32)
    html = await user.post(
        "/console/dead-letters", back="/console/dead-letters", kind="_DeferredDeadLetter", action="delete", letter="11"
    )
    assert "letter-11" not in html
    assert "letter-12" in html
    resend = {"back": "/console/dead-letters", "kind": "_DeferredDeadLetter", "action": "resend", "letter": "12"}
    refused = await user.post("/console/dead-letters", status=400, **resend)
    assert "Send it again?" in text_of(refused)  # nothing proves who wrote it
    html = await user.post("/console/dead-letters", unproven="on", **resend)
    assert "There are none" in text_of(html)
    html = await user.get("/console/queues/local-dev/us-central1/mail?state=ended")
    assert "POST /ok" in text_of(html)
