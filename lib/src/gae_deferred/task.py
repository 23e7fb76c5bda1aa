"""A task and its options, checked before anything is sent to a queue."""

import datetime
import functools
import math
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gae_deferred import clock, datastore, settings
from gae_deferred.errors import (
    InvalidDispatchDeadlineError,
    InvalidEtaError,
    InvalidQueueNameError,
    InvalidTaskError,
    InvalidTaskNameError,
    InvalidTaskRetryOptionsError,
    InvalidUrlError,
    TaskTooLargeError,
)
from gae_deferred.limits import MAX_TASK_BYTES

DEFAULT_QUEUE = "default"
DEFAULT_URL = "/_ah/queue/deferred"

MAX_ETA_SECONDS = 30 * 24 * 3600
"""Maximum seconds between now and a task's time (the same page: maximum schedule time 30 days)."""

MAX_LIFETIME = datetime.timedelta(days=62)
"""Maximum life of a task: up to 30 days until its time, and 31 days of retention after that (the same page)."""

MIN_DISPATCH_DEADLINE = 15
MAX_DISPATCH_DEADLINE = 24 * 3600
MAX_HTTP_DISPATCH_DEADLINE = 30 * 60
"""Limits, in seconds, of the time that an attempt may take (docstring of
``google.cloud.tasks_v2.types.Task.dispatch_deadline``). ``MAX_DISPATCH_DEADLINE`` is that of an App Engine task."""

MAX_URL_LENGTH = 2083
MAX_TASK_NAME_LENGTH = 500
MAX_QUEUE_NAME_LENGTH = 100

_MAX_ATTEMPTS = 2**31 - 1
_MAX_DURATION_SECONDS = 315_576_000_000  # the longest google.protobuf.Duration

_TASK_NAME = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_TASK_NAME_LENGTH}}}")
_QUEUE_NAME = re.compile(rf"[a-zA-Z0-9-]{{1,{MAX_QUEUE_NAME_LENGTH}}}")
_NAMESPACE = re.compile(r"[0-9A-Za-z._-]{0,100}")  # docstring of google.cloud.datastore_v1.types.PartitionId
_TARGET_PART = re.compile(r"[a-zA-Z0-9_-]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_MESSAGE_OVERHEAD = 13 * 2**9
"""Maximum bytes of all parts that are not counted one by one: 2083 of the URL, 2083 of an OIDC token's audience, 320 of
its account, 320 of the full name before the queue's, 255 of the host, 189 of the routing, 750 of our own headers and of
the signature without the names of headers, 150 of the service's headers, 150 of times, retry options, field tags."""

_GENERATED_NAME_LENGTH = 64
"""Maximum characters of a name that this library gives to a task."""

_HEADER_OVERHEAD = 16
"""Maximum bytes of a header besides its name and value: six field tags and lengths, and a separator in the signature,
which repeats the name."""


@dataclass(frozen=True, kw_only=True)
class TaskRetryOptions:
    """Times and limits of a failed task's retries.

    They replace the queue's as a whole: a value of None takes the default of Cloud Tasks (100 attempts, no age limit,
    0.1 s, 1 h, 16 doublings). If every value is None, the queue's own apply.

    Parameters:
        min_backoff_seconds: the shortest wait before a retry, in seconds.
        max_backoff_seconds: the longest wait before a retry, in seconds.
        task_age_limit: seconds since the first attempt after which the queue gives the task up; rounded up.
        max_doublings: the number of times that the wait doubles before it grows evenly.
        task_retry_limit: the number of retries after the first attempt. Together with ``task_age_limit``, the queue
            gives the task up when both are reached.

    Raises:
        InvalidTaskRetryOptionsError: a value is negative, infinite or too large, or the longest wait is shorter than
            the shortest.
        TypeError: a value is not a number, or a count not an integer.
    """

    min_backoff_seconds: float | None = None
    max_backoff_seconds: float | None = None
    task_age_limit: float | None = None
    max_doublings: int | None = None
    task_retry_limit: int | None = None

    def __post_init__(self) -> None:
        for name in ("min_backoff_seconds", "max_backoff_seconds", "task_age_limit"):
            self._check(name, float, _MAX_DURATION_SECONDS)
        for name in ("max_doublings", "task_retry_limit"):
            self._check(name, int, _MAX_ATTEMPTS - 1)
        low, high = self.min_backoff_seconds, self.max_backoff_seconds
        if low is not None and high is not None and high < low:
            raise InvalidTaskRetryOptionsError(f"max_backoff_seconds is {high}, less than min_backoff_seconds, {low}")
        if self.task_age_limit is not None:
            object.__setattr__(self, "task_age_limit", math.ceil(self.task_age_limit))

    def _check(self, name: str, number: type[int | float], maximum: int) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if not isinstance(value, (int, number)) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}; it takes {number.__name__}")
        if not 0 <= value <= maximum:  # NaN, too, fails this
            raise InvalidTaskRetryOptionsError(f"{name} is {value}; it takes 0 to {maximum}")


