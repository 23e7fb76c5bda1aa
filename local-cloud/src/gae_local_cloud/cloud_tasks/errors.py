"""What the service answers when it refuses: a canonical code of Google's APIs, and a message that names the field."""

from enum import IntEnum


class Code(IntEnum):
    """The canonical codes (``google.rpc.Code``) that Cloud Tasks uses; gRPC has the same names and numbers."""

    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class ServiceError(Exception):
    """A request that the service answers with an error.

    Parameters:
        code: the canonical code.
        message: a sentence for the caller.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> ServiceError:
    """Return the error for a request that is wrong whatever the server holds."""
    return ServiceError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServiceError:
    """Return the error for a queue or task that is not there."""
    return ServiceError(Code.NOT_FOUND, message)


def already_exists(message: str) -> ServiceError:
    """Return the error for a name that is taken."""
    return ServiceError(Code.ALREADY_EXISTS, message)


def failed_precondition(message: str) -> ServiceError:
    """Return the error for a request that could succeed on another state of the server."""
    return ServiceError(Code.FAILED_PRECONDITION, message)


class QueueYamlError(Exception):
    """A ``queue.yaml`` cannot be used; the message begins with ``file:line`` and names the field."""


__all__ = [
    "Code",
    "QueueYamlError",
    "ServiceError",
    "already_exists",
    "failed_precondition",
    "invalid",
    "not_found",
]
