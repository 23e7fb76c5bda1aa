"""Names of the headers of a task's request: ours, the queue's, and those that servers in front of an app set."""

import functools
import re
from typing import NamedTuple


class Header(NamedTuple):
    """Both names of a header.

    Attributes:
        name: as HTTP writes it, such as ``X-Deferred-Signature``.
        environ_key: as a WSGI environ has it, such as ``HTTP_X_DEFERRED_SIGNATURE`` (PEP 3333).
    """

    name: str
    environ_key: str


class DeliveryKeys(NamedTuple):
    """Keys, in a WSGI environ, of the headers in which a queue describes a delivery."""

    task_name: str
    queue_name: str
    retry_count: str
    eta: str
    execution_count: str
    previous_response: str


def _header(name: str) -> Header:
    return Header(name, f"HTTP_{name.upper().replace('-', '_')}")


def _delivery_keys(prefix: str) -> DeliveryKeys:
    names = ("TaskName", "QueueName", "TaskRetryCount", "TaskETA", "TaskExecutionCount", "TaskPreviousResponse")
    return DeliveryKeys(*(_header(prefix + name).environ_key for name in names))


SIGNATURE = _header("X-Deferred-Signature")
"""Signature of the task, as ``KEY_ID:TIME:COVERED_HEADERS:HEX_DIGITS``; see :mod:`gae_deferred.signing`."""

ID = _header("X-Deferred-Id")
"""Identity of the task from its making: 32 random hexadecimal digits, whatever name its queue gives it."""

OUTBOX = _header("X-Deferred-Outbox")
"""Id of the outbox entity that a transactional task was written to."""

PYTHON = _header("X-Deferred-Python")
"""Version of the Python, such as ``3.13``, that wrote the payload by value; no other can read it."""

NAMESPACE = _header("X-Deferred-Namespace")
"""Datastore namespace in which the task runs. A task without this header runs in the default namespace."""

DEADLINE = _header("X-Deferred-Deadline")
"""Seconds that an attempt may take, of a task with ``_dispatch_deadline``. Cloud Tasks sends no such header."""

CALLABLE = _header("X-Deferred-Callable")
"""Name of the task's callable, for people who look at a queue. For display only; never trusted."""

MAX_ATTEMPTS = _header("X-Deferred-Max-Attempts")
"""Number of attempts that the task's own retry options allow, or 0 if they set no number. Other tasks have none."""

FAILURE = _header("X-Deferred-Failure")
"""In an answer to the local cloud: why a task has failed for good, as JSON; see :mod:`gae_deferred.failure_header`."""

OWN = (SIGNATURE, ID, OUTBOX, PYTHON, NAMESPACE, DEADLINE, CALLABLE, MAX_ATTEMPTS)
"""The headers that this library sets on its tasks."""

APP_ENGINE = _delivery_keys("X-AppEngine-")
"""Headers of an App Engine task (App Engine documentation, "Create App Engine task handlers")."""

CLOUD_TASKS = _delivery_keys("X-CloudTasks-")
"""Headers of an HTTP task (Cloud Tasks documentation, "Create HTTP target tasks")."""

CRON = _header("X-AppEngine-Cron")
CURRENT_NAMESPACE = _header("X-AppEngine-Current-Namespace")
USER_IP = _header("X-AppEngine-User-IP")
AUTHORIZATION = _header("Authorization")
FORWARDED_PROTO = _header("X-Forwarded-Proto")

_RESERVED = re.compile(
    r"x-appengine-.*|x-cloudtasks-.*|x-google-.*|host|content-length|"
    r"x-deferred-(signature|id|outbox|python|namespace|deadline|max-attempts)",
    re.IGNORECASE,
)

_SET_IN_TRANSIT = re.compile(
    r"host|user-agent|content-length|connection|keep-alive|transfer-encoding|te|via|forwarded|traceparent|tracestate|"
    r"accept(-.*)?|function-.*|x-appengine-.*|x-cloudtasks-.*|x-cloud-.*|x-google-.*|x-forwarded-.*|x-real-ip|"
    r"x-serverless-.*",
    re.IGNORECASE,
)

_SECRET = re.compile(
    r"authorization|proxy-authorization|cookie|x-serverless-authorization|x-goog-.*|x-deferred-signature", re.IGNORECASE
)
"""The servers of Google in front of an app pass tokens in ``X-Goog-*``, such as ``X-Goog-IAP-JWT-Assertion``."""


@functools.lru_cache(maxsize=256)
def is_reserved(name: str) -> bool:
    """Return whether an app's own value of a header is left out of its tasks.

    Cloud Tasks sets these headers and refuses or replaces others' values (docstrings of
    ``AppEngineHttpRequest.headers`` and ``HttpRequest.headers``), or this library sets them.
    """
    return _RESERVED.fullmatch(name) is not None


def is_set_in_transit(name: str) -> bool:
    """Return whether the queue, or a server between it and the app, sets a header on every request."""
    return _SET_IN_TRANSIT.fullmatch(name) is not None


def is_secret(name: str) -> bool:
    """Return whether the value of a header lets its reader act for another."""
    return _SECRET.fullmatch(name) is not None


def name_of(environ_key: str) -> str | None:
    """Return the name of the header in a variable of a WSGI environ, such as ``X-Appengine-Queuename``, or None.

    WSGI does not keep how a name was written: each word begins with a capital letter.
    """
    return environ_key[5:].replace("_", "-").title() if environ_key.startswith("HTTP_") else None