class Task:
    """A request that a queue makes later.

    Parameters:
        payload: the body of the request.
        queue: short name of the queue.
        name: the task's short name, unique in its queue. None stands for a name that is made when the task is sent.
        url: the path of the request. None stands for the queue's own, ``/_ah/queue/`` and its name.
        headers: headers of the request.
        countdown: seconds from now after which the task runs.
        eta: the time at which the task runs. A naive one is in local time, which is UTC on App Engine.
        target: the App Engine service, ``version.service`` or ``instance.version.service`` that runs the task. None
            stands for the service and version of this process.
        retry_options: times and limits of retries. None leaves the queue's own.
        transactional: whether the task is enqueued if and only if a Datastore transaction commits.
        namespace: Datastore namespace in which it runs; None for that of the open NDB context.
        dispatch_deadline: seconds that an attempt may take; None for the service's own limit.

    Raises:
        InvalidTaskError: an option is not valid, or two options contradict each other. The subclasses
            :class:`InvalidTaskNameError`, :class:`InvalidUrlError`, :class:`InvalidEtaError` and
            :class:`TaskTooLargeError` name the option.
        InvalidQueueNameError: no queue can have that name.

    Attributes:
        identity: 32 random hexadecimal digits, which tell the task from every other, whatever its queue names it.
        was_enqueued: whether a queue has taken it.
        may_be_enqueued: whether a queue may have taken it in a call that was not answered.
        outbox: id of the outbox entity that a transactional task is written to, or None.
        python: version of Python, such as ``3.13``, that alone can read the payload, or None if each can.
        stored_payload: the id of the bytes in Datastore that its payload refers to, or None if it holds the call.
    """

    method = "POST"

    def __init__(
        self,
        payload: bytes,
        *,
        queue: str = DEFAULT_QUEUE,
        name: str | None = None,
        url: str | None = DEFAULT_URL,
        headers: Mapping[str, str] | None = None,
        countdown: float | None = None,
        eta: datetime.datetime | None = None,
        target: str | None = None,
        retry_options: TaskRetryOptions | None = None,
        transactional: bool = False,
        namespace: str | None = None,
        dispatch_deadline: float | None = None,
    ) -> None:
        if not isinstance(payload, bytes):
            raise InvalidTaskError(f"The payload is of type {type(payload).__name__}; it takes bytes")
        check_queue_name(queue)
        if name:
            _check_name(name, _TASK_NAME, InvalidTaskNameError, "task")
        if target:
            split_target(target)
        if retry_options is not None and not isinstance(retry_options, TaskRetryOptions):
            raise InvalidTaskError(f"The retry options are {_shorten(retry_options)}; they take a TaskRetryOptions")
        self.identity = os.urandom(16).hex()
        self.payload = payload
        self.queue_name = queue
        self.name = name or None
        self.url = _check_url(url or f"/_ah/queue/{queue}")
        self._headers = _check_headers(headers or {}, target)
        self.target = target
        self.retry_options = retry_options
        self.is_scheduled = countdown is not None or eta is not None
        self.eta = _determine_eta(countdown, eta)
        self.transactional = transactional
        self.namespace = _check_namespace(datastore.current_namespace() if namespace is None else namespace)
        self.dispatch_deadline = _check_dispatch_deadline(dispatch_deadline)
        self.was_enqueued = False
        self.may_be_enqueued = False
        self.outbox: str | None = None
        self.python: str | None = None
        self.stored_payload: str | None = None
        limit = max_bytes()
        if self.size > limit:
            raise TaskTooLargeError(
                f"The task takes up to {self.size} bytes ({len(payload)} of them payload), more than the {limit} of "
                "Cloud Tasks; pass a reference, such as a key, instead of the data"
            )

    @property
    def headers(self) -> dict[str, str]:
        """A copy of the request's headers."""
        return dict(self._headers)

    @property
    def size(self) -> int:
        """Upper bound, in bytes, of the task's share of :data:`MAX_TASK_BYTES`; some KiB more than the exact number."""
        total = len(self.payload) + len(self.queue_name) + _MESSAGE_OVERHEAD
        total += len(self.name) if self.name else _GENERATED_NAME_LENGTH
        for name, value in self._headers.items():
            total += 2 * len(name) + len(value.encode()) + _HEADER_OVERHEAD
        return total

    def __repr__(self) -> str:
        state = "enqueued" if self.was_enqueued else "not enqueued"
        return f"<Task {self.queue_name}/{self.name or '(unnamed)'} to {self.url} at {self.eta.isoformat()}, {state}>"


def max_bytes() -> int:
    """Return the size of the largest task, in bytes: :data:`MAX_TASK_BYTES`, or what the settings lower it to.

    Raises:
        ConfigurationError: ``DEFERRED_MAX_TASK_BYTES`` is not such a number.
    """
    return min(settings.max_task_bytes() or MAX_TASK_BYTES, MAX_TASK_BYTES)


