"""Reads App Engine's ``queue.yaml`` into queues.

By the reference of ``queue.yaml``, each queue in the list ``queue`` may have a ``name``, ``rate``, ``bucket_size``,
``max_concurrent_requests``, ``target``, ``mode`` and ``retry_parameters``.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks import retry
from gae_local_cloud.cloud_tasks.errors import QueueYamlError, ServiceError
from gae_local_cloud.cloud_tasks.messages import AppEngineRouting, Queue, QueueState, RetryConfig
from gae_local_cloud.cloud_tasks.names import queue_name
from gae_local_cloud.cloud_tasks.times import duration
from gae_local_cloud.cloud_tasks.validation import MAX_CONCURRENT, MAX_RATE, check_retry_config, prepare_queue

_SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"(?P<count>\d+(\.\d+)?)/(?P<unit>[smhd])")
_AGE = re.compile(r"(?P<count>\d+(\.\d+)?)(?P<unit>[smhd])")
_TARGET = re.compile(r"((?P<version>[a-z0-9-]+)\.)?(?P<service>[a-z0-9-]+)")

_DEFAULT_RATE = 5.0
_DEFAULT_BUCKET_SIZE = 5
_MAX_BUCKET_SIZE = 500

_T = TypeVar("_T")


def read_queue_yaml(path: Path, parent: str) -> list[Queue]:
    """Return the queues that a file defines, with all defaults filled in.

    Parameters:
        path: the file.
        parent: the location of the queues, ``projects/P/locations/L``.

    Raises:
        QueueYamlError: the file is unreadable or invalid; the message names the file, line and field.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise QueueYamlError(f"{path}: cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise QueueYamlError(f"{path}:{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise QueueYamlError(f"{path}: is not YAML: {error}") from error
    if root is None:
        return []
    return _Reader(path, parent).queues(root)


class _Reader:
    """Walks the YAML nodes of one file, which know their line numbers."""

    def __init__(self, path: Path, parent: str) -> None:
        self._path = path
        self._parent = parent

    def queues(self, root: yaml.Node) -> list[Queue]:
        fields = self._fields(root, "", {"queue", "total_storage_limit"})
        if "queue" not in fields:
            return []
        node = fields["queue"]
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, "queue", "must be a list of queues")
        seen: dict[str, yaml.Node] = {}
        queues = []
        for entry in node.value:
            queue = self._queue(entry)
            if queue.name in seen:
                raise self._wrong(entry, "queue.name", "is the name of an earlier queue")
            seen[queue.name] = entry
            queues.append(queue)
        return queues

    def _queue(self, node: yaml.Node) -> Queue:
        fields = self._fields(
            node,
            "queue",
            {"name", "rate", "bucket_size", "max_concurrent_requests", "target", "mode", "retry_parameters"},
        )
        if "name" not in fields:
            raise self._wrong(node, "queue.name", "is missing")
        queue = Queue(state=int(QueueState.RUNNING))
        queue.name = self._value(fields["name"], "queue.name", self._queue_name)
        if "mode" in fields and self._text(fields["mode"], "queue.mode") != "push":
            raise self._wrong(fields["mode"], "queue.mode", "must be push: Cloud Tasks has no pull queues")
        if "target" in fields:
            queue.app_engine_routing_override.CopyFrom(self._value(fields["target"], "queue.target", _target))
        if "max_concurrent_requests" in fields:
            queue.rate_limits.max_concurrent_dispatches = self._value(
                fields["max_concurrent_requests"], "queue.max_concurrent_requests", _whole_number(1, MAX_CONCURRENT)
            )
        if "retry_parameters" in fields:
            queue.retry_config.CopyFrom(self._retry_config(fields["retry_parameters"]))
        zero_doublings = "retry_parameters" in fields and queue.retry_config.max_doublings == 0
        rate = self._value(fields["rate"], "queue.rate", _rate) if "rate" in fields else _DEFAULT_RATE
        if rate == 0:
            # A rate of 0 stops a queue in App Engine; the message Queue expresses that by its state.
            queue.state = int(QueueState.PAUSED)
        queue.rate_limits.max_dispatches_per_second = rate
        prepare_queue(queue, zero_doublings=zero_doublings)
        queue.rate_limits.max_burst_size = _DEFAULT_BUCKET_SIZE
        if "bucket_size" in fields:
            queue.rate_limits.max_burst_size = self._value(
                fields["bucket_size"], "queue.bucket_size", _whole_number(1, _MAX_BUCKET_SIZE)
            )
        return queue

    def _retry_config(self, node: yaml.Node) -> RetryConfig:
        prefix = "queue.retry_parameters"
        fields = self._fields(
            node,
            prefix,
            {"task_retry_limit", "task_age_limit", "min_backoff_seconds", "max_backoff_seconds", "max_doublings"},
        )

        def value(field: str, parse: Callable[[str], _T]) -> _T:
            return self._value(fields[field], f"{prefix}.{field}", parse)

        config = RetryConfig(max_doublings=retry.DEFAULT_DOUBLINGS)
        if "task_retry_limit" in fields:
            # queue.yaml counts retries, RetryConfig counts attempts, the first included.
            config.max_attempts = value("task_retry_limit", _whole_number(0, 2**31 - 2)) + 1
        if "task_age_limit" in fields:
            config.max_retry_duration.CopyFrom(duration(value("task_age_limit", _age)))
            if "task_retry_limit" not in fields:
                config.max_attempts = retry.UNLIMITED
        if "min_backoff_seconds" in fields:
            config.min_backoff.CopyFrom(duration(value("min_backoff_seconds", _seconds)))
        if "max_backoff_seconds" in fields:
            config.max_backoff.CopyFrom(duration(value("max_backoff_seconds", _seconds)))
        if "max_doublings" in fields:
            config.max_doublings = value("max_doublings", _whole_number(0, 2**31 - 1))
        try:
            check_retry_config(config, "retry_parameters")
        except ServiceError as error:
            raise self._wrong(node, prefix, error.message) from error
        return config

    def _queue_name(self, text: str) -> str:
        try:
            return queue_name(f"{self._parent}/queues/{text}", "name")
        except ServiceError as error:
            raise ValueError("must be 1 to 100 letters, digits or hyphens") from error

    # Nodes

    def _fields(self, node: yaml.Node, prefix: str, known: set[str]) -> dict[str, yaml.Node]:
        """Return a mapping's values by key; refuse unknown and repeated keys."""
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, prefix or "the file", "must be a mapping of fields to values")
        fields: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            field = f"{prefix}.{key}" if prefix else key
            if key not in known:
                raise self._wrong(key_node, field, f"is not a field; the fields are {', '.join(sorted(known))}")
            if key in fields:
                raise self._wrong(key_node, field, "is set twice")
            fields[key] = value_node
        return fields

    def _text(self, node: yaml.Node, field: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._wrong(node, field, "must be a single value")
        return str(node.value)

    def _value(self, node: yaml.Node, field: str, parse: Callable[[str], _T]) -> _T:
        text = self._text(node, field)
        try:
            return parse(text)
        except ValueError as error:
            raise self._wrong(node, field, f'{error}, got "{text}"') from error

    def _wrong(self, node: yaml.Node, field: str, what: str) -> QueueYamlError:
        return QueueYamlError(f"{self._path}:{node.start_mark.line + 1}: {field} {what}")


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _seconds(text: str) -> int:
    """Return a number of seconds in microseconds."""
    if not re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        raise ValueError("must be a number of seconds, at least 0")
    return round(float(text) * SECOND)


def _rate(text: str) -> float:
    """Return ``5/s``, ``10/m``, ... in tasks per second."""
    if text == "0":
        return 0.0
    match = _RATE.fullmatch(text)
    if not match:
        raise ValueError("must be a number, a slash and s, m, h or d, such as 5/s")
    rate = float(match["count"]) / _SECONDS_PER_UNIT[match["unit"]]
    if rate > MAX_RATE:
        raise ValueError(f"must be at most {MAX_RATE:g}/s")
    return rate


def _age(text: str) -> int:
    """Return ``30m``, ``2d``, ... in microseconds."""
    match = _AGE.fullmatch(text)
    if not match or float(match["count"]) * _SECONDS_PER_UNIT[match["unit"]] > 315_576_000_000:
        raise ValueError("must be a number and s, m, h or d, such as 2d")
    return round(float(match["count"]) * _SECONDS_PER_UNIT[match["unit"]] * SECOND)


def _target(text: str) -> AppEngineRouting:
    """Return ``service`` or ``version.service`` as routing."""
    match = _TARGET.fullmatch(text)
    if not match:
        raise ValueError("must be a service, or a version, a dot and a service, such as v2.worker")
    return AppEngineRouting(service=match["service"], version=match["version"] or "")
