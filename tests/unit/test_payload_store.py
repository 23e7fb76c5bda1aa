"""Payloads are compressed as long as they fit, and references to stored ones are told from other calls."""

import pickle

import pytest
from deferred_callables import greet

from gae_deferred import deferred, errors, payload_store

STORED = f"{'a' * 32}-2-{'b' * 64}"


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Maximum bytes of a payload before compression."""
    monkeypatch.setattr(payload_store, "MAX_PAYLOAD_BYTES", 1000)
    return 1000


def test_a_payload_of_the_largest_size_is_compressed_and_a_larger_one_refused_with_its_size(limit: int):
    small, stored = payload_store.shrink(bytes(limit), 200, transactional=False)
    assert len(small) <= 200
    assert stored is None
    with pytest.raises(errors.TaskTooLargeError, match=r"has 1001 bytes; at most 1000 bytes, \d+ compressed can be"):
        payload_store.shrink(bytes(limit + 1), 200, transactional=False)


def test_a_compressed_payload_may_fill_the_room():
    data = deferred.serialize(greet, "x" * 2000)
    small, _ = payload_store.shrink(data, 2000, transactional=False)
    assert payload_store.shrink(data, len(small), transactional=False) == (small, None)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_reference_to_a_stored_payload_has_its_id(protocol: int):
    reference = pickle.dumps((payload_store.run_stored, (STORED,), {}), protocol)
    assert payload_store.stored_by(reference) == STORED


@pytest.mark.parametrize(
    "module_and_name",
    ["deferred_callables\nrun_stored", "gae_deferred.payload_store\nrun_compressed", "run_stored\nrun_stored"],
)
def test_a_call_of_another_function_refers_to_no_stored_payload(module_and_name: str):
    assert payload_store.stored_by(f"(c{module_and_name}\n(S'{STORED}'\nt(S'run_stored'\nI1\ndt.".encode()) is None
    assert payload_store.stored_by(f"(c{module_and_name}\n(S'{STORED}'\nt(dt.".encode()) is None


def test_a_call_in_a_compressed_payload_returns_its_result():
    task = deferred.prepare(greet, "x" * 2**21)
    assert b"run_compressed" in task.payload
    assert deferred.run(task.payload) == greet("x" * 2**21)
