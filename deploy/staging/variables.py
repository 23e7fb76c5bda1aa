"""The variables of the templates, checked against the values that App Engine allows."""

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from deploy.errors import UsageError, VariableError

RUNTIMES = ("python311", "python312", "python313", "python314")
"""App Engine runtimes for the Python versions that gae-deferred supports."""

THREADS = 8
"""Threads of one gunicorn process. Tasks and requests mostly wait for Datastore, so they share a processor well."""

MAX_DISPATCHES = 500
"""Dispatches per second of one queue (Cloud Tasks documentation, "Quotas and limits")."""

APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""Import name of a WSGI app: ``module:name``."""

_SERVICE = re.compile(r"(?!-|ah-)[a-z0-9-]{1,63}(?<!-)")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"projects/[a-z0-9:.-]+/secrets/[A-Za-z0-9_-]{1,255}")
_SERVICE_ACCOUNT = re.compile(r"[a-z0-9.:-]+@[a-z0-9.-]+\.gserviceaccount\.com")
_QUEUE = re.compile(r"[A-Za-z0-9-]{1,100}")
_RATE = re.compile(r"\d+(\.\d+)?/[smhd]")
_IDLE_TIMEOUT = re.compile(r"\d+[smh]")


MEMORY = {
    "F1": 384,
    "F2": 768,
    "F4": 1536,
    "F4_1G": 3072,
    "B1": 384,
    "B2": 768,
    "B4": 1536,
    "B4_1G": 3072,
    "B8": 3072,
}
"""Memory of each instance class in MB (App Engine documentation, "Instance classes")."""

MEMORY_PER_WORKER = 384
"""Memory for one gunicorn process in MB. It yields the numbers of processes that App Engine's documentation recommends
("The Python runtime", "Entrypoint best practices": 1 for F1 and B1, then 2, 4, and 8 for 3072 MB)."""


def check(name: str, value: object, allowed: bool, rule: str) -> None:
    """Check that a value is allowed.

    Parameters:
        name: name of the value, for the message.
        value: the value.
        allowed: whether it is allowed.
        rule: description of the allowed values, for the message.

    Raises:
        VariableError: the value is not allowed.
    """
    if not allowed:
        raise VariableError(f"{name} is {value!r}, but must be {rule}.")


def check_number(name: str, value: int | float, minimum: float, maximum: float) -> None:
    """Check that a number is within its limits, which are allowed themselves.

    Raises:
        VariableError: it is not.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    check(name, value, is_number and minimum <= value <= maximum, f"a number from {minimum:g} to {maximum:g}")


@dataclass(frozen=True)
class AutomaticScaling:
    """The number of instances follows the load. For instance classes that begin with F.

    Parameters:
        min_instances: instances that always run, and are paid for; None for App Engine's default.
        max_instances: limit of instances; None for App Engine's default.
        min_idle_instances: instances kept ready beside the busy ones; None for App Engine's default.
        max_concurrent_requests: limit of concurrent requests of one instance; None for its number of threads.
    """

    kind: ClassVar[str] = "automatic"
    min_instances: int | None = None
    max_instances: int | None = None
    min_idle_instances: int | None = None
    max_concurrent_requests: int | None = None

    def __post_init__(self) -> None:
        for name, maximum in [("min_instances", 1000), ("max_instances", 2**31 - 1), ("min_idle_instances", 1000)]:
            if (value := getattr(self, name)) is not None:
                check_number(name, value, 1 if name == "max_instances" else 0, maximum)
        if self.max_concurrent_requests is not None:
            check_number("max_concurrent_requests", self.max_concurrent_requests, 1, 1000)
        if self.min_instances is not None and self.max_instances is not None:
            rule = f"at most max_instances, which is {self.max_instances}"
            check("min_instances", self.min_instances, self.min_instances <= self.max_instances, rule)

    @property
    def settings(self) -> dict[str, int | str]:
        """The settings in app.yaml."""
        values = vars(self)
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class BasicScaling:
    """Instances start on requests, and stop when idle. For instance classes that begin with B.

    Parameters:
        max_instances: limit of instances.
        idle_timeout: time until an idle instance stops, such as ``5m``.
    """

    kind: ClassVar[str] = "basic"
    max_instances: int
    idle_timeout: str = "5m"

    def __post_init__(self) -> None:
        check_number("max_instances", self.max_instances, 1, 200)
        check("idle_timeout", self.idle_timeout, bool(_IDLE_TIMEOUT.fullmatch(self.idle_timeout)), "such as 90s or 5m")

    @property
    def settings(self) -> dict[str, int | str]:
        """The settings in app.yaml."""
        return dict(vars(self))


