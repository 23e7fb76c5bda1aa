"""What the Datastore server answers when it cannot do what was asked."""

import grpc


class DatastoreError(Exception):
    """Base of the errors that a client sees, each with its gRPC status code.

    The message is what the client shows its user: it names the key, property or value that is wrong.
    """

    code = grpc.StatusCode.INTERNAL


class InvalidArgument(DatastoreError):
    """The request breaks a rule that does not depend on what is stored."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(DatastoreError):
    """An update names an entity that does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(DatastoreError):
    """An insert names an entity that exists."""

    code = grpc.StatusCode.ALREADY_EXISTS


class Aborted(DatastoreError):
    """Another commit changed what a transaction read: run the transaction again."""

    code = grpc.StatusCode.ABORTED


class FailedPrecondition(DatastoreError):
    """The request would be right in another state of the store: an index is missing, a read time is too old."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Unimplemented(DatastoreError):
    """The request asks for something that the service can do and this server cannot."""

    code = grpc.StatusCode.UNIMPLEMENTED
