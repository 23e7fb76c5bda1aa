"""The errors of this package. The service answers with a canonical code of Google's APIs and a message."""

from collections.abc import Sequence
from enum import IntEnum

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import Help
from google.rpc.status_pb2 import Status


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
    """The service refuses a request or cannot serve it.

    Parameters:
        code: the canonical code of the answer.
        message: the reason, in a sentence for the caller.
        details: messages of ``google.rpc.error_details`` for programs.
    """

    def __init__(self, code: Code, message: str, details: Sequence[Message] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def status(self) -> Status:
        """Return the error as a ``google.rpc.Status``."""
        status = Status(code=self.code, message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        return status


def invalid(message: str, *details: Message) -> ServiceError:
    """Return the error for a request that is wrong in every state of the server."""
    return ServiceError(Code.INVALID_ARGUMENT, message, details)


def help_link(description: str, url: str) -> Help:
    """Return an error detail that links to a page of documentation."""
    return Help(links=[Help.Link(description=description, url=url)])


def not_found(message: str) -> ServiceError:
    """Return the error for a resource that does not exist."""
    return ServiceError(Code.NOT_FOUND, message)


def already_exists(message: str) -> ServiceError:
    """Return the error for a name that is taken."""
    return ServiceError(Code.ALREADY_EXISTS, message)


def failed_precondition(message: str) -> ServiceError:
    """Return the error for a request that could succeed in another state of the server."""
    return ServiceError(Code.FAILED_PRECONDITION, message)


class QueueYamlError(Exception):
    """A ``queue.yaml`` is unreadable or invalid; the message begins with ``file:line`` and names the field."""


__all__ = [
    "Code",
    "QueueYamlError",
    "ServiceError",
    "already_exists",
    "failed_precondition",
    "help_link",
    "invalid",
    "not_found",
]
