"""Lookups and commits, over a raw stub."""

from contextlib import nullcontext
from typing import Any

import pytest

from .wire import CommitRequest, Mutation, Stub, Value, plain, refused, serving, unindexed, value, vector


def test_an_entity_comes_back_as_it_was_put(stub):
    entity = stub.entity("K", "n", number=5, text="x", tags=["a", 1], inner={"x": None}, big=unindexed("y" * 2000))
    stub.put(entity)
    (found,) = stub.lookup(stub.key("K", "n")).found
    assert found.entity == entity
    assert found.version == found.update_time.ToMicroseconds() == found.create_time.ToMicroseconds()


def test_an_absent_entity_is_missing(stub):
    response = stub.lookup(stub.key("K", 1), stub.key("K", 2))
    assert [plain_key.entity.key.path[0].id for plain_key in response.missing] == [1, 2]
    assert not response.found


def test_versions_grow_with_each_change_and_the_create_time_stays(stub):
    first = stub.put(stub.entity("K", 1, v=1)).mutation_results[0]
    second = stub.put(stub.entity("K", 1, v=2)).mutation_results[0]
    assert second.version > first.version
    (found,) = stub.lookup(stub.key("K", 1)).found
    assert found.version == second.version
    assert found.create_time == first.create_time


def test_an_incomplete_key_is_completed_and_reported(stub):
    results = stub.put(stub.entity("K", v=1), stub.entity("P", 1, "K", v=2)).mutation_results
    one, two = (result.key for result in results)
    assert one.path[0].id > 2**52
    assert [element.kind for element in two.path] == ["P", "K"]
    assert stub.get("K", one.path[0].id) == {"v": 1}


def test_insert_refuses_a_present_entity_and_update_an_absent_one(stub):
    stub.put(stub.entity("K", 1, v=1))
    with refused("ALREADY_EXISTS", "K:1"):
        stub.commit(Mutation(insert=stub.entity("K", 1, v=2)))
    with refused("NOT_FOUND", "K:2"):
        stub.commit(Mutation(update=stub.entity("K", 2, v=2)))
    stub.commit(Mutation(insert=stub.entity("K", 2, v=2)), Mutation(update=stub.entity("K", 1, v=3)))
    assert (stub.get("K", 1), stub.get("K", 2)) == ({"v": 3}, {"v": 2})


def test_deleting_twice_is_no_error(stub):
    stub.put(stub.entity("K", 1, v=1))
    stub.delete(stub.key("K", 1))
    stub.delete(stub.key("K", 1))
    assert stub.get("K", 1) is None
    assert stub.names("K") == []


def test_one_bad_mutation_leaves_nothing_of_its_commit(stub):
    good = [Mutation(upsert=stub.entity("Fresh", name, v=name)) for name in range(1, 5)]
    with refused("INVALID_ARGUMENT"):
        stub.commit(*good, Mutation(upsert=stub.entity("Fresh", 9, v="x" * 1501)))
    with refused("NOT_FOUND"):
        stub.commit(*good, Mutation(update=stub.entity("Fresh", 9, v=1)))
    assert stub.names("Fresh") == []
    stub.commit(*good)  # the failed commits left no state in memory
    assert stub.names("Fresh") == [1, 2, 3, 4]


@pytest.mark.parametrize(("entities", "fits"), [(11, True), (12, False)])
def test_a_commit_of_more_than_ten_mebibytes_is_refused_whole(stub, entities: int, fits: bool):
    mutations = [
        Mutation(upsert=stub.entity("Large", name, v=unindexed(b"x" * 900_000))) for name in range(1, entities + 1)
    ]
    if fits:
        stub.commit(*mutations)
    else:
        with refused("INVALID_ARGUMENT", "Request payload size exceeds the limit: 10485760 bytes."):
            stub.commit(*mutations)
    assert len(stub.names("Large")) == (entities if fits else 0)


def test_mutations_of_one_entity_apply_in_order_in_a_transaction(stub):
    stub.put(stub.entity("K", 1, v=1))
    stub.commit(
        Mutation(delete=stub.key("K", 1)),
        Mutation(insert=stub.entity("K", 1, v=2)),
        Mutation(upsert=stub.entity("K", 1, v=3)),
        transaction=stub.begin(),
    )
    assert stub.get("K", 1) == {"v": 3}


