"""The protobuf messages of v2beta3, loaded on first use."""

from functools import cache
from typing import Any

from google.cloud.location import locations_pb2  # type: ignore[import-untyped]
from google.iam.v1 import iam_policy_pb2, policy_pb2  # type: ignore[import-untyped]
from google.longrunning import operations_pb2  # type: ignore[import-untyped]

from gae_local_cloud.client_library import import_messages

QUEUE_METHODS = frozenset({"GetQueue", "CreateQueue", "UpdateQueue", "PurgeQueue", "PauseQueue", "ResumeQueue"})
"""Methods that answer with a queue."""

_TASK_METHODS = frozenset({"CreateTask", "GetTask", "RunTask"})


@cache
def beta_request_type(method: str) -> Any:
    """Return the class of a method's request."""
    if method.endswith(("IamPolicy", "IamPermissions")):
        return getattr(iam_policy_pb2, f"{method}Request")
    return _beta_type(f"{method}Request")


@cache
def beta_answer_type(method: str) -> Any:
    """Return the class of a method's answer, or None for an empty answer."""
    if method in QUEUE_METHODS:
        return _beta_type("Queue")
    if method in _TASK_METHODS:
        return _beta_type("Task")
    if method.startswith("Delete"):
        return None
    if method.startswith("Batch") or method == "GetOperation":
        return operations_pb2.Operation
    if method in ("ListLocations", "GetLocation"):
        return locations_pb2.ListLocationsResponse if method == "ListLocations" else locations_pb2.Location
    if method.endswith("IamPolicy"):
        return policy_pb2.Policy
    if method == "TestIamPermissions":
        return iam_policy_pb2.TestIamPermissionsResponse
    if method.endswith("CmekConfig"):
        return _beta_type("CmekConfig")
    return _beta_type(f"{method}Response")


def _beta_type(name: str) -> Any:
    return getattr(import_messages("google.cloud.tasks_v2beta3.types"), name).pb()
