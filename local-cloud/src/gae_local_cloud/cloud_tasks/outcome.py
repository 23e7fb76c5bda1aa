"""How an attempt ended."""

from dataclasses import dataclass

from gae_local_cloud.cloud_tasks.errors import Code

# The mapping of google.rpc.Code, read backwards; other statuses by their class.
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
    """What came of one HTTP request.

    Parameters:
        status: the HTTP status, None if there was no answer.
        code: the canonical code for it; of no meaning for a success.
        message: the same as a sentence, as the service words it.
        retry_after: the seconds that the answer's ``Retry-After`` asks to wait, None if it does not.
        body: the end of the answer's body, if it was no success.
    """

    status: int | None
    code: Code
    message: str
    retry_after: float | None = None
    body: bytes = b""

    @property
    def success(self) -> bool:
        """Whether the task is done."""
        return self.status is not None and 200 <= self.status <= 299

    @property
    def executed(self) -> bool:
        """Whether the app itself answered: a 503 is App Engine's word for having no instance to ask."""
        return self.status is not None and self.status != 503


def answered(status: int, retry_after: float | None = None, body: bytes = b"") -> Outcome:
    """Return the outcome of a request that was answered."""
    if status in _CODES:
        code = _CODES[status]
    elif 400 <= status <= 499:
        code = Code.FAILED_PRECONDITION
    elif 500 <= status <= 599:
        code = Code.INTERNAL
    else:
        code = Code.UNKNOWN
    return Outcome(status, code, f"{code.name}({code.value}): HTTP status code {status}", retry_after, body)


def unanswered(code: Code, reason: str) -> Outcome:
    """Return the outcome of a request without an answer."""
    return Outcome(None, code, f"{code.name}({code.value}): {reason}")