@pytest.mark.parametrize(
    ("first", "second"), [("insert", "insert"), ("update", "insert"), ("upsert", "insert"), ("delete", "update")]
)
def test_contradictory_sequences_of_mutations_are_refused(stub, first, second):
    if first != "insert":
        stub.put(stub.entity("K", 1, v=1))
    mutations = [
        Mutation(delete=stub.key("K", 1))
        if operation == "delete"
        else Mutation(**{operation: stub.entity("K", 1, v=2)})
        for operation in (first, second)
    ]
    with refused("INVALID_ARGUMENT", f"Cannot {first} then {second} an entity in the same request."):
        stub.commit(*mutations, transaction=stub.begin())


def test_outside_a_transaction_an_entity_is_mutated_once(stub):
    with refused("INVALID_ARGUMENT", "multiple mutations"):
        stub.put(stub.entity("K", 1, v=1), stub.entity("K", 1, v=2))


def nested(depth: int) -> Any:
    """Return an entity value with as many levels of entities, the innermost of which has a property."""
    inner: Any = {"v": 1}
    for _ in range(depth - 1):
        inner = {"e": inner}
    return inner


_BAD = {
    "Entity is missing key.": lambda stub: Mutation(upsert={"properties": {"v": value(1)}}),
    "Key path is empty.": lambda stub: Mutation(delete=stub.key()),
    "must not be incomplete: [C: ]": lambda stub: Mutation(delete=stub.key("C")),
    "must not be incomplete: [A: , B: 1]": lambda stub: Mutation(upsert=stub.entity("A", None, "B", 1)),
    "Must not be zero.": lambda stub: Mutation(upsert=stub.entity("C", 0)),
    "The kind is the empty string.": lambda stub: Mutation(upsert=stub.entity("", 1)),
    "The key path element name is the empty string.": lambda stub: Mutation(upsert=stub.entity("C", "")),
    "longer than 1500 bytes": lambda stub: Mutation(upsert=stub.entity("C", "é" * 751)),
    'The kind "__C__" is reserved.': lambda stub: Mutation(upsert=stub.entity("__C__", 1)),
    'name "__a__" is reserved.': lambda stub: Mutation(upsert=stub.entity("C", "__a__")),
    'The property.name "__p__" is reserved.': lambda stub: Mutation(upsert=stub.entity("C", 1, __p__=1)),
    'namespace id "__n__" is reserved.': lambda stub: Mutation(upsert=stub.entity("C", 1, namespace="__n__")),
    'Illegal string "a/b" in namespace id.': lambda stub: Mutation(upsert=stub.entity("C", 1, namespace="a/b")),
    "Cannot exceed 100 elements": lambda stub: Mutation(upsert=stub.entity(*["A", 1] * 101)),
    'property "v" is longer than 1500 bytes': lambda stub: Mutation(upsert=stub.entity("C", 1, v=["x" * 1501])),
    'property "z" is longer than 1500 bytes': lambda stub: Mutation(upsert=stub.entity("C", 1, v={"z": b"x" * 1501})),
    "maximum entity size is 1048576 bytes": lambda stub: Mutation(
        upsert=stub.entity("C", 1, a=unindexed("x" * 600_000), b=unindexed("x" * 600_000))
    ),
    "cannot contain a Value containing another list_value": lambda stub: Mutation(upsert=stub.entity("C", 1, v=[[1]])),
    "does not contain a value": lambda stub: Mutation(upsert=stub.entity("C", 1, v=type(value(1))())),
    "latitude outside permitted range": lambda stub: Mutation(upsert=stub.entity("C", 1, v=(91.0, 0.0))),
    "latitude is not a number": lambda stub: Mutation(upsert=stub.entity("C", 1, v=(float("nan"), 0.0))),
    "Timestamp seconds exceeds limit": lambda stub: Mutation(
        upsert=stub.entity("C", 1, v=type(value(1))(timestamp_value={"seconds": 253402300800}))
    ),
    "mismatched databases within request": lambda stub: Mutation(upsert=Stub(stub.address, "other").entity("C", 1)),
    "Mutation is missing operation.": lambda stub: Mutation(),
    "nested at most 20 levels deep": lambda stub: Mutation(upsert=stub.entity("C", 1, v=nested(21))),
    "Too many indexed properties": lambda stub: Mutation(upsert=stub.entity("C", 1, v=[1] * 20_001)),
    "Exclude from indexes cannot be set on a list": lambda stub: Mutation(upsert=stub.entity("C", 1, v=unindexed([1]))),
    "must be excluded from indexes": lambda stub: Mutation(
        upsert=stub.entity("C", 1, v=vector(1.0, exclude_from_indexes=False))
    ),
    "zero length vector": lambda stub: Mutation(upsert=stub.entity("C", 1, v=vector())),
    "at most 2048 dimensions": lambda stub: Mutation(upsert=stub.entity("C", 1, v=vector(*[1.0] * 2049))),
    "only contain values of type 'double'": lambda stub: Mutation(upsert=stub.entity("C", 1, v=vector(1))),
    "cannot contain NaN": lambda stub: Mutation(upsert=stub.entity("C", 1, v=vector(float("nan")))),
    "longitude outside permitted range": lambda stub: Mutation(upsert=stub.entity("C", 1, v=(0.0, 180.1))),
    "Timestamp nanos exceeds limit": lambda stub: Mutation(
        upsert=stub.entity("C", 1, v=Value(timestamp_value={"nanos": 10**9}))
    ),
    "Delete mutation cannot have PropertyTransforms": lambda stub: Mutation(
        delete=stub.key("C", 1), property_transforms=[{"property": "v", "increment": value(1)}]
    ),
    "if no detection strategy was set": lambda stub: Mutation(
        upsert=stub.entity("C", 1), conflict_resolution_strategy=Mutation.FAIL
    ),
    "Unknown conflict resolution strategy": lambda stub: Mutation(
        upsert=stub.entity("C", 1), base_version=1, conflict_resolution_strategy=9
    ),
    "not allowed for incomplete keys": lambda stub: Mutation(upsert=stub.entity("C"), base_version=1),
    "Invalid base_version: -1": lambda stub: Mutation(upsert=stub.entity("C", 1), base_version=-1),
    "insert an entity with a base version": lambda stub: Mutation(insert=stub.entity("C", 1), base_version=1),
}


