"""Export and import of the whole store."""

import datetime

import pytest

from gae_local_cloud.datastore import ImportFailed

from .wire import Stub, serving, unindexed, where


@pytest.fixture
def filled():
    with serving() as served:
        stub = Stub(served.address, "p")
        stub.put(
            stub.entity(
                "K", "é", t=datetime.datetime(2020, 1, 1), b=b"\xff", l=[1, None], u=unindexed("x"), n=float("nan")
            ),
            stub.entity("K", 1, e={"x": (1.0, 2.0)}, k=stub.key("A", 1, "B", "b")),
            stub.entity("K", 1, namespace="ns"),
        )
        stub.put(*(stub.entity("Many", number, v=number) for number in range(1, 451)))
        other = Stub(served.address, "q", "second")
        other.put(other.entity("K", 1, v=2))
        yield served


def test_an_export_brings_everything_back_and_is_the_same_each_time(filled, tmp_path):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert filled.wait_for(filled.server.export_entities(one)) == 454
    with serving() as fresh:
        assert fresh.wait_for(fresh.server.import_entities(one)) == 454
        stub = Stub(fresh.address, "p")
        assert stub.names("Many", where("v", ">", 448)) == [449, 450]
        assert stub.names("K", where("l", "=", None)) == ["é"]
        assert Stub(fresh.address, "q", "second").get("K", 1) == {"v": 2}
        found = stub.lookup(stub.key("K", "é")).found[0].entity
        assert found == Stub(filled.address, "p").lookup(stub.key("K", "é")).found[0].entity
        fresh.wait_for(fresh.server.export_entities(two))
    assert one.read_text() == two.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl", "two.jsonl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2"),
        ('{"properties": {}}', "line 2: The key has no project"),
        ('{"key": {"partitionId": {"projectId": "p"}, "path": [{"kind": "K"}]}}', "line 2: .*incomplete"),
    ],
)
def test_a_line_that_is_not_an_entity_is_named(filled, tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(ImportFailed, match=message):
        filled.wait_for(filled.server.import_entities(path))
