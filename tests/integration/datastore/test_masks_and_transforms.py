"""Property masks and property transforms."""

import math

import pytest

from .wire import Mutation, plain, properties, refused, unindexed, value, vector


def _transform(stub, before, path, **transform):
    """Put an entity, transform a property of it; return the transform's result and the entity's properties."""
    stub.put(stub.entity("T", 1, **before))
    entity = stub.entity("T", 1, **before)
    response = stub.commit(Mutation(upsert=entity, property_transforms=[{"property": path, **transform}]))
    (result,) = response.mutation_results[0].transform_results
    return plain(result), stub.get("T", 1)


@pytest.mark.parametrize(
    ("before", "kind", "operand", "after"),
    [
        (1, "increment", 2, 3),
        (1, "increment", 2.5, 3.5),
        ("text", "increment", 2, 2),
        (2**63 - 1, "increment", 1, 2**63 - 1),
        (-(2**63), "increment", -1, -(2**63)),
        (1, "maximum", 3.0, 3.0),
        (3, "maximum", 3.0, 3),
        (5, "maximum", 3, 5),
        (1, "minimum", -3, -3),
        (-3, "minimum", 1.5, -3),
        ("text", "minimum", 7, 7),
    ],
)
def test_numbers(stub, before, kind, operand, after):
    result, stored = _transform(stub, {"a": before}, "a", **{kind: value(operand)})
    assert result == stored["a"] == after
    assert type(result) is type(after)


def test_nan_is_both_the_maximum_and_the_minimum(stub):
    for kind in ("maximum", "minimum"):
        result, _ = _transform(stub, {"a": 1}, "a", **{kind: value(math.nan)})
        assert math.isnan(result)


@pytest.mark.parametrize(
    ("before", "kind", "elements", "after"),
    [
        ([1, 2], "append_missing_elements", [2.0, 3, 3, None], [1, 2, 3, None]),
        (1, "append_missing_elements", [2], [2]),
        ([1, 2, 1.0, None], "remove_all_from_array", [1, None], [2]),
        (1, "remove_all_from_array", [1], []),
    ],
)
def test_arrays(stub, before, kind, elements, after):
    result, stored = _transform(stub, {"a": before}, "a", **{kind: value(elements).array_value})
    assert result is None
    assert stored["a"] == after


def test_paths_lead_into_entities_and_create_them(stub):
    assert _transform(stub, {"a": {"b": 1}}, "a.b", increment=value(1)) == (2, {"a": {"b": 2}})
    assert _transform(stub, {}, "x.y", increment=value(1)) == (1, {"x": {"y": 1}})
    assert _transform(stub, {"a.b": 1}, "a\\.b", increment=value(1)) == (2, {"a.b": 2})


def test_the_request_time_is_the_same_throughout_a_commit(stub):
    transforms = [{"property": "t", "set_to_server_value": 1}]
    stub.commit(*(Mutation(insert=stub.entity("T", number), property_transforms=transforms) for number in (1, 2)))
    one, two = stub.get("T", 1)["t"], stub.get("T", 2)["t"]
    assert one == two
    assert one.microsecond % 1000 == 0


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"property": "a", "increment": value("x")}, "int64 or double"),
        ({"property": "", "increment": value(1)}, "empty property path"),
        ({"property": "__key__", "increment": value(1)}, "__key__"),
        ({"property": "a"}, "no type"),
        ({"property": "a", "set_to_server_value": 0}, "unknown server value"),
    ],
)
def test_transforms_that_break_a_rule_are_refused(stub, transform, message):
    with refused("INVALID_ARGUMENT", message):
        stub.commit(Mutation(upsert=stub.entity("T", 1), property_transforms=[transform]))


