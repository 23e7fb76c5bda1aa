"""What a queue tells of a task in the headers of the request that delivers it."""

from dataclasses import dataclass
from typing import Any

from gae_deferred import settings

MAX_ATTEMPTS_HEADER = "X-Deferred-Max-Attempts"
"""How many attempts a task has by its own retry options; set on tasks that have such a limit."""


@dataclass(frozen=True)
class Delivery:
    """One attempt to deliver a task, as its request tells it; who sent the request is for ``caller`` to prove.

    Attributes:
        queue: short name of the queue, or ``""``.
        name: short name of the task, or ``""``: then the request is no delivery.
        retry_count: the number of attempts before this one as the header has it, or ``""``.
        eta: when the task was due, in seconds since the Unix epoch, as the header has it, or ``""``.
        max_attempts: how many attempts the task has, if its own retry options limit them.
    """

    queue: str
    name: str
    retry_count: str
    eta: str
    max_attempts: int | None

    @classmethod
    def of(cls, environ: dict[str, Any]) -> "Delivery":
        """Read the headers of a request: those of App Engine tasks, or away from App Engine those of HTTP tasks."""
        prefix = "HTTP_X_APPENGINE_"
        if not settings.on_app_engine() and f"{prefix}TASKNAME" not in environ:
            prefix = "HTTP_X_CLOUDTASKS_"
        limit = environ.get("HTTP_X_DEFERRED_MAX_ATTEMPTS", "")
        return cls(
            queue=environ.get(f"{prefix}QUEUENAME", ""),
            name=environ.get(f"{prefix}TASKNAME", ""),
            retry_count=environ.get(f"{prefix}TASKRETRYCOUNT", ""),
            eta=environ.get(f"{prefix}TASKETA", ""),
            max_attempts=int(limit) if limit.isascii() and limit.isdecimal() and len(limit) < 12 else None,
        )

    @property
    def is_last(self) -> bool:
        """Whether this is known to be the task's last attempt."""
        count = self.retry_count
        if self.max_attempts is None or not (count.isascii() and count.isdecimal() and len(count) < 12):
            return False
        return int(count) + 1 >= self.max_attempts
