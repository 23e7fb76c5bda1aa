"""Tells the local cloud's console what a deferred task calls, without running any of its payload."""

from collections.abc import Mapping
from typing import Any

from gae_deferred.headers import NAMESPACE
from gae_deferred.payload_reader import Reading, read

_CONTENT_TYPE = "application/octet-stream"
"""The content type of a deferred task, here and in the bundled SDK."""

_PICKLE = b"\x80"
"""First byte of a pickle of protocol 2 or newer."""


def payload(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any] | None:
    """Return what the body of a task calls, None if it is no deferred task.

    Parameters:
        headers: of the task's request.
        body: of the task's request.

    Returns:
        A mapping as :mod:`gae_local_cloud.console.payload` describes it.
    """
    values = {name.lower(): value for name, value in headers.items()}
    deferred = "x-deferred-callable" in values
    if not (deferred or body.startswith(_PICKLE) or values.get("content-type") == _CONTENT_TYPE):
        return None
    reading = read(body)
    if reading.problem and not (deferred or body.startswith(_PICKLE)):
        return None
    return {
        "call": reading.text,
        "callable": reading.callable,
        "notes": _notes(reading, values.get(NAMESPACE.name.lower(), "")),
        "problem": reading.problem,
    }


def _notes(reading: Reading, namespace: str) -> list[str]:
    notes = []
    if namespace:
        notes.append(f"Runs in the namespace {namespace!r} of Datastore.")
    if reading.once:
        notes.append("Deferred with once: its effects in Datastore happen once, however often it is attempted.")
    if reading.stored is not None:
        notes.append("The payload is too big for a task: it is kept in Datastore until the task has run.")
    if reading.by_value:
        notes.append(f"Written by value (cloudpickle): {', '.join(reading.by_value)}.")
    return notes
