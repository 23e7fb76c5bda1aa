"""The call or request that a task makes, in one line."""

from collections.abc import Sequence
from dataclasses import dataclass

from gae_local_cloud.cloud_tasks import AttemptReport
from gae_local_cloud.cloud_tasks.messages import HttpMethod, Task
from gae_local_cloud.cloud_tasks.request import callable_of
from gae_local_cloud.cloud_tasks.store import StoredTask
from gae_local_cloud.console.payload import PayloadReaders
from gae_local_cloud.console.task_queries import TaskQueries

_MAX_BODY_BYTES = 8 * 1024
"""Bytes of a body that is read for a list; of a larger one, the list shows what its header says."""


@dataclass(frozen=True)
class TaskCall:
    """What a task does.

    Attributes:
        call: such as ``counter.add('v1', 10)``, or ``POST /path``.
        target: the method and the URL.
    """

    call: str
    target: str


class TaskCalls:
    """Tells what tasks do, for lists of them."""

    def __init__(self, queries: TaskQueries, readers: PayloadReaders) -> None:
        self._queries = queries
        self._readers = readers

    def of_rows(self, rows: Sequence[StoredTask]) -> Sequence[TaskCall]:
        """Return what stored tasks do, which were read without their bodies."""
        bodies = self._queries.bodies([row.id for row in rows], _MAX_BODY_BYTES)
        return [self._of(row, *bodies.get(row.id, (b"", 0))) for row in rows]

    def of_report(self, report: AttemptReport) -> TaskCall:
        """Return what an attempted task does."""
        return self._of(report.row, report.row.body[:_MAX_BODY_BYTES], len(report.row.body))

    def _of(self, row: StoredTask, body: bytes, size: int) -> TaskCall:
        task = Task.FromString(row.request)
        target = target_of(task)
        called = ""
        if body and size == len(body):
            called = self._readers.read(headers_of(task), body).call
        return TaskCall(called or callable_of(task) or target, target)


def headers_of(task: Task) -> dict[str, str]:
    """Return the headers of a task's request, as they were given."""
    return dict(getattr(task, task.WhichOneof("message_type")).headers)


def target_of(task: Task) -> str:
    """Return the method and the URL of a task's request."""
    kind = task.WhichOneof("message_type")
    request = getattr(task, kind)
    url = request.relative_uri if kind == "app_engine_http_request" else request.url
    return f"{HttpMethod(request.http_method).name} {url}"
