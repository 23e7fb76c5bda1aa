"""The Datastore kinds of the library."""

import pytest
from google.cloud import ndb
from google.cloud.ndb import model

from gae_deferred import entities

KINDS = entities.Uncached.__subclasses__()


def test_only_what_people_and_queries_look_for_costs_an_index():
    indexed = {kind._get_kind(): {p._name for p in kind._properties.values() if p._indexed} for kind in KINDS}
    assert {kind: names for kind, names in indexed.items() if names} == {
        "_DeferredDeadLetter": {"failed_at", "queue", "reason"}
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind._get_kind())
def test_no_context_caches_an_entity_that_other_processes_change(kind: type[ndb.Model]):
    assert (kind._use_cache, kind._use_global_cache) == (False, False)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (entities.Outbox, {"created"}),
        (entities.SweepLease, {"holder", "until"}),
        (entities.PayloadChunk, {"data"}),
        (entities.Receipt, {"expires"}),
        (entities.DeadLetter, {"reason", "queue", "failed_at"}),
    ],
)
def test_an_entity_without_a_value_that_its_readers_rely_on_cannot_be_written(kind: type[ndb.Model], names: set[str]):
    with pytest.raises(ndb.exceptions.BadValueError) as raised:
        model._entity_to_ds_entity(kind())
    assert {*str(raised.value).rpartition(": ")[2].split(", ")} == names
