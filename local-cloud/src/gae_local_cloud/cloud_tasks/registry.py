"""The queues of a server, each with its dispatcher."""

import asyncio
from collections.abc import Iterator

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.dispatch import DispatchContext, Dispatcher
from gae_local_cloud.cloud_tasks.errors import already_exists, failed_precondition, not_found
from gae_local_cloud.cloud_tasks.messages import Queue

TOMBSTONE_LIFETIME = 24 * 3600 * SECOND
"""Microseconds that a task's name stays taken after the task is gone, in a queue created through the API."""

YAML_TOMBSTONE_LIFETIME = 9 * 24 * 3600 * SECOND
"""The same for a queue created by ``queue.yaml``."""

_DELETED_QUEUE_LIFETIME = 3 * 24 * 3600 * SECOND
"""Microseconds that a deleted queue's name stays taken: "up to 3 days" in the documentation of DeleteQueue."""


class QueueRegistry:
    """Finds, adds and removes queues. It begins with the queues in the store.

    Parameters:
        reuse_names: whether the name of a deleted queue is free at once.
    """

    def __init__(self, context: DispatchContext, *, reuse_names: bool) -> None:
        self._context = context
        self._reuse_names = reuse_names
        self._hidden: set[str] = set()
        self._store = context.store
        self._started = False
        self._dispatchers = {queue.name: Dispatcher(queue, context) for queue in self._store.queues()}

    def start(self) -> None:
        """Begin dispatching in every queue."""
        self._started = True
        for dispatcher in self:
            dispatcher.start()

    async def stop(self, grace: float) -> None:
        """Stop dispatching in every queue; attempts in flight have ``grace`` seconds to end."""
        self._started = False
        await asyncio.gather(*(dispatcher.stop(grace) for dispatcher in self))

    async def quiet(self) -> None:
        """Wait until every queue is :meth:`quiet <gae_local_cloud.cloud_tasks.dispatch.Dispatcher.quiet>`."""
        # Start again after each wait: an attempt may have created a task in any queue.
        while (busy := next((dispatcher for dispatcher in self if not dispatcher.is_quiet), None)) is not None:
            await busy.quiet()

    def __iter__(self) -> Iterator[Dispatcher]:
        return iter(list(self._dispatchers.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._dispatchers

    def names(self, location: str) -> list[str]:
        """Return the names of a location's queues, in lexicographical order."""
        return sorted(name for name in self._dispatchers if name.startswith(f"{location}/queues/"))

    def locations(self, project: str) -> frozenset[str]:
        """Return the ids of the locations where a project (``projects/P``) has queues."""
        prefix = f"{project}/locations/"
        return frozenset(name.split("/", 4)[3] for name in self._dispatchers if name.startswith(prefix))

    def queue(self, name: str) -> Dispatcher:
        """Return a queue, for methods that act on the queue or add tasks to it.

        Raises:
            ServiceError: NOT_FOUND if the queue does not exist or was deleted.
        """
        dispatcher = self._dispatchers.get(name)
        if dispatcher is None:
            raise not_found(
                "Queue does not exist. If you just created the queue, wait at least a minute for the queue to "
                "initialize."
            )
        return dispatcher

    def named(self, name: str) -> Dispatcher:
        """Return a queue, for DeleteQueue and for methods that act on a task of the queue.

        Raises:
            ServiceError: NOT_FOUND, with the message that production has for these methods.
        """
        dispatcher = self._dispatchers.get(name)
        if dispatcher is None:
            raise not_found("Requested entity was not found.")
        return dispatcher

    def check_name_is_free(self, name: str) -> None:
        """Check that a queue of that name may be created.

        Raises:
            ServiceError: ALREADY_EXISTS if the queue exists. FAILED_PRECONDITION if it was deleted recently, unless
                names can be reused at once, or if it is being deleted.
        """
        if name in self._dispatchers:
            raise already_exists("Queue already exists")
        reusable = self._reuse_names or not self._store.queue_existed(name, self._context.clock.now())
        if name in self._hidden or not reusable:
            raise failed_precondition(
                "The queue cannot be created because a queue with this name existed too recently. "
                "In the local cloud, --reuse-queue-names frees the name at once."
            )

    def add(self, settings: Queue, tombstone_lifetime: int = TOMBSTONE_LIFETIME) -> Dispatcher:
        """Store a queue whose name is free, and begin dispatching. Call it inside an atomic block."""
        dispatcher = Dispatcher(self._store.insert_queue(settings, tombstone_lifetime), self._context)
        self._dispatchers[settings.name] = dispatcher
        if self._started:
            dispatcher.start()
        return dispatcher

    def change(self, dispatcher: Dispatcher, settings: Queue, tombstone_lifetime: int | None = None) -> None:
        """Store and apply a queue's new settings. Call it inside an atomic block."""
        queue = dispatcher.queue
        lifetime = queue.tombstone_lifetime if tombstone_lifetime is None else tombstone_lifetime
        self._store.update_queue(queue.id, settings, lifetime)
        dispatcher.replace(queue._replace(settings=settings, tombstone_lifetime=lifetime))

    def hide(self, dispatcher: Dispatcher) -> None:
        """Hide a queue that is being deleted from all other calls."""
        del self._dispatchers[dispatcher.queue.name]
        self._hidden.add(dispatcher.queue.name)

    def show(self, dispatcher: Dispatcher) -> None:
        """Take a queue back that could not be deleted; it is stopped. Call it inside an atomic block."""
        self._hidden.discard(dispatcher.queue.name)
        self._dispatchers[dispatcher.queue.name] = dispatcher
        if self._started:
            dispatcher.start()
        self._store.release_tasks_of(dispatcher.queue.id)

    async def reload(self) -> None:
        """Take the queues and their settings from the store again, after a failed commit that may have changed them."""
        stored = {queue.name: queue for queue in self._store.queues()}
        lost = [self._dispatchers.pop(name) for name in self._dispatchers.keys() - stored.keys()]
        for name, dispatcher in self._dispatchers.items():
            dispatcher.replace(stored[name])
        for dispatcher in lost:
            await dispatcher.stop()

    def forget(self, dispatcher: Dispatcher) -> None:
        """Delete the row of an empty queue. Call it inside an atomic block."""
        until = self._context.clock.now() + _DELETED_QUEUE_LIFETIME
        self._store.delete_queue(dispatcher.queue.id, dispatcher.queue.name, until)
        self._hidden.discard(dispatcher.queue.name)