@pytest.mark.parametrize(
    ("mask", "given", "after"),
    [
        (["a"], {"a": 5, "b": 6}, {"a": 5, "b": 2, "c": {"x": 1, "y": 2}}),
        (["a", "b"], {"a": 5}, {"a": 5, "c": {"x": 1, "y": 2}}),
        (["c.x"], {"c": {"x": 9, "y": 9}}, {"a": 1, "b": 2, "c": {"x": 9, "y": 2}}),
        (["c.x"], {}, {"a": 1, "b": 2, "c": {"y": 2}}),
        (["__key__"], {"a": 9}, {"a": 1, "b": 2, "c": {"x": 1, "y": 2}}),
    ],
)
def test_a_masked_write_changes_only_the_masked_properties(stub, mask, given, after):
    stub.put(stub.entity("M", 1, a=1, b=2, c={"x": 1, "y": 2}))
    stub.commit(Mutation(update=stub.entity("M", 1, **given), property_mask={"paths": mask}))
    assert stub.get("M", 1) == after


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (["a"], {"a": 1}),
        (["c.x"], {"c": {"x": 1}}),
        (["a.x", "missing", "__key__"], {}),
        ([], {}),
    ],
)
def test_a_masked_read_returns_only_the_masked_properties(stub, mask, expected):
    stub.put(stub.entity("M", 1, a=1, b=2, c={"x": 1, "y": 2}))
    (found,) = stub.call("Lookup", keys=[stub.key("M", 1)], property_mask={"paths": mask}).found
    assert properties(found.entity) == expected
    assert found.entity.key == stub.key("M", 1)
    response = stub.call("RunQuery", query={"kind": [{"name": "M"}]}, property_mask={"paths": mask})
    (found,) = response.batch.entity_results
    assert properties(found.entity) == expected


def test_masks_that_break_a_rule_are_refused(stub):
    with refused("INVALID_ARGUMENT", "empty property path"):
        stub.call("Lookup", keys=[stub.key("M", 1)], property_mask={"paths": [""]})
    with refused("INVALID_ARGUMENT", "not allowed on projection"):
        query = {"kind": [{"name": "M"}], "projection": [{"property": {"name": "a"}}]}
        stub.call("RunQuery", query=query, property_mask={"paths": ["a"]})


def test_a_mutation_for_another_version_conflicts(stub):
    version = stub.put(stub.entity("V", 1, v=1)).mutation_results[0].version
    (result,) = stub.commit(Mutation(upsert=stub.entity("V", 1, v=2), base_version=version)).mutation_results
    assert not result.conflict_detected
    (result,) = stub.commit(Mutation(upsert=stub.entity("V", 1, v=3), base_version=version)).mutation_results
    assert result.conflict_detected
    assert stub.get("V", 1) == {"v": 2}
    with refused("FAILED_PRECONDITION", "V:1"):
        stub.commit(Mutation(upsert=stub.entity("V", 1), base_version=version, conflict_resolution_strategy=3))
    stub.commit(Mutation(insert=stub.entity("V", 2, v=0), base_version=0))  # 0: the entity must be absent
    assert stub.get("V", 2) == {"v": 0}


@pytest.mark.parametrize(
    ("before", "kind", "operand", "after"),
    [
        (unindexed(1), "increment", value(2), value(3)),
        (1, "increment", unindexed(2), unindexed(3)),
        (unindexed(5), "maximum", value(3), unindexed(5)),
        (unindexed(5), "maximum", value(7), value(7)),
        (vector(1.0), "increment", value(2), value(2)),
        (vector(1.0), "append_missing_elements", value([2.0]).array_value, value([2.0])),
    ],
)
def test_a_transformed_value_is_indexed_like_its_operand(stub, before, kind, operand, after):
    _transform(stub, {"a": before}, "a", **{kind: operand})
    (found,) = stub.lookup(stub.key("T", 1)).found
    assert found.entity.properties["a"] == after


def test_a_property_and_a_part_of_it_are_not_transformed_together(stub):
    transforms = [{"property": path, "increment": value(1)} for path in ("a.b", "a")]
    with refused("INVALID_ARGUMENT", "property a and its nested property a.b"):
        stub.commit(Mutation(upsert=stub.entity("T", 1), property_transforms=transforms))


@pytest.mark.parametrize("kind", ["maximum", "minimum"])
def test_a_stored_nan_stays(stub, kind):
    result, after = _transform(stub, {"a": math.nan}, "a", **{kind: value(5)})
    assert math.isnan(result)
    assert math.isnan(after["a"])
