"""Commits keep the tallies of which statistics are sums equal to a count of every entity."""

import asyncio
import itertools
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gae_local_cloud.datastore import composites, execution
from gae_local_cloud.datastore.messages import CommitRequest, RunQueryRequest

from ..failing_commits import failing_commits
from .wire import Mutation, Query, Serving, Stub, refused, serving, unindexed, where

_VALUES = (1, -5, True, None, "text", "é\x00", b"bytes", 1.5, [], [1, "x", 1], {"inner": "y", "n": 1}, (1.0, 2.0))


def tallies(served: Serving) -> set[tuple[object, ...]]:
    """Return the tallies that are not 0."""
    rows = "SELECT * FROM tallies WHERE count OR bytes OR index_bytes OR index_count"
    return served.on_loop(lambda: set(served.server.service.entities.database.execute(rows)))


def counted(served: Serving) -> set[tuple[object, ...]]:
    """Return the tallies of a count of every entity."""

    async def count() -> None:
        entities = served.server.service.entities
        with entities.database.atomic() as stored:
            entities.tally()
        await stored

    served.wait_for(count())
    return tallies(served)


def random_entity(stub: Stub, choice: random.Random):
    path = ("K", choice.randrange(1, 20)) if choice.random() < 0.7 else ("P", "root", "K", choice.randrange(1, 20))
    found = {name: choice.choice(_VALUES) for name in choice.sample("abc", choice.randrange(4))}
    if choice.random() < 0.2:
        found["u"] = unindexed("long text")
    return stub.entity(*path, namespace=choice.choice(["", "n1"]), **found)


def write_at_random(stub: Stub, choice: random.Random, rounds: int) -> None:
    """Put and delete entities: some outside transactions, some in one that commits, some in one that does not."""
    for _ in range(rounds):
        if choice.random() < 0.4:
            stub.delete(random_entity(stub, choice).key)
        else:
            stub.put(random_entity(stub, choice))
        number = stub.begin()
        one, two = random_entity(stub, choice), random_entity(stub, choice)
        again = [Mutation(delete=one.key), Mutation(upsert=one), Mutation(delete=one.key), Mutation(upsert=one)]
        more = [Mutation(upsert=two)] if two.key != one.key else []
        if choice.random() < 0.5:
            stub.commit(*again[choice.randrange(4) :], *more, transaction=number)
        else:
            with refused("NOT_FOUND"):
                stub.commit(*more, Mutation(update=stub.entity("Absent", 1)), transaction=number)


@pytest.mark.parametrize("seed", range(4))
def test_tallies_follow_every_write(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execution, "MAX_SORTED", 0)  # queries build composite indexes
    choice = random.Random(seed)  # noqa: S311 - no secret
    with serving() as served:
        one, two = Stub(served.address, "p"), Stub(served.address, "p", "second")
        for stub in (one, two):
            write_at_random(stub, choice, 20)
            stub.names("K", where("a", "=", 1), order=["-b"])
            write_at_random(stub, choice, 20)
        kept = tallies(served)
        assert len(kept) > 50
        assert any(row[5] for row in kept), "no composite index was built"
        assert kept == counted(served)


def write_during_a_build(served: Serving, *writes: Callable[[int], Mutation]) -> None:
    """Run a query for which a composite index is built; meanwhile commit writes, again and again.

    The builder and the commits take turns on the server's event loop, so they meet however slow the machine is.

    Parameters:
        writes: each returns a mutation, given the number of the round: 1 to 199, and again from 1.
    """
    service = served.server.service
    query = Query(kind=[{"name": "K"}], filter=where("a", "=", 1), order=[{"property": {"name": "b"}, "direction": 2}])

    async def run() -> None:
        built = asyncio.ensure_future(service.run_query(RunQueryRequest(project_id="p", query=query)))
        for rounds in itertools.count():
            if built.done():
                break
            for write in writes:
                await service.commit(
                    CommitRequest(
                        project_id="p",
                        mode=CommitRequest.NON_TRANSACTIONAL,
                        mutations=[write(1 + rounds % 199)],
                    )
                )
        await built
        assert rounds > 10, "the index was built before the writes"

    served.wait_for(run())


def assert_counted_with_an_index(served: Serving) -> None:
    assert any(row[5] for row in tallies(served)), "no composite index was built"
    assert tallies(served) == counted(served)


