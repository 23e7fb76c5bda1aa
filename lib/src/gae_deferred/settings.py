"""Reads every environment variable that gae_deferred uses, at the moment of use.

The variables that each task needs are read once in each process, at their first use, because they are set before the
process starts. A test that changes one of them calls :func:`forget`. The absence of signing keys is never remembered:
an app may set them after it has begun to serve, and must not go on without them.
"""

import datetime
import functools
import os
import re
import urllib.parse
from http import HTTPStatus

from gae_deferred.errors import ConfigurationError

LOCAL_PROJECT = "local-dev"
"""Project of the local cloud if ``GOOGLE_CLOUD_PROJECT`` is not set."""

LOCAL_LOCATION = "us-central1"
"""Location of the local cloud if no location is set."""

_METADATA_HOST = "metadata.google.internal"
_METADATA_TIMEOUT = 2.0
"""Seconds to wait for the metadata server. Where there is one, it answers in milliseconds."""

_METADATA_REGION = re.compile(r"projects/[^/\s]+/regions/([a-z0-9-]+)")

LOWEST_MAX_TASK_BYTES = 32 * 2**10
"""Minimum of ``DEFERRED_MAX_TASK_BYTES``: headers, names and URLs need room."""

_QUEUE = re.compile(r"[A-Za-z0-9-]*")
_NUMBER = re.compile(r"[0-9]{1,10}")

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_APP_ENGINE_REGIONS = {"us-central": "us-central1", "europe-west": "europe-west1"}
"""The two App Engine locations whose Cloud Tasks location has another name (App Engine documentation, "Locations")."""


@functools.cache
def on_app_engine() -> bool:
    """Return whether this process runs on App Engine standard, where nobody outside can forge ``X-AppEngine-*``.

    App Engine sets ``GAE_ENV``, ``GAE_APPLICATION`` and ``GAE_INSTANCE`` (App Engine documentation, "Python 3 runtime
    environment"). One variable alone may be a mistake of somebody's deployment, and would open the door to everybody.
    Cloud Run sets ``K_SERVICE``.
    """
    if os.environ.get("K_SERVICE"):
        return False
    is_set = os.environ.get("GAE_APPLICATION") and os.environ.get("GAE_INSTANCE")
    return os.environ.get("GAE_ENV") == "standard" and bool(is_set)


@functools.cache
def service() -> str | None:
    """Return the App Engine service that this process belongs to (``GAE_SERVICE``)."""
    return os.environ.get("GAE_SERVICE") or None


@functools.cache
def version() -> str | None:
    """Return the App Engine version that this process belongs to (``GAE_VERSION``)."""
    return os.environ.get("GAE_VERSION") or None


def cloud_tasks_emulator() -> str | None:
    """Return ``host:port`` of a local Cloud Tasks server (``CLOUD_TASKS_EMULATOR_HOST``), or None for the real one."""
    return os.environ.get("CLOUD_TASKS_EMULATOR_HOST") or None


def datastore_emulator() -> str | None:
    """Return ``host:port`` of a local Datastore server (``DATASTORE_EMULATOR_HOST``), or None for the real one."""
    return os.environ.get("DATASTORE_EMULATOR_HOST") or None


@functools.cache
def databases() -> tuple[str, ...]:
    """Return the databases in which transactions may defer tasks, and which sweeps look at (``DEFERRED_DATABASE``).

    It is a list with commas between; ``""`` here, and ``(default)`` there, is the default database, which is also what
    an unset variable means. This library keeps its own entities, such as dead letters, in the first.
    """
    names = [name.strip() for name in os.environ.get("DEFERRED_DATABASE", "").split(",") if name.strip()]
    return tuple("" if name == "(default)" else name for name in names) or ("",)


@functools.cache
def cross_compatible_pickle() -> bool:
    """Return whether payloads are written in pickle protocol 0, which every Python can read."""
    return bool(os.environ.get("DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL"))


def signing_keys() -> str:
    """Return ``DEFERRED_SIGNING_KEYS``, which :mod:`gae_deferred.signing_keys` reads, or ``""``."""
    return signing_keys_or_secret()[0]


def signing_keys_or_secret() -> tuple[str, str | None]:
    """Return ``DEFERRED_SIGNING_KEYS`` or ``""``, and ``DEFERRED_SIGNING_KEYS_SECRET`` or None.

    The latter is the name of a secret in Secret Manager, ``projects/PROJECT/secrets/SECRET``. The former takes
    precedence.
    """
    global _signing_keys_or_secret
    if _signing_keys_or_secret is not None:
        return _signing_keys_or_secret
    found = os.environ.get("DEFERRED_SIGNING_KEYS", ""), os.environ.get("DEFERRED_SIGNING_KEYS_SECRET") or None
    if any(found):
        _signing_keys_or_secret = found
    return found


_signing_keys_or_secret: tuple[str, str | None] | None = None
"""The values of both variables, once one of them was set."""