@pytest.mark.parametrize("message", _BAD)
def test_a_mutation_that_breaks_a_rule_is_refused_with_the_reason(stub, message):
    with refused("INVALID_ARGUMENT", message):
        stub.commit(_BAD[message](stub))


@pytest.mark.parametrize(
    "thing",
    [
        *(nested(20), [1] * 20_000, vector(*[1.0] * 2048), (90.0, 180.0), (-90.0, -180.0)),
        *("x" * 1500, unindexed("x" * 1501), b"x" * 1500, unindexed(b"x" * 1501)),
        Value(timestamp_value={"seconds": 253402300799, "nanos": 999_999_000}),
    ],
    ids=lambda thing: "",
)
def test_a_value_at_its_limit_comes_back(stub, thing):
    entity = stub.entity("C", 1, v=thing)
    stub.put(entity)
    assert stub.lookup(stub.key("C", 1)).found[0].entity == entity


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_an_entity_has_at_most_a_mebibyte_less_four_bytes(stub, more: int, fits: bool):
    entity = stub.entity("C", 1, v=unindexed(b"x" * 10**6))
    entity.properties["v"].blob_value += b"x" * (2**20 - 4 - entity.ByteSize() + more)
    assert entity.ByteSize() == 2**20 - 4 + more
    with nullcontext() if fits else refused("INVALID_ARGUMENT", "maximum entity size"):
        stub.put(entity)


@pytest.mark.parametrize("elements", [1, 100])
def test_a_key_has_up_to_100_elements_with_names_of_up_to_1500_bytes(stub, elements: int):
    path = [*["A", 1] * (elements - 1), "K" * 1500, "é" * 750]
    stub.put(stub.entity(*path, v=1))
    assert stub.get(*path) == {"v": 1}


