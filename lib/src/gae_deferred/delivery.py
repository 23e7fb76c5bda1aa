"""A delivery of a task, as the headers of its request describe it."""

import datetime
import math
from time import monotonic
from typing import Any

from gae_deferred import headers, settings

_APP_ENGINE = headers.APP_ENGINE
_CLOUD_TASKS = headers.CLOUD_TASKS
_DEADLINE = headers.DEADLINE.environ_key
_MAX_ATTEMPTS = headers.MAX_ATTEMPTS.environ_key
_NAMESPACE = headers.NAMESPACE.environ_key
_SIGNATURE = headers.SIGNATURE.environ_key


class Delivery:
    """A request to run a task. The module ``authentication`` proves who sent it.

    Parameters:
        environ: the WSGI environ of the request. On App Engine, and where it has such headers, they are read as those
            of an App Engine task; otherwise as those of an HTTP task.

    Attributes:
        environ: the same.
        on_app_engine: whether this process runs where nobody outside can forge ``X-AppEngine-*`` headers.
        is_app_engine_task: whether the request claims to bring an App Engine task, not an HTTP task.
        queue: short name of the queue, or ``""``.
        name: short name of the task, or ``""``: then the request is no delivery.
        started: when the request reached the handler, as ``time.monotonic`` has it; 0.0 without a deadline.
    """

    __slots__ = ("_keys", "environ", "is_app_engine_task", "name", "on_app_engine", "queue", "started")

    def __init__(self, environ: dict[str, Any]) -> None:
        self.started = monotonic() if _DEADLINE in environ else 0.0
        self.environ = environ
        self.on_app_engine = settings.on_app_engine()
        self.is_app_engine_task = self.on_app_engine or _APP_ENGINE.task_name in environ
        keys = self._keys = _APP_ENGINE if self.is_app_engine_task else _CLOUD_TASKS
        self.name: str = environ.get(keys.task_name) or ""
        self.queue: str = environ.get(keys.queue_name, "")

    @property
    def retry_count(self) -> str:
        """The number of attempts before this one, as the header has it, or ``""``."""
        count: str = self.environ.get(self._keys.retry_count, "")
        return count

    @property
    def attempt(self) -> int | None:
        """The number of this attempt, the first of which is 1, or None if the header holds no number."""
        count = _number(self.retry_count)
        return None if count is None else count + 1

    @property
    def eta(self) -> str:
        """The time when the task was due, in seconds since the Unix epoch, as the header has it, or ``""``."""
        eta: str = self.environ.get(self._keys.eta, "")
        return eta

    @property
    def due(self) -> datetime.datetime | None:
        """The time when the task was due, in UTC, or None if the header holds none."""
        try:
            return datetime.datetime.fromtimestamp(float(self.eta), datetime.UTC)
        except (ValueError, OverflowError, OSError):
            return None

    @property
    def execution_count(self) -> int | None:
        """The number of attempts before this one that the app has answered, or None if the header holds no number."""
        return _number(self.environ.get(self._keys.execution_count, ""))

    @property
    def previous_status(self) -> int | None:
        """The HTTP status of the answer to the attempt before, or None if there was none."""
        return _number(self.environ.get(self._keys.previous_response, "")) or None

    @property
    def deadline(self) -> float | None:
        """The seconds that an attempt may take, or None if the task has no ``_dispatch_deadline``."""
        return read_deadline(self.environ.get(_DEADLINE, ""))

    @property
    def namespace(self) -> str:
        """The Datastore namespace in which the task runs, or ``""`` for the default one.

        A header of our own names it, or for a task of the bundled SDK App Engine's header. The latter counts neither
        off App Engine, where anybody can send it, nor for a signed task, whose signature does not cover it.
        """
        namespace: str = ""
        if _NAMESPACE in self.environ:
            namespace = self.environ[_NAMESPACE]
        elif self.on_app_engine and not self.environ.get(_SIGNATURE):
            namespace = self.environ.get(headers.CURRENT_NAMESPACE.environ_key, "")
        return namespace

    @property
    def time_left(self) -> float | None:
        """The seconds until the deadline, 0.0 if it has passed, or None if none is known."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, self.started + deadline - monotonic())

    @property
    def path(self) -> str:
        """The path of the request, as WSGI has it: percent-decoded, and its bytes as Latin-1 (PEP 3333)."""
        path: str = self.environ.get("SCRIPT_NAME", "") + self.environ.get("PATH_INFO", "")
        return path

    @property
    def is_last(self) -> bool:
        """Whether this is the task's last attempt, as far as its own retry options or the setting of its queue tell.

        Raises:
            ConfigurationError: ``DEFERRED_QUEUE_MAX_ATTEMPTS`` cannot be read.
        """
        own = self.environ.get(_MAX_ATTEMPTS)
        limit = settings.queue_max_attempts(self.queue) if own is None else _number(own)
        if not limit:
            return False
        number = self.attempt
        return number is not None and number >= limit


def read_deadline(text: str) -> float | None:
    """Return the seconds in the header of a deadline, or None if it holds none."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None