def accept_unsigned_until() -> datetime.date | None:
    """Return the last day (UTC) of ``DEFERRED_ACCEPT_UNSIGNED``, or None if it is not set.

    Raises:
        ConfigurationError: the variable is not ``until:YYYY-MM-DD``.
    """
    text = os.environ.get("DEFERRED_ACCEPT_UNSIGNED")
    if not text:
        return None
    until, _, day = text.partition(":")
    try:
        if until != "until" or not _DAY.fullmatch(day):
            raise ValueError
        return datetime.date.fromisoformat(day)
    except ValueError as error:
        raise ConfigurationError(f"DEFERRED_ACCEPT_UNSIGNED is {text!r}, not until:YYYY-MM-DD") from error


def service_account() -> str | None:
    """Return the e-mail address of the account that proves tasks by OIDC (``DEFERRED_SERVICE_ACCOUNT``), or None."""
    return os.environ.get("DEFERRED_SERVICE_ACCOUNT") or None


@functools.cache
def target_url() -> str | None:
    """Return the base URL, without a slash at its end, that tasks go to instead of App Engine, or None.

    Raises:
        ConfigurationError: ``DEFERRED_TARGET_URL`` is not an ``http://`` or ``https://`` URL of a server.
    """
    url = os.environ.get("DEFERRED_TARGET_URL")
    if not url:
        return None
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"DEFERRED_TARGET_URL is {url!r}, not a URL") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(f"DEFERRED_TARGET_URL is {url!r}, not the base URL of a server, such as https://HOST")
    return url.rstrip("/")


def oidc_audience() -> str | None:
    """Return the audience of the OIDC tokens of tasks: ``DEFERRED_AUDIENCE``, or else :func:`target_url`."""
    return os.environ.get("DEFERRED_AUDIENCE") or target_url()


@functools.cache
def own_service_audience() -> str:
    """Return the name under which this process receives signed App Engine tasks.

    Raises:
        ConfigurationError: the project is not known.
    """
    return service_audience(service() or "default")


@functools.cache
def own_url_audience() -> str | None:
    """Return the name under which this process receives signed HTTP tasks, or None without ``DEFERRED_TARGET_URL``.

    Raises:
        ConfigurationError: the project is not known.
    """
    url = oidc_audience()
    return f"{project()}/url/{url}" if url else None


@functools.lru_cache(maxsize=64)
def service_audience(name: str) -> str:
    """Return the name under which an App Engine service of this project receives signed tasks.

    A local cloud does not tell services apart: an app there need not know the name of its own.

    Raises:
        ConfigurationError: the project is not known.
    """
    return f"{project()}/local" if cloud_tasks_emulator() else f"{project()}/service/{name}"


@functools.cache
def _queue_limits() -> dict[str, int]:
    text = os.environ.get("DEFERRED_QUEUE_MAX_ATTEMPTS", "")
    limits: dict[str, int] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = entry.rpartition("=")
        if not (_QUEUE.fullmatch(name) and _NUMBER.fullmatch(number) and 0 < int(number) < 2**31):
            raise ConfigurationError(
                f"DEFERRED_QUEUE_MAX_ATTEMPTS has {entry!r}; it takes the max_attempts of the queues, such as 100, or "
                "100,mail=5 where a queue has another number"
            )
        limits[name] = int(number)
    return limits


def queue_max_attempts(queue: str) -> int | None:
    """Return how many attempts a queue allows (``DEFERRED_QUEUE_MAX_ATTEMPTS``), or None if that is not known.

    Cloud Tasks tells an app neither the limit of a queue nor that an attempt is the last. With this setting, a task
    that fails on the last attempt of its queue is kept as a dead letter; without it, Cloud Tasks drops the task.

    Parameters:
        queue: short name of the queue.

    Raises:
        ConfigurationError: the variable is not a list of numbers, each perhaps after ``QUEUE=``.
    """
    limits = _queue_limits()
    return limits.get(queue, limits.get("")) if limits else None


@functools.cache
def keeps_receipts() -> bool:
    """Return whether a receipt is kept of each signed task, so that it cannot be sent again once it has run.

    App Engine lets nobody but the task queue send a task, and a local cloud is for development. Anywhere else a receipt
    costs a read and a write of Datastore for each task; ``DEFERRED_REPLAY_RECEIPTS=off`` saves them.

    Raises:
        ConfigurationError: the variable is neither ``on`` nor ``off``.
    """
    return _is_on("DEFERRED_REPLAY_RECEIPTS") and not on_app_engine() and not cloud_tasks_emulator()


@functools.cache
def generates_names() -> bool:
    """Return whether a task that is given no name gets one before it is sent, so that sending it again is safe.

    ``DEFERRED_GENERATED_NAMES=off`` leaves the names to Cloud Tasks, which creates such tasks faster; what was sent
    without an answer is then never sent again.

    Raises:
        ConfigurationError: the variable is neither ``on`` nor ``off``.
    """
    return _is_on("DEFERRED_GENERATED_NAMES")