@pytest.mark.parametrize(("keys", "fits"), [(1000, True), (1001, False)])
def test_a_lookup_has_at_most_1000_keys(stub, keys: int, fits: bool):
    with nullcontext() if fits else refused("INVALID_ARGUMENT", "more than 1000 keys"):
        assert len(stub.lookup(*(stub.key("None", number) for number in range(1, keys + 1))).missing) == 1000


def test_a_lookup_leaves_keys_for_another_once_its_answer_is_large(stub):
    for number in range(1, 6):
        stub.put(stub.entity("Large", number, v=unindexed(b"x" * 10**6)))
    keys = [stub.key("Large", number) for number in range(1, 6)]
    answer = stub.lookup(*keys)
    assert (len(answer.found), [*answer.deferred]) == (4, keys[4:])  # 3 MiB are reached with the fourth
    assert len(stub.lookup(*answer.deferred).found) == 1


@pytest.mark.parametrize("project", ["", "Upper", "a b", "a/b"])
def test_what_is_no_project_id_is_refused(stub, project: str):
    with refused("INVALID_ARGUMENT", "project"):
        Stub(stub.address, project).get("K", 1)


def test_a_commit_outside_transactions_has_none(stub):
    with refused("INVALID_ARGUMENT", "non-transactional commit cannot have a transaction"):
        stub.call("Commit", mode=CommitRequest.NON_TRANSACTIONAL, transaction=stub.begin(), mutations=[])


def test_a_read_time_in_the_future_is_refused(stub):
    with refused("INVALID_ARGUMENT", "cannot be in the future"):
        stub.lookup(stub.key("K", 1), read_time={"seconds": 4 * 10**9})


@pytest.mark.parametrize("change", ["upsert", "update", "delete"])
def test_an_embedded_entity_with_an_empty_key_is_refused_and_one_without_is_not(stub, change: str):
    inner = stub.entity(v=1)
    with refused("INVALID_ARGUMENT", "Key path is empty."):
        stub.put(stub.entity("K", 1, v=inner))
    inner.ClearField("key")
    stub.put(stub.entity("K", 1, v=inner))
    stub.commit(Mutation(**{change: stub.key("K", 1) if change == "delete" else stub.entity("K", 1, v=inner)}))
    assert (stub.get("K", 1) is None) == (change == "delete")


def test_a_commit_has_at_most_500_mutations(stub):
    entities = [stub.entity("Many", number, v=1) for number in range(1, 502)]
    with refused("INVALID_ARGUMENT", "500"):
        stub.put(*entities)
    stub.put(*entities[:500])
    assert len(stub.names("Many")) == 500


def test_timestamps_are_stored_to_the_microsecond(stub):
    entity = stub.entity("K", 1)
    entity.properties["t"].timestamp_value.nanos = 123_456_789
    stub.put(entity)
    (found,) = stub.lookup(stub.key("K", 1)).found
    assert found.entity.properties["t"].timestamp_value.nanos == 123_456_000


def test_projects_databases_and_namespaces_are_separate(stub):
    stubs = [stub, Stub(stub.address, stub.project + "-b"), Stub(stub.address, stub.project, "second")]
    for number, one in enumerate(stubs):
        one.put(one.entity("K", 1, v=number), one.entity("K", 1, namespace="ns", v=number + 10))
    for number, one in enumerate(stubs):
        assert one.get("K", 1) == {"v": number}
        (result,) = one.results("K", namespace="ns")
        assert plain(result.entity.properties["v"]) == number + 10


def test_a_commit_changes_present_and_adds_absent_entities_of_several_namespaces(stub):
    def entities(value: int):
        return [stub.entity("K", number, namespace=name, v=value) for name in ("", "a", "b") for number in (1, 2)]

    stub.put(*entities(1)[::2])
    stub.put(*entities(2))
    found = stub.lookup(*(entity.key for entity in entities(2))).found
    assert [plain(result.entity.properties["v"]) for result in found] == [2] * 6
    assert [result.create_time != result.update_time for result in found] == [True, False] * 3


