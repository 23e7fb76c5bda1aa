"""The end of a task that its app reports in a header of the answer: the status of such an answer is often 200."""

import json
from dataclasses import dataclass

FAILURE_HEADER = "X-Deferred-Failure"
"""Header of an answer that says why a deferred call has failed for good."""

_MAX_ERROR = 2000
"""Characters of the error that are kept."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task has failed for good.

    Attributes:
        error: in one line, without control characters.
        dead_letter: id of the dead letter that keeps the task, or None.
        kept: where the letter is, such as ``in Datastore``.
    """

    error: str
    dead_letter: int | None = None
    kept: str = ""

    def __str__(self) -> str:
        if self.dead_letter is None:
            return self.error
        where = "" if self.kept == "in Datastore" else f" {self.kept}"
        return f"{self.error} (dead letter {self.dead_letter}{where})"


def read_failure(value: str | None) -> Failure | None:
    """Return what the header says, or None if there is no such header, or it is not one of gae-deferred."""
    if value is None:
        return None
    try:
        fields = json.loads(value)
    except ValueError:
        return None
    match fields:
        case {"error": str(error), "dead_letter": int(letter), "kept": str(kept)}:
            return Failure(_printable(error), letter, _printable(kept))
        case {"error": str(error)}:
            return Failure(_printable(error))
    return None


def _printable(text: str) -> str:
    """Return a text in one line: it comes from the app, and may hold what moves a terminal's cursor."""
    words = "".join(char if char.isprintable() else " " for char in text[:_MAX_ERROR]).split()
    return " ".join(words)