@functools.cache
def max_task_bytes() -> int | None:
    """Return what lowers the size of the largest task, in bytes (``DEFERRED_MAX_TASK_BYTES``), or None.

    Payloads that do not fit are compressed or kept in Datastore. Google's documents disagree about the size that Cloud
    Tasks takes: see :data:`gae_deferred.limits.MAX_TASK_BYTES`, which a higher value does not raise.

    Raises:
        ConfigurationError: the variable is not a number of at least :data:`LOWEST_MAX_TASK_BYTES`.
    """
    text = os.environ.get("DEFERRED_MAX_TASK_BYTES")
    if not text:
        return None
    if not _NUMBER.fullmatch(text) or int(text) < LOWEST_MAX_TASK_BYTES:
        raise ConfigurationError(
            f"DEFERRED_MAX_TASK_BYTES is {text!r}; it takes a number of bytes, at least {LOWEST_MAX_TASK_BYTES}"
        )
    return int(text)


def _hint() -> str:
    from gae_deferred import running_dev  # for an error only

    return running_dev.hint()


def _is_on(variable: str) -> bool:
    value = os.environ.get(variable) or "on"
    if value not in ("on", "off"):
        raise ConfigurationError(f"{variable} is {value!r}; it takes on or off")
    return value == "on"


def oidc_issuer() -> str | None:
    """Return the URL of the local cloud's own issuer of OIDC tokens (``DEFERRED_OIDC_ISSUER``), or None for Google's.

    Outside the local cloud the variable has no effect: Google is the only issuer.
    """
    return os.environ.get("DEFERRED_OIDC_ISSUER") or None if cloud_tasks_emulator() else None


@functools.cache
def local_clock() -> str | None:
    """Return the file with the time of the local cloud (``LOCAL_CLOUD_CLOCK``), or None without a local cloud."""
    file = os.environ.get("LOCAL_CLOUD_CLOCK") or None
    return file if cloud_tasks_emulator() or datastore_emulator() else None


@functools.cache
def project() -> str:
    """Return the project that queues and data belong to.

    Raises:
        ConfigurationError: ``GOOGLE_CLOUD_PROJECT`` is not set and no local cloud is used.
    """
    name = os.environ.get("GOOGLE_CLOUD_PROJECT")
    if name:
        return name
    if cloud_tasks_emulator() or datastore_emulator():
        return LOCAL_PROJECT
    raise ConfigurationError(
        "The project is not known: set GOOGLE_CLOUD_PROJECT (App Engine sets it by itself), "
        f"or run the app with `gae-deferred dev`{_hint()}"
    )


@functools.cache
def location() -> str:
    """Return the Cloud Tasks location of the queues, such as ``us-central1``.

    It is ``DEFERRED_LOCATION``, or ``LOCATION_ID``, or with a local cloud :data:`LOCAL_LOCATION`, or the region that
    the metadata server names (asked once in each process).

    Raises:
        ConfigurationError: no variable is set, and the metadata server does not answer.
    """
    name = os.environ.get("DEFERRED_LOCATION") or os.environ.get("LOCATION_ID")
    if not name:
        name = LOCAL_LOCATION if cloud_tasks_emulator() else _metadata_region()
    return _APP_ENGINE_REGIONS.get(name, name)


@functools.cache
def _metadata_region() -> str:
    """Return the region that the metadata server names in an answer such as ``projects/123/regions/us-central1``."""
    import http.client  # only a process on Google Cloud without DEFERRED_LOCATION needs it

    connection = http.client.HTTPConnection(_METADATA_HOST, timeout=_METADATA_TIMEOUT)
    try:
        connection.request("GET", "/computeMetadata/v1/instance/region", headers={"Metadata-Flavor": "Google"})
        response = connection.getresponse()
        answer = response.read(2**10).decode("ascii", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise ConfigurationError(f"{_SET_LOCATION} (no metadata server: {error})") from error
    finally:
        connection.close()
    region = _METADATA_REGION.fullmatch(answer)
    if response.status != HTTPStatus.OK or region is None:
        raise ConfigurationError(f"{_SET_LOCATION} (the metadata server answered {response.status} {answer[:100]!r})")
    return region[1]


def forget() -> None:
    """Read every variable again at its next use. For tests: the environment of a running service does not change."""
    global _signing_keys_or_secret
    _signing_keys_or_secret = None
    for remembered in (
        *(on_app_engine, databases, cross_compatible_pickle, _metadata_region),
        *(_queue_limits, own_service_audience, own_url_audience, service_audience, keeps_receipts),
        *(generates_names, local_clock, max_task_bytes, service, version, target_url, project, location),
    ):
        remembered.cache_clear()


_SET_LOCATION = "The location of the queues is not known: set DEFERRED_LOCATION, for example to us-central1"