def check_queue_name(name: object) -> None:
    """Check the short name of a queue.

    Raises:
        InvalidQueueNameError: no queue can have that name.
    """
    _check_name(name, _QUEUE_NAME, InvalidQueueNameError, "queue")


def _check_name(name: object, pattern: re.Pattern[str], error: type[Exception], noun: str) -> None:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise error(f"The {noun} name {_shorten(name)} does not match {pattern.pattern}")


def split_target(target: object) -> tuple[str, str, str]:
    """Return service, version and instance of a target such as ``version.service``; ``""`` for a missing part.

    A dot may be written ``-dot-``, as in App Engine's host names.

    Raises:
        InvalidTaskError: the target is not ``service``, ``version.service`` or ``instance.version.service``.
    """
    parts = target.replace("-dot-", ".").split(".") if isinstance(target, str) else []
    if not 1 <= len(parts) <= 3 or not all(_TARGET_PART.fullmatch(part) for part in parts):
        raise InvalidTaskError(
            f"The target {_shorten(target)} is not 'service', 'version.service' or 'instance.version.service'"
        )
    service, version, instance, *_ = (*reversed(parts), "", "")
    return service, version, instance


def _check_namespace(namespace: object) -> str:
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise InvalidTaskError(f"The namespace {_shorten(namespace)} does not match {_NAMESPACE.pattern}")
    return namespace


def _check_dispatch_deadline(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    is_http = settings.target_url() is not None
    longest = MAX_HTTP_DISPATCH_DEADLINE if is_http else MAX_DISPATCH_DEADLINE
    if not isinstance(seconds, int | float) or not MIN_DISPATCH_DEADLINE <= seconds <= longest:
        raise InvalidDispatchDeadlineError(
            f"The dispatch deadline is {_shorten(seconds)}; {'an HTTP' if is_http else 'an App Engine'} task takes "
            f"{MIN_DISPATCH_DEADLINE} to {longest} seconds"
        )
    return seconds


def _check_url(url: object) -> str:
    if not isinstance(url, str) or not url.startswith("/") or url.startswith("//"):
        raise InvalidUrlError(f"The task URL {_shorten(url)} is not relative: it has to begin with one '/'")
    return _path(url)


@functools.lru_cache(maxsize=64)
def _path(url: str) -> str:
    if len(url) > MAX_URL_LENGTH:
        raise InvalidUrlError(f"The task URL has {len(url)} characters, more than {MAX_URL_LENGTH}: {_shorten(url)}")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidUrlError(f"The task URL {_shorten(url)} has characters that need percent-encoding")
    parts = urllib.parse.urlsplit(url)
    if parts.fragment:
        raise InvalidUrlError(f"The task URL {_shorten(url)} has a fragment")
    if parts.query:
        raise InvalidTaskError(f"The task URL {_shorten(url)} has a query, which a POST task cannot have")
    return parts.path


def _check_headers(headers: Mapping[str, str], target: str | None) -> dict[str, str]:
    """Return checked headers. Of headers whose names differ only in case, the last counts."""
    checked: dict[str, tuple[str, str]] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _is_header_name(name):
            raise InvalidTaskError(f"{_shorten(name)} is not a valid name of an HTTP header")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidTaskError(f"The header {name} has a value that HTTP does not allow: {_shorten(value)}")
        checked[name.lower()] = (name, value)
    if target is not None and "host" in checked:
        raise InvalidTaskError(
            f"A task takes a Host header ({_shorten(checked['host'][1])}) or a target ({target!r}), not both"
        )
    return dict(checked.values())


@functools.lru_cache(maxsize=256)
def _is_header_name(name: str) -> bool:
    return _HEADER_NAME.fullmatch(name) is not None


def _determine_eta(countdown: Any, eta: Any) -> datetime.datetime:
    """Return the time at which a task runs, in UTC."""
    created = chosen = clock.now()
    if countdown is None and eta is None:
        return created
    if countdown is not None and eta is not None:
        raise InvalidTaskError(f"A task takes a countdown ({countdown!r}) or an ETA ({eta!r}), not both")
    if countdown is not None:
        try:
            seconds = float(countdown)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidTaskError(f"The countdown {_shorten(countdown)} is not a number of seconds") from error
        if math.isnan(seconds):
            raise InvalidTaskError("The countdown is not a number (NaN)")
        try:
            chosen = created + datetime.timedelta(seconds=seconds)
        except OverflowError as error:
            raise InvalidEtaError(f"The countdown {countdown!r} is out of range") from error
    elif isinstance(eta, datetime.datetime):
        try:
            chosen = eta.astimezone(datetime.UTC)
        except (OverflowError, ValueError, OSError) as error:
            raise InvalidEtaError(f"The ETA {eta!r} is out of range") from error
    else:
        raise InvalidTaskError(f"The ETA {eta!r} is not a datetime.datetime")
    if (chosen - created).total_seconds() > MAX_ETA_SECONDS:
        raise InvalidEtaError(f"The ETA {chosen.isoformat()} is more than {MAX_ETA_SECONDS // 86400} days from now")
    return chosen


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
