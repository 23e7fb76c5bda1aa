"""The queue methods of the service, independent of the protocol."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from typing import Any

from gae_local_cloud.clock import Clock
from gae_local_cloud.cloud_tasks.dispatch import Dispatcher
from gae_local_cloud.cloud_tasks.errors import invalid
from gae_local_cloud.cloud_tasks.field_mask import merge_masked
from gae_local_cloud.cloud_tasks.messages import (
    CreateQueueRequest,
    DeleteQueueRequest,
    GetQueueRequest,
    ListQueuesRequest,
    ListQueuesResponse,
    PauseQueueRequest,
    PurgeQueueRequest,
    Queue,
    QueueState,
    ResumeQueueRequest,
    UpdateQueueRequest,
)
from gae_local_cloud.cloud_tasks.names import location_name, location_of, queue_name
from gae_local_cloud.cloud_tasks.paging import last_item, page_size, page_token
from gae_local_cloud.cloud_tasks.queue_filter import queue_filter
from gae_local_cloud.cloud_tasks.registry import QueueRegistry
from gae_local_cloud.cloud_tasks.store import Store
from gae_local_cloud.cloud_tasks.times import timestamp
from gae_local_cloud.cloud_tasks.validation import prepare_queue

_MAX_PAGE = 9800
_DELETE_BATCH = 2000
"""Tasks deleted in one turn of the event loop (a few milliseconds) while a queue is emptied."""


class QueueService:
    """The queue methods of ``google.cloud.tasks.v2.CloudTasks``: a request message in, a response message out.

    Each method returns when its changes are committed, and refuses a request by raising
    :class:`ServiceError <gae_local_cloud.cloud_tasks.errors.ServiceError>`.
    """

    def __init__(self, store: Store, registry: QueueRegistry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._emptying: set[asyncio.Task[None]] = set()

    async def list_queues(self, request: ListQueuesRequest) -> ListQueuesResponse:
        parent = location_name(request.parent, "parent")
        size = page_size(request.page_size, _MAX_PAGE)
        listed = f"{parent}?{request.filter}"
        now = self._clock.now()
        last = last_item(request.page_token, listed, now)
        matches = queue_filter(request.filter)
        names = [
            name
            for name in self._registry.names(parent)
            if name > last and matches(self._registry.queue(name).settings)
        ]
        response = ListQueuesResponse(queues=[self._registry.queue(name).settings for name in names[:size]])
        if len(names) > size:
            response.next_page_token = page_token(listed, names[size - 1], now)
        return response

    async def get_queue(self, request: GetQueueRequest) -> Queue:
        return self._registry.queue(queue_name(request.name, "Queue name")).settings

    async def create_queue(self, request: CreateQueueRequest) -> Queue:
        parent = location_name(request.parent, "parent")
        settings: Queue = request.queue
        name = queue_name(settings.name, "Queue name")
        if location_of(name) != parent:
            raise invalid(f'Queue.name, "{name}", must be in the location that parent names, "{parent}"')
        _clear_output_only(settings)
        prepare_queue(settings)
        self._registry.check_name_is_free(name)
        await self._write(lambda: self._registry.add(settings))
        return settings

    async def update_queue(self, request: UpdateQueueRequest) -> Queue:
        name = queue_name(request.queue.name, "Queue name")
        exists = name in self._registry
        if not exists:
            self._registry.check_name_is_free(name)
        current = self._registry.queue(name).settings if exists else Queue(name=name)
        settings = _copy(current)
        explicit = merge_masked(request.queue, settings, request.update_mask, "update_mask")
        _clear_output_only(settings)
        if exists:
            settings.state = current.state
            if current.HasField("purge_time"):
                settings.purge_time.CopyFrom(current.purge_time)
        zero_doublings = "retry_config.max_doublings" in explicit or (
            # An earlier explicit 0 stays unless this call replaces the retry settings as a whole.
            exists and bool(explicit) and "retry_config" not in explicit and current.retry_config.max_doublings == 0
        )
        prepare_queue(settings, zero_doublings=zero_doublings)
        if exists:
            await self._write(lambda: self._registry.change(self._registry.queue(name), settings))
        else:
            await self._write(lambda: self._registry.add(settings))
        return settings

    async def delete_queue(self, request: DeleteQueueRequest) -> None:
        dispatcher = self._registry.named(queue_name(request.name, "Queue name"))
        self._registry.hide(dispatcher)
        await self._to_the_end(self._delete(dispatcher))

    async def _delete(self, dispatcher: Dispatcher) -> None:
        await dispatcher.stop()
        try:
            await self._empty(dispatcher)
            with self._store.database.atomic() as stored:
                self._registry.forget(dispatcher)
            await stored
        except sqlite3.Error:
            with self._store.database.atomic():
                self._registry.show(dispatcher)
            raise

    async def purge_queue(self, request: PurgeQueueRequest) -> Queue:
        dispatcher = self._registry.queue(queue_name(request.name, "Queue name"))
        settings = _copy(dispatcher.settings)
        settings.purge_time.CopyFrom(timestamp(self._clock.now()))
        await self._write(lambda: self._registry.change(dispatcher, settings))
        await self._to_the_end(self._empty(dispatcher))
        return settings

    async def pause_queue(self, request: PauseQueueRequest) -> Queue:
        return await self._set_state(request.name, QueueState.PAUSED)

    async def resume_queue(self, request: ResumeQueueRequest) -> Queue:
        return await self._set_state(request.name, QueueState.RUNNING)

    async def _set_state(self, name: str, state: int) -> Queue:
        dispatcher = self._registry.queue(queue_name(name, "Queue name"))
        settings = _copy(dispatcher.settings)
        settings.state = int(state)
        await self._write(lambda: self._registry.change(dispatcher, settings))
        return settings

    async def _write(self, write: Callable[[], object]) -> None:
        """Run a function that changes queues, and wait until the changes are stored. Undo them if that fails."""
        try:
            with self._store.database.atomic() as stored:
                write()
            await stored
        except sqlite3.Error:
            await self._registry.reload()
            raise

    async def _empty(self, dispatcher: Dispatcher) -> None:
        """Delete the tasks created so far in batches, so that other requests are answered in between."""
        queue, last_id = dispatcher.queue, self._store.last_task_id()
        tombstone_until = self._clock.now() + queue.tombstone_lifetime
        deleted = _DELETE_BATCH
        while deleted == _DELETE_BATCH:
            with self._store.database.atomic() as stored:
                deleted = self._store.delete_some_tasks(queue.id, last_id, tombstone_until, deleted)
            await stored

    async def _to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Await work that continues if the caller hangs up."""
        task = asyncio.get_running_loop().create_task(work)
        self._emptying.add(task)
        task.add_done_callback(self._emptying.discard)
        await asyncio.shield(task)


def _clear_output_only(settings: Queue) -> None:
    settings.state = int(QueueState.RUNNING)
    settings.ClearField("purge_time")


def _copy(settings: Queue) -> Queue:
    copy = Queue()
    copy.CopyFrom(settings)
    return copy