@dataclass(frozen=True)
class ManualScaling:
    """A fixed number of instances. For instance classes that begin with B.

    Parameters:
        instances: the number of instances.
    """

    kind: ClassVar[str] = "manual"
    instances: int

    def __post_init__(self) -> None:
        check_number("instances", self.instances, 1, 200)

    @property
    def settings(self) -> dict[str, int | str]:
        """The settings in app.yaml."""
        return dict(vars(self))


@dataclass(frozen=True)
class Queue:
    """A queue of queue.yaml, with the defaults of Cloud Tasks."""

    name: str = "default"
    rate: str = "500/s"
    bucket_size: int = 100
    max_concurrent_requests: int = 1000
    task_retry_limit: int = 100
    min_backoff_seconds: float = 0.1
    max_backoff_seconds: float = 3600
    max_doublings: int = 16

    def __post_init__(self) -> None:
        check("queue name", self.name, bool(_QUEUE.fullmatch(self.name)), "1 to 100 letters, digits and hyphens")
        check("queue rate", self.rate, bool(_RATE.fullmatch(self.rate)), "a number and /s, /m, /h or /d, such as 10/s")
        number, _, unit = self.rate.partition("/")
        per_second = float(number) / {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
        check("queue rate", self.rate, per_second <= MAX_DISPATCHES, f"at most {MAX_DISPATCHES}/s")
        check_number("bucket_size", self.bucket_size, 1, 500)
        check_number("max_concurrent_requests", self.max_concurrent_requests, 1, 5000)
        check_number("task_retry_limit", self.task_retry_limit, 0, 2**31 - 1)
        check_number("min_backoff_seconds", self.min_backoff_seconds, 0, 3600)
        check_number("max_backoff_seconds", self.max_backoff_seconds, self.min_backoff_seconds, 86400)
        check_number("max_doublings", self.max_doublings, 0, 16)


@dataclass(frozen=True)
class Variables:
    """The values of all templates.

    Parameters:
        runtime: one of :data:`RUNTIMES`.
        service: App Engine service of the version.
        instance_class: one of :data:`MEMORY`.
        scaling: automatic, basic or manual. None means automatic, or basic with one instance for a B class.
        app: import name of the WSGI app, as ``module:name``.
        entrypoint: command that serves the app; None for gunicorn, fitted to the instance class.
        warmup: whether App Engine calls ``/_ah/warmup`` before an instance gets its first request.
        environment: environment variables of the app. Everybody who may view the version can read them.
        service_account: e-mail address of the app's account; None for App Engine's default account.
        signing_keys_secret: ``projects/P/secrets/NAME``, the secret in Secret Manager with the keys that sign tasks.
            The app reads its value, which is never in a file.
        location: location of the queues, such as ``us-central1``; None if the app has to look it up.
        queues: queues of queue.yaml.

    Raises:
        VariableError: a value is not allowed. The message names the value and the rule.
    """

    runtime: str = "python313"
    service: str = "default"
    instance_class: str = "F1"
    scaling: AutomaticScaling | BasicScaling | ManualScaling | None = None
    app: str = "main:app"
    entrypoint: str | None = None
    warmup: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    service_account: str | None = None
    signing_keys_secret: str | None = None
    location: str | None = None
    queues: Iterable[Queue] = (Queue(),)

    def __post_init__(self) -> None:
        check("runtime", self.runtime, self.runtime in RUNTIMES, f"one of {', '.join(RUNTIMES)}")
        rule = "1 to 63 lower-case letters, digits and hyphens, without a hyphen at either end or ah- at the beginning"
        check("service", self.service, bool(_SERVICE.fullmatch(self.service)), rule)
        classes = ", ".join(MEMORY)
        check("instance class", self.instance_class, self.instance_class in MEMORY, f"one of {classes}")
        check("app", self.app, bool(APP.fullmatch(self.app)), "module:name, such as main:app")
        if self.entrypoint is not None:
            check("entrypoint", self.entrypoint, self.entrypoint.strip() != "", "a command")
        self._check_scaling()
        self._check_environment()
        self._check_accounts()

    def _check_scaling(self) -> None:
        if self.scaling is None:
            return
        letter = "F" if self.scaling.kind == "automatic" else "B"
        fitting = ", ".join(name for name in MEMORY if name.startswith(letter))
        rule = f"one of {fitting} with {self.scaling.kind} scaling"
        check("instance class", self.instance_class, self.instance_class.startswith(letter), rule)

    def _check_environment(self) -> None:
        for name, value in self.environment.items():
            rule = "letters, digits and underscores, not beginning with a digit"
            check("name of an environment variable", name, bool(_ENVIRONMENT_NAME.fullmatch(name)), rule)
            taken = name == "PORT" or name.startswith("GAE_")
            check("name of an environment variable", name, not taken, "another one: App Engine sets this one itself")
            check(f"environment variable {name}", value, isinstance(value, str) and "\0" not in value, "text")

    def _check_accounts(self) -> None:
        if self.service_account is not None:
            rule = "the e-mail address of a service account, such as NAME@PROJECT.iam.gserviceaccount.com"
            check("service account", self.service_account, bool(_SERVICE_ACCOUNT.fullmatch(self.service_account)), rule)
        if self.signing_keys_secret is not None:
            secret = self.signing_keys_secret
            check(
                "secret of the signing keys", secret, bool(_SECRET.fullmatch(secret)), "projects/PROJECT/secrets/NAME"
            )

    def context(self) -> dict[str, object]:
        """Return the values for the templates, with defaults in place of None."""
        return {
            "runtime": self.runtime,
            "service": self.service,
            "instance_class": self.instance_class,
            "scaling": self._scaling,
            "app": self.app,
            "entrypoint": self.entrypoint or self._gunicorn,
            "entrypoint_is_ours": self.entrypoint is None,
            "warmup": self.warmup,
            "environment": self._environment,
            "service_account": self.service_account,
            "queues": list(self.queues),
        }

    @cached_property
    def workers(self) -> int:
        """Number of gunicorn processes of an instance."""
        return MEMORY[self.instance_class] // MEMORY_PER_WORKER

    @property
    def _gunicorn(self) -> str:
        return f"gunicorn --bind :$PORT --workers {self.workers} --threads {THREADS} --no-control-socket {self.app}"

    @property
    def _scaling(self) -> AutomaticScaling | BasicScaling | ManualScaling:
        scaling = self.scaling
        if scaling is None:
            scaling = AutomaticScaling() if self.instance_class.startswith("F") else BasicScaling(max_instances=1)
        if isinstance(scaling, AutomaticScaling) and scaling.max_concurrent_requests is None:
            capacity = self.workers * THREADS
            return AutomaticScaling(**(vars(scaling) | {"max_concurrent_requests": capacity}))
        return scaling

    @property
    def _environment(self) -> dict[str, str]:
        ours = {"DEFERRED_LOCATION": self.location, "DEFERRED_SIGNING_KEYS_SECRET": self.signing_keys_secret}
        named = {name: value for name, value in ours.items() if value is not None}
        return dict(sorted((named | dict(self.environment)).items()))


def read_environment(given: tuple[str, ...], random: tuple[str, ...]) -> dict[str, str]:
    """Return the environment variables that the options name. Of two values for a name the later one counts.

    Parameters:
        given: values of --env.
        random: values of --random-env.

    Raises:
        UsageError: --env names a variable without a value, and this process's environment has none either.
    """
    values: dict[str, str | None] = {name: secrets.token_urlsafe(50) for name in random}
    for text in given:
        name, has_value, value = text.partition("=")
        values[name] = value if has_value else os.environ.get(name, values.get(name))
    missing = [name for name, value in values.items() if value is None]
    if missing:
        names = ", ".join(missing)
        raise UsageError(f"The app needs {names}: set it in your environment, or give --env {missing[0]}=VALUE")
    return {name: value for name, value in values.items() if value is not None}
