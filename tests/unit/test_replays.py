"""Receipts are kept of tasks with a signature, where there are keys."""

from typing import Any
from unittest.mock import Mock

import pytest

from gae_deferred import datastore, headers, replays, signing_keys

SIGNED = {headers.SIGNATURE.environ_key: "a signature", headers.ID.environ_key: "an id"}


@pytest.mark.parametrize(("environ", "keys"), [({}, True), (SIGNED, False), ({}, False)])
def test_a_task_without_a_signature_or_an_app_without_keys_has_no_receipt(
    environ: dict[str, str], keys: bool, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Any] = []
    monkeypatch.setattr(signing_keys, "are_set", lambda: keys)
    monkeypatch.setattr(datastore, "run_in_own_database", asked.append)
    delivery: Any = Mock(environ=environ)
    assert replays.has_run(delivery) is False
    replays.note(delivery)
    assert asked == []


@pytest.mark.parametrize("found", [None, "a receipt"])
def test_a_signed_task_has_run_if_its_receipt_is_there(found: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signing_keys, "are_set", lambda: True)
    monkeypatch.setattr(datastore, "run_in_own_database", lambda function: function())
    monkeypatch.setattr(replays, "_key", lambda delivery: Mock(get=lambda: found))
    delivery: Any = Mock(environ=SIGNED)
    assert replays.has_run(delivery) is (found is not None)
