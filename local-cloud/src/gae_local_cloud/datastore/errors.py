"""Errors of the Datastore server, each with its gRPC status code."""

import grpc


class DatastoreError(Exception):
    """Base of the errors that a client sees.

    The client shows the message to its user: it names the key, property or value that is wrong.
    """

    code = grpc.StatusCode.INTERNAL


class InvalidArgument(DatastoreError):
    """The request breaks a rule that does not depend on stored entities."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class PermissionDenied(DatastoreError):
    """The request may come from a web page of another origin."""

    code = grpc.StatusCode.PERMISSION_DENIED


class NotFound(DatastoreError):
    """An update names an entity that does not exist, or a URL names no method."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(DatastoreError):
    """An insert names an entity that exists."""

    code = grpc.StatusCode.ALREADY_EXISTS


class Aborted(DatastoreError):
    """Another commit changed what a transaction read: run the transaction again."""

    code = grpc.StatusCode.ABORTED


class FailedPrecondition(DatastoreError):
    """The state of the store does not allow the request: an index is missing, a read time is too old."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class ResourceExhausted(DatastoreError):
    """The disk with the database is full."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unimplemented(DatastoreError):
    """The service supports the request, this server does not."""

    code = grpc.StatusCode.UNIMPLEMENTED
