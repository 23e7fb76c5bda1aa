"""The composite indexes that production needs, and explanations of queries."""

import pytest
import yaml
from google.protobuf import json_format

from gae_local_cloud.datastore import IndexFileError
from gae_local_cloud.datastore.index_yaml import IndexFile

from .wire import Query, Stub, all_of, any_of, count, refused, rows, serving, sum_of, where


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.yaml"


def _declared(path):
    return yaml.safe_load(path.read_text())["indexes"] if path.exists() else []


def test_queries_served_by_built_in_indexes_add_no_index(path):
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
        stub.names("K", where("__key__", "=", stub.key("K", 1)))
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
        stub.names("K", where("a", ">", 1), order=["__key__"])
        stub.names("K", any_of(where("x", "=", 1), where("y", "=", 1)), order=["a"])
        stub.aggregate("K", count(), where=all_of(where("c", "=", 1), where("d", ">", 1)))
    assert "# ours" in path.read_text()
    assert _declared(path) == [
        {"kind": "K", "properties": [{"name": "a"}, {"name": "z"}]},
        {"kind": "K", "properties": [{"name": "__key__"}, {"name": "a"}]},
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


def test_with_required_indexes_a_query_fails_as_in_production_and_names_the_index(path, caplog):
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


CHARACTERS = [("Arya", ["Tully"]), ("Bran", ["Stark"]), ("Catelyn", ["Tully", "Stark"])]
ARYA, BRAN, CATELYN_S, CATELYN_T = ("Arya", "Tully"), ("Bran", "Stark"), ("Catelyn", "Stark"), ("Catelyn", "Tully")


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("[{name: name}, {name: family}]", [ARYA, BRAN, CATELYN_S, CATELYN_T]),
        ("[{name: family}, {name: name}]", [BRAN, CATELYN_S, ARYA, CATELYN_T]),
        ("[{name: name, direction: desc}, {name: family}]", [CATELYN_S, CATELYN_T, BRAN, ARYA]),
        ("[{name: family, direction: desc}, {name: name}]", [ARYA, CATELYN_T, BRAN, CATELYN_S]),
    ],
)
def test_an_unordered_projection_comes_in_the_order_of_its_index(path, declared, expected, required):
    """nodejs-datastore's system test "should select projections" relies on it."""
    text = f"indexes:\n- kind: Character\n  ancestor: yes\n  properties: {declared}\n"
    path.write_text(text)
    with serving(index_yaml=path, require_indexes=required) as server:
        stub = Stub(server.address, "p")
        stub.put(*(stub.entity("B", 1, "Character", name, name=name, family=family) for name, family in CHARACTERS))
        under = where("__key__", "ancestor", stub.key("B", 1))
        found = stub.results("Character", under, select=["name", "family"])
        assert [(row["name"], row["family"]) for row in rows(found)] == expected
        for place, result in enumerate(found):
            rest = stub.results("Character", under, select=["family", "name"], start_cursor=result.cursor)
            assert [(row["name"], row["family"]) for row in rows(rest)] == expected[place + 1 :]
        assert stub.aggregate("Character", sum_of("name", "n"), sum_of("family", "f"), where=under) == {"n": 0, "f": 0}
    assert path.read_text() == text, "the declared index serves both queries"


def test_an_unordered_projection_comes_in_the_order_of_the_index_that_is_written(path):
    with serving(index_yaml=path) as server:
        stub = Stub(server.address, "p")
        stub.put(stub.entity("K", 1, z=1, a=2), stub.entity("K", 2, z=2, a=1))
        for _ in range(2):
            assert rows(stub.results("K", select=["z", "a"])) == [{"z": 2, "a": 1}, {"z": 1, "a": 2}]
    assert _declared(path) == [{"kind": "K", "properties": [{"name": "a"}, {"name": "z"}]}]


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


