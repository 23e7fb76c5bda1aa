"""Cloud Tasks v2beta3, translated to v2. The versions differ in the form of a queue and in its statistics."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from gae_local_cloud.clock import SECOND, Clock
from gae_local_cloud.cloud_tasks.beta_messages import QUEUE_METHODS, beta_answer_type, beta_request_type
from gae_local_cloud.cloud_tasks.dispatch import Dispatcher
from gae_local_cloud.cloud_tasks.errors import invalid
from gae_local_cloud.cloud_tasks.methods import Api, Method
from gae_local_cloud.cloud_tasks.registry import QueueRegistry
from gae_local_cloud.cloud_tasks.rest_json import Json, camel_case, parse_message
from gae_local_cloud.cloud_tasks.store import Store
from gae_local_cloud.cloud_tasks.times import duration, timestamp

_TASK_LIFETIME = 31 * 86400 * SECOND
_OPERATION_METHODS = frozenset({"BatchCreateTasks", "BatchDeleteTasks", "GetOperation"})
_BETA_ONLY = ("type", "stats", "taskTtl", "tombstoneTtl")


class BetaApi:
    """Answers the methods of v2beta3 with those of v2. Both versions share most fields of their JSON."""

    def __init__(self, api: Api, store: Store, registry: QueueRegistry, clock: Clock) -> None:
        self._api = api
        self._store = store
        self._registry = registry
        self._clock = clock

    def methods(self) -> Mapping[str, Method]:
        """Return the methods for gRPC."""
        return {name: self._grpc_method(name) for name in self._api.cloud_tasks}

    def _grpc_method(self, name: str) -> Method:
        async def call(request: Message) -> Message | None:
            try:
                request_json = json_format.MessageToDict(request)
            except json_format.Error as error:  # such as a timestamp in the year 10000
                raise invalid(f"The request cannot be read: {error}") from error
            answer = await self.call(name, request_json)
            answer_type = beta_answer_type(name)
            return None if answer_type is None else json_format.ParseDict(answer, answer_type())

        return Method(lambda serialized: beta_request_type(name).FromString(serialized), call)

    async def call(self, name: str, request: Json) -> Json:
        """Answer one call.

        Raises:
            ServiceError: as the method of v2 does, and INVALID_ARGUMENT for a pull queue.
        """
        method = self._api.method(name)
        read_mask = str(request.pop("readMask", ""))
        if "queue" in request:
            request["queue"] = _queue_to_v2(request["queue"])
        if "updateMask" in request:
            request["updateMask"] = camel_case(str(request["updateMask"])).replace("appEngineHttpQueue.", "")
        response = await method.call(parse_message(request, method.request_type))
        answer: Json = {} if response is None else json_format.MessageToDict(response)
        with_stats = "stats" in read_mask.split(",")
        if name in QUEUE_METHODS:
            return self._queue(answer, with_stats=with_stats)
        if name == "ListQueues":
            return {**answer, "queues": [self._queue(q, with_stats=with_stats) for q in answer.get("queues", ())]}
        if name in _OPERATION_METHODS:
            for part in ("metadata", "response"):
                _rename_type(answer.get(part, {}))
        return answer

    def _queue(self, queue: Json, *, with_stats: bool) -> Json:
        dispatcher = self._registry.queue(queue["name"])
        queue = {
            **queue,
            "appEngineHttpQueue": {},
            "type": "PUSH",
            "taskTtl": duration(_TASK_LIFETIME).ToJsonString(),
            "tombstoneTtl": duration(dispatcher.queue.tombstone_lifetime).ToJsonString(),
        }
        if "appEngineRoutingOverride" in queue:
            queue["appEngineHttpQueue"] = {"appEngineRoutingOverride": queue.pop("appEngineRoutingOverride")}
        if with_stats:
            queue["stats"] = self._stats(dispatcher)
        return queue

    def _stats(self, dispatcher: Dispatcher) -> Json:
        stats: Json = {
            "tasksCount": str(self._store.count_tasks(dispatcher.queue.id)),
            "executedLastMinuteCount": str(dispatcher.executed_last_minute()),
            "concurrentDispatchesCount": str(dispatcher.in_flight),
            "effectiveExecutionRate": dispatcher.effective_rate,
        }
        next_due = self._store.next_due(dispatcher.queue.id)
        if next_due is not None:
            stats["oldestEstimatedArrivalTime"] = timestamp(next_due).ToJsonString()
        return stats


def _rename_type(message: Json) -> None:
    if "@type" in message:
        message["@type"] = message["@type"].replace("google.cloud.tasks.v2.", "google.cloud.tasks.v2beta3.")


def _queue_to_v2(queue: Any) -> Any:
    if not isinstance(queue, dict):
        return queue  # the parser refuses it
    if queue.get("type", "PUSH") not in ("PUSH", "TYPE_UNSPECIFIED"):
        raise invalid("Queue.type must be PUSH: Cloud Tasks cannot create pull queues")
    v2 = {field: value for field, value in queue.items() if field not in (*_BETA_ONLY, "appEngineHttpQueue")}
    app_engine = queue.get("appEngineHttpQueue")
    if isinstance(app_engine, dict) and "appEngineRoutingOverride" in app_engine:
        v2["appEngineRoutingOverride"] = app_engine["appEngineRoutingOverride"]
    return v2
