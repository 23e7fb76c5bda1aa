"""The composite indexes that production will ask for, and query explanations."""

import pytest
import yaml

from gae_local_cloud.datastore import IndexFileError
from gae_local_cloud.datastore.index_yaml import IndexFile

from .wire import Stub, all_of, any_of, count, refused, serving, where


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.yaml"


def _declared(path):
    return yaml.safe_load(path.read_text())["indexes"] if path.exists() else []


def test_queries_that_built_in_indexes_serve_need_none(path):
    with serving(index_yaml=path) as server:
        stub = Stub(server.address, "p")
        under = where("__key__", "ancestor", stub.key("P", 1))
        stub.names("K")
        stub.names("K", order=["-a"])
        stub.names("K", where("a", ">", 1), order=["a"])
        stub.names("K", all_of(where("a", "=", 1), where("b", "=", 1)))
        stub.names("K", where("a", "in", [1, 2]))
        stub.names("K", all_of(under, where("a", "=", 1)))
        stub.names("K", select=["a"])
        stub.names(None, under)
        stub.names("__kind__")
    assert _declared(path) == []


def test_the_indexes_that_other_queries_need_are_written_down(path):
    path.write_text("indexes:\n# ours\n- kind: K\n  properties:\n  - name: a\n  - name: z\n")
    with serving(index_yaml=path) as server:
        stub = Stub(server.address, "p")
        under = where("__key__", "ancestor", stub.key("P", 1))
        stub.names("K", where("a", "=", 1), order=["z"])  # declared
        stub.names("K", where("a", "=", 1), order=["-b"])
        stub.names("K", where("a", "=", 2), order=["-b"])  # the same
        stub.names("K", under, order=["a"])
        stub.names("K", order=["-__key__"])
        stub.names("K", any_of(where("x", "=", 1), where("y", "=", 1)), order=["a"])
        stub.aggregate("K", count(), where=all_of(where("c", "=", 1), where("d", ">", 1)))
    assert "# ours" in path.read_text()
    assert _declared(path) == [
        {"kind": "K", "properties": [{"name": "a"}, {"name": "z"}]},
        {"kind": "K", "properties": [{"name": "__key__", "direction": "desc"}]},
        {"kind": "K", "properties": [{"name": "a"}, {"name": "b", "direction": "desc"}]},
        {"kind": "K", "properties": [{"name": "c"}, {"name": "d"}]},
        {"kind": "K", "properties": [{"name": "x"}, {"name": "a"}]},
        {"kind": "K", "properties": [{"name": "y"}, {"name": "a"}]},
        {"kind": "K", "ancestor": True, "properties": [{"name": "a"}]},
    ]
    before = path.read_text()
    with serving(index_yaml=path) as server:
        Stub(server.address, "p").names("K", where("a", "=", 1), order=["-b"])
    assert path.read_text() == before


def test_with_required_indexes_a_query_fails_as_in_production_and_says_what_to_add(path, caplog):
    with serving(index_yaml=path, require_indexes=True) as server:
        stub = Stub(server.address, "p")
        with refused(
            "FAILED_PRECONDITION", "- kind: K\n  properties:\n  - name: a\n  - name: b\n    direction: desc\n"
        ):
            stub.names("K", where("a", "=", 1), order=["-b"])
    assert not path.exists()
    assert "recommended index is:\n- kind: K" in caplog.text
    path.write_text("indexes:\n- kind: K\n  properties:\n  - name: a\n  - name: b\n    direction: desc\n")
    with serving(index_yaml=path, require_indexes=True) as server:
        stub = Stub(server.address, "p")
        stub.put(stub.entity("K", 1, a=1, b=2))
        assert stub.names("K", where("a", "=", 1), order=["-b"]) == [1]


def test_declared_indexes_serve_a_query_together(path):
    path.write_text(
        "indexes:\n- kind: K\n  properties: [{name: a}, {name: z}]\n- kind: K\n  properties: [{name: b}, {name: z}]\n"
    )
    with serving(index_yaml=path, require_indexes=True) as server:
        stub = Stub(server.address, "p")
        stub.names("K", all_of(where("a", "=", 1), where("b", "=", 1)), order=["z"])
        with refused("FAILED_PRECONDITION"):
            stub.names("K", all_of(where("a", "=", 1), where("c", "=", 1)), order=["z"])


def test_a_file_that_is_not_an_index_yaml_is_refused(path):
    for text in ("indexes: [{kind: K}]", "[1, 2]", "indexes: ["):
        path.write_text(text)
        with pytest.raises(IndexFileError, match=r"index\.yaml"):
            IndexFile(path)


def test_explanations(stub):
    stub.put(*(stub.entity("K", number, a=1, b=number) for number in (1, 2, 3)))
    query = {"kind": [{"name": "K"}], "filter": where("a", "=", 1), "order": [{"property": {"name": "b"}}]}
    response = stub.call("RunQuery", query=query, explain_options={"analyze": False})
    assert not response.HasField("batch")
    (used,) = response.explain_metrics.plan_summary.indexes_used
    assert used["properties"] == "(a ASC, b ASC, __name__ ASC)"
    assert not response.explain_metrics.HasField("execution_stats")

    response = stub.call("RunQuery", query=query, explain_options={"analyze": True})
    assert len(response.batch.entity_results) == 3
    statistics = response.explain_metrics.execution_stats
    assert statistics.results_returned == 3
    assert statistics.execution_duration.ToMicroseconds() > 0
    assert statistics.debug_stats["index_entries_scanned"] == "3"


def test_explanations_through_the_client(client):
    from google.cloud.datastore.query_profile import ExplainOptions

    query = client.query(kind="K", explain_options=ExplainOptions(analyze=True))
    iterator = query.fetch()
    assert list(iterator) == []
    assert iterator.explain_metrics.execution_stats.results_returned == 0
    assert iterator.explain_metrics.plan_summary.indexes_used[0]["properties"] == "(__name__ ASC)"
