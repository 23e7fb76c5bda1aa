"""Tells the local cloud's console where dead letters are, and how the command looks after them."""

import sys
from collections.abc import Sequence

KIND = "_DeferredDeadLetter"
"""The kind of the entities, in the project's default database and without a namespace."""

TIME, COLUMNS, ERROR = "failed_at", ("reason", "queue", "callable", "attempts"), "error"
"""The properties of a letter that a list shows: when the task failed, what it was, and its traceback."""

_MAIN = "from gae_deferred.cli.command import main; main()"


def command(action: str, letter_ids: Sequence[int], unproven: bool) -> Sequence[str]:
    """Return a command line that sends letters again or deletes them.

    Parameters:
        action: ``resend`` or ``delete``.
        letter_ids: the ids of the letters.
        unproven: whether letters are sent that nothing proves to be this app's. Without it the command asks, and
            nobody can answer: it sends none of these.
    """
    confirmed = ["--yes"] if action == "resend" and unproven else []
    return [sys.executable, "-c", _MAIN, "dead-letters", action, *confirmed, *map(str, letter_ids)]