def _billing(stub, method, **request):
    """Return the numbers of results and read operations, and debug statistics of an analyzed query."""
    response = stub.call(method, **request, explain_options={"analyze": True})
    statistics = response.explain_metrics.execution_stats
    debug = json_format.MessageToDict(statistics.debug_stats)
    return (
        statistics.results_returned,
        statistics.read_operations,
        debug["documents_scanned"],
        debug["index_entries_scanned"],
        debug["billing_details"],
    )


def _bill(documents=0, entries=0, small=0, minimum=0):
    return {
        "documents_billable": str(documents),
        "index_entries_billable": str(entries),
        "small_ops": str(small),
        "min_query_cost": str(minimum),
    }


def test_an_explanation_has_billing_details(stub):
    """The numbers of entities and of aggregations are those that nodejs-datastore's system tests expect of the service.

    Those of keys and projections follow the documentation, "Pricing".
    """
    stub.put(*(stub.entity("P", 1, "K", number, a=number) for number in range(1, 9)))
    query = {"kind": [{"name": "K"}]}
    assert _billing(stub, "RunQuery", query=query) == (8, 8, "8", "8", _bill(documents=8))
    total = {"nested_query": query, "aggregations": [sum_of("a")]}
    assert _billing(stub, "RunAggregationQuery", aggregation_query=total) == (1, 1, "0", "8", _bill(entries=8))
    for name in ("__key__", "a"):
        projection = {**query, "projection": [{"property": {"name": name}}]}
        assert _billing(stub, "RunQuery", query=projection) == (8, 1, "0", "8", _bill(small=8))
    assert _billing(stub, "RunQuery", query={"kind": [{"name": "None"}]}) == (0, 1, "0", "0", _bill(minimum=1))


@pytest.mark.parametrize("under", [True, False])
def test_an_explanation_names_the_scope_of_the_index(stub, under):
    """nodejs-datastore's and python-datastore's system tests expect these scopes of the service."""
    query = {"kind": [{"name": "K"}]}
    if under:
        query["filter"] = where("__key__", "ancestor", stub.key("P", 1))
    (used,) = stub.call("RunQuery", query=query, explain_options={}).explain_metrics.plan_summary.indexes_used
    assert dict(used) == {"query_scope": "Collection group", "properties": "(__name__ ASC)"}
    total = {"nested_query": query, "aggregations": [sum_of("a")]}
    response = stub.call("RunAggregationQuery", aggregation_query=total, explain_options={})
    (used,) = response.explain_metrics.plan_summary.indexes_used
    scope = "Includes ancestors" if under else "Collection group"
    assert dict(used) == {"query_scope": scope, "properties": "(a ASC, __name__ ASC)"}


@pytest.mark.parametrize(
    ("filters", "used"),
    [
        (where("a", "=", 1), ["(a ASC, __name__ ASC)"]),
        (all_of(where("b", "=", 1), where("a", "=", 1)), ["(a ASC, __name__ ASC)", "(b ASC, __name__ ASC)"]),
        (where("a", "in", [1, 2]), ["(a ASC, __name__ ASC)"]),
        (any_of(where("a", "<", 1), where("a", ">", 2)), ["(a ASC, __name__ ASC)"]),
    ],
    ids=["one value", "two values", "IN", "OR"],
)
def test_an_explanation_names_each_index_once(stub, filters, used):
    response = stub.call("RunQuery", query=Query(kind=[{"name": "K"}], filter=filters), explain_options={})
    indexes = response.explain_metrics.plan_summary.indexes_used
    assert [dict(index)["properties"] for index in indexes] == used


def test_explanations_through_the_client(client):
    from google.cloud.datastore.query_profile import ExplainOptions

    query = client.query(kind="K", explain_options=ExplainOptions(analyze=True))
    iterator = query.fetch()
    assert list(iterator) == []
    assert iterator.explain_metrics.execution_stats.results_returned == 0
    assert iterator.explain_metrics.plan_summary.indexes_used[0]["properties"] == "(__name__ ASC)"
