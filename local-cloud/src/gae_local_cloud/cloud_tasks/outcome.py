"""The outcome of an attempt: success, or the canonical code of the failure."""

from dataclasses import dataclass

from gae_local_cloud.cloud_tasks.errors import Code
from gae_local_cloud.failure import Failure

# The HTTP mapping in google.rpc.Code's documentation, inverted; other statuses map by their class.
_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    429: Code.RESOURCE_EXHAUSTED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one HTTP request.

    Parameters:
        status: HTTP status of the answer, or None without an answer.
        code: the canonical code for a failure; meaningless for a success.
        message: the failure in the service's words.
        retry_after: seconds to wait by the answer's ``Retry-After``, or None without that header.
        body: the end of the answer's body, for a failure.
        failure: why the task has failed for good, if the app says so. For people to read; the status decides.
        refused: whether nothing listens at the target's address.
    """

    status: int | None
    code: Code
    message: str
    retry_after: float | None = None
    body: bytes = b""
    failure: Failure | None = None
    refused: bool = False

    @property
    def success(self) -> bool:
        """Whether the task has succeeded."""
        return self.status is not None and 200 <= self.status <= 299

    def executed(self, *, app_engine: bool) -> bool:
        """Return whether ``TaskExecutionCount`` counts the attempt.

        It counts each answer of an App Engine app, even its own 503, and each answer of an HTTP target but 5xx
        (recordings of production, ``dispatch.json``).
        """
        return self.status is not None and (app_engine or self.status < 500)


def answered(
    status: int, retry_after: float | None = None, body: bytes = b"", failure: Failure | None = None
) -> Outcome:
    """Return the outcome of an answered request."""
    if status in _CODES:
        code = _CODES[status]
    elif 400 <= status <= 499:
        code = Code.FAILED_PRECONDITION
    elif 500 <= status <= 599:
        code = Code.INTERNAL
    else:
        code = Code.UNKNOWN
    return Outcome(status, code, f"{code.name}({code.value}): HTTP status code {status}", retry_after, body, failure)


def unanswered(code: Code, reason: str, *, refused: bool = False) -> Outcome:
    """Return the outcome of a request without an answer."""
    return Outcome(None, code, f"{code.name}({code.value}): {reason}", refused=refused)