def test_allocated_ids_are_new_and_reserved_ids_are_not_allocated(stub):
    keys = stub.call("AllocateIds", keys=[stub.key("K")] * 20).keys
    ids = [key.path[0].id for key in keys]
    assert len(set(ids)) == 20
    stub.call("ReserveIds", keys=[stub.key("K", ids[0])])
    with refused("INVALID_ARGUMENT", "must not be complete"):
        stub.call("AllocateIds", keys=[stub.key("K", 1)])
    with refused("INVALID_ARGUMENT", "must not be incomplete"):
        stub.call("ReserveIds", keys=[stub.key("K")])


@pytest.mark.parametrize("database", ["", "second"], ids=["another project", "another database"])
@pytest.mark.parametrize("method", ["Lookup", "AllocateIds", "ReserveIds"])
def test_keys_of_other_projects_and_databases_are_refused(stub, method: str, database: str):
    other = Stub(stub.address, stub.project if database else "other", database)
    with refused("INVALID_ARGUMENT", "mismatched databases within request"):
        stub.call(method, keys=[other.key("K", *[1] * (method != "AllocateIds"))])


def test_ids_in_use_and_reserved_ids_are_skipped():
    def allocate(stub):
        return [key.path[0].id for key in stub.call("AllocateIds", keys=[stub.key("K")] * 4).keys]

    with serving() as server:
        first, second, *rest = allocate(Stub(server.address, "p"))
    with serving() as server:  # a new store allocates the same numbers, except those taken
        stub = Stub(server.address, "p")
        stub.call("ReserveIds", keys=[stub.key("K", first)])
        stub.put(stub.entity("K", second))
        assert allocate(stub)[:2] == rest


def test_ids_of_a_failed_commit_are_allocated_once(tmp_path):
    with serving(tmp_path / "store.db") as server:
        stub = Stub(server.address, "p")
        with refused("NOT_FOUND"):
            stub.commit(Mutation(insert=stub.entity("K")), Mutation(update=stub.entity("K", 404)))
        allocated = stub.put(stub.entity("K", v=1)).mutation_results[0].key
    with serving(tmp_path / "store.db") as server:
        stub = Stub(server.address, "p")
        keys = stub.call("AllocateIds", keys=[stub.key("Other")] * 5).keys
        assert allocated.path[0].id not in {key.path[0].id for key in keys}


def test_a_transactional_commit_needs_a_transaction(stub):
    mutation = Mutation(upsert=stub.entity("K", 1))
    with refused("INVALID_ARGUMENT", "transaction"):
        stub.call("Commit", mode=CommitRequest.TRANSACTIONAL, mutations=[mutation])
    stub.call(
        "Commit", mode=CommitRequest.TRANSACTIONAL, mutations=[mutation], single_use_transaction={"read_write": {}}
    )
    assert stub.get("K", 1) == {}


def test_malformed_bytes_are_refused_and_the_server_goes_on(stub):
    call = stub.channel.unary_unary("/google.datastore.v1.Datastore/Commit")
    with refused("INVALID_ARGUMENT", "not a CommitRequest"):
        call(b"\xff\xff\xff", timeout=10)
    with refused("INVALID_ARGUMENT", "project_id"):
        call(b"", timeout=10)
    stub.put(stub.entity("K", 1))


def test_writing_an_equal_entity_keeps_the_version(optimistic_stub):
    first = optimistic_stub.put(optimistic_stub.entity("K", 1, v=1, w="x")).mutation_results[0]
    again = optimistic_stub.put(optimistic_stub.entity("K", 1, w="x", v=1)).mutation_results[0]
    assert (again.version, again.update_time) == (first.version, first.update_time)
    transaction = optimistic_stub.begin()
    optimistic_stub.get("K", 1, transaction=transaction)
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=1, w="x"))
    optimistic_stub.commit(Mutation(upsert=optimistic_stub.entity("K", 1, v=2)), transaction=transaction)
    assert optimistic_stub.put(optimistic_stub.entity("K", 1, v=2)).mutation_results[0].version > first.version