def test_writes_during_the_build_of_an_index_count_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execution, "MAX_SORTED", 0)
    monkeypatch.setattr(composites, "_CHUNK", 1)
    with serving() as served:
        stub = Stub(served.address, "p")
        stub.put(*(stub.entity("K", number, a=1, b=number) for number in range(1, 200)))

        def put_behind(number: int) -> Mutation:
            return Mutation(upsert=stub.entity("K", number, a=1, b=[number, 0]))

        def put_ahead(number: int) -> Mutation:
            return Mutation(upsert=stub.entity("K", 200 - number, a=1, b="x"))

        write_during_a_build(served, put_behind, put_ahead)
        assert_counted_with_an_index(served)


@pytest.mark.parametrize("deletes", [False, True], ids=["stays", "is deleted"])
@pytest.mark.parametrize("values", [[1, 2], [1, 3]], ids=["no entry changes", "one of two entries changes"])
def test_an_entity_that_is_written_before_the_builder_reaches_it_counts_once(
    values: list[int], deletes: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(execution, "MAX_SORTED", 0)
    monkeypatch.setattr(composites, "_CHUNK", 1)
    with serving() as served:
        stub = Stub(served.address, "p")
        stub.put(*(stub.entity("K", number, a=1, b=[1, 2], other=0) for number in range(1, 200)))

        def put(number: int) -> Mutation:
            return Mutation(upsert=stub.entity("K", 200 - number, a=1, b=values, other=number))

        def delete(number: int) -> Mutation:
            return Mutation(delete=stub.key("K", 200 - number))

        write_during_a_build(served, put, *([delete] if deletes else []))
        assert_counted_with_an_index(served)


def test_an_index_that_could_not_be_stored_is_built_at_the_next_query(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execution, "MAX_SORTED", 0)
    with serving() as served:
        stub = Stub(served.address, "p")
        stub.put(*(stub.entity("K", number, a=1, b=number, c=-number) for number in range(1, 4)))
        with failing_commits(served.server.service.entities.database), refused("INTERNAL"):
            stub.names("K", where("a", "=", 1), order=["-b"])
        assert stub.names("K", where("a", "=", 1), order=["-b"]) == [3, 2, 1]
        assert stub.names("K", where("a", "=", 1), order=["-c"]) == [1, 2, 3]
        assert tallies(served) == counted(served)


def test_an_index_in_which_an_entity_explodes_is_in_no_statistics(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execution, "MAX_SORTED", 0)
    with serving() as served:
        stub = Stub(served.address, "p")
        stub.put(stub.entity("K", 1, a=1, b=1), stub.entity("K", 5, a=2, c=1))
        stub.names("K", where("a", "=", 1), order=["-b"])
        assert len(stub.results("__Stat_Kind_CompositeIndex__")) == 1
        many = list(range(1, 301))
        stub.put(stub.entity("K", 2, a=1, b=2), stub.entity("K", 3, a=many, b=many), stub.entity("K", 4, a=1, b=3))
        assert stub.results("__Stat_Kind_CompositeIndex__") == []
        assert tallies(served) == counted(served)
        assert stub.names("K", where("a", "=", 1), order=["-b"]) == [3, 4, 2, 1]
        assert stub.names("K", where("a", "=", 1), order=["-c"]) == [], "an index got the entries of the abandoned one"


def test_a_reset_an_import_and_a_restart_keep_statistics_right(tmp_path: Path):
    file, choice = tmp_path / "export.jsonl", random.Random(7)  # noqa: S311 - no secret
    with serving(tmp_path / "data.sqlite3") as served:
        write_at_random(Stub(served.address, "p"), choice, 20)
        kept = tallies(served)
        served.wait_for(served.server.export_entities(file))
    with serving(tmp_path / "data.sqlite3") as served:
        assert tallies(served) == kept
        write_at_random(Stub(served.address, "p"), choice, 10)
        served.wait_for(served.server.import_entities(file))
        assert tallies(served) == counted(served) != kept
        served.wait_for(served.server.service.reset())
        assert tallies(served) == set()
        served.wait_for(served.server.import_entities(file))
        assert {row[6:] for row in tallies(served)} == {row[6:] for row in kept}


def test_a_file_from_before_tallies_is_counted_once_with_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "data.sqlite3"
    with serving(path) as served:
        write_at_random(Stub(served.address, "p"), random.Random(8), 20)  # noqa: S311 - no secret
        kept = tallies(served)
    assert caplog.messages == []
    with sqlite3.connect(path) as old:
        old.executescript("DROP TABLE tallies; DROP TABLE tallied; PRAGMA user_version = 1;")
    old.close()
    for messages in (1, 1):
        with serving(path) as served:
            assert tallies(served) == kept
        assert len([message for message in caplog.messages if "for statistics" in message]) == messages
