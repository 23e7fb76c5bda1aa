"""Decides whether a failed attempt is the end of its task, which then leaves a dead letter."""

from gae_deferred import dead_letters, outbox
from gae_deferred.attempt import Attempt
from gae_deferred.dead_letters import Kept
from gae_deferred.errors import (
    PermanentTaskFailure,
    TaskNotKeptError,
    TaskNotReadableYetError,
    UnprovenPayloadError,
    UnreadableTaskError,
)

MAX_UNREADABLE_ATTEMPTS = 50
"""Attempts of a task whose payload cannot be read but may be later, when an import works or the code is deployed.

With the backoff that a queue has by default (0.1 s, doubled 16 times, at most 1 h) they take 35 hours.
"""


def end_if_due(attempt: Attempt, error: BaseException) -> None:
    """Keep the task of a failed attempt as a dead letter, if no other attempt follows as far as that is known.

    Raises:
        TaskNotKeptError: it has failed for good, and nothing could keep it. The queue has to try it again.
        UnreadableTaskError: it could not be read for so long that it has failed for good, and is kept.
    """
    reason = _reason_to_end(attempt, error)
    if reason is None:
        return
    if dead_letters.keep_failed(attempt, error, reason) is Kept.NOWHERE:
        raise TaskNotKeptError(
            f"The task {attempt.delivery.name!r} has failed for good, and its dead letter can be written nowhere now"
        ) from error
    outbox.forget(attempt.delivery)
    if isinstance(error, TaskNotReadableYetError):
        raise UnreadableTaskError(str(error)) from error


def _reason_to_end(attempt: Attempt, error: BaseException) -> str | None:
    """Return the reason of the dead letter, or None if the task is tried again."""
    number, is_last = attempt.delivery.attempt, attempt.delivery.is_last
    match error:
        case UnreadableTaskError():
            return dead_letters.UNREADABLE
        case UnprovenPayloadError():
            return dead_letters.NOT_OURS
        case PermanentTaskFailure():
            return dead_letters.FAILED
        case TaskNotReadableYetError():
            ends = is_last or number is None or number >= MAX_UNREADABLE_ATTEMPTS
            return dead_letters.UNREADABLE if ends else None
    return dead_letters.GIVEN_UP if is_last else None
