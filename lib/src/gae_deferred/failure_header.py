"""Tells the local cloud that a task has failed for good, in a header of the answer: its status is often 200.

The real Cloud Tasks gets no such header.
"""

import json
import traceback
from typing import Any

from gae_deferred import headers, settings
from gae_deferred.errors import PermanentTaskFailure

ENVIRON_KEY = "gae_deferred.failure"
"""Key of the header's value in the WSGI environ of an attempt that was the task's last. ``dev`` looks for it there if
the task's error leaves the app, or a framework answers for it."""

_MAX_ERROR = 500
"""Characters of the error."""


def note(environ: dict[str, Any], error: BaseException, letter_id: int, kept: str) -> None:
    """Note in the environ of an attempt that its task has failed for good.

    Parameters:
        error: what the attempt raised.
        letter_id: the id of the dead letter.
        kept: where the letter is, such as ``in Datastore``.
    """
    text = "".join(traceback.format_exception_only(error)).strip()  # it bears an error whose __str__ raises
    if type(error) is PermanentTaskFailure:
        text = text.partition(": ")[2]
    value = {"error": text[:_MAX_ERROR], "dead_letter": letter_id, "kept": kept}
    environ[ENVIRON_KEY] = json.dumps(value)  # in ASCII, and without line breaks


def of(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the header of an answer: none unless the task has failed for good, beside the local cloud."""
    value = environ.get(ENVIRON_KEY)
    return [(headers.FAILURE.name, value)] if value is not None and settings.cloud_tasks_emulator() else []
