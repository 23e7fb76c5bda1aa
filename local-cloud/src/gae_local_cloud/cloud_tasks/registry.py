"""The queues of a server, each with its dispatcher."""

import asyncio
from collections.abc import Iterator

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.dispatch import Dispatcher, Surroundings
from gae_local_cloud.cloud_tasks.errors import ServiceError, failed_precondition, not_found
from gae_local_cloud.cloud_tasks.messages import Queue

TOMBSTONE_LIFETIME = 24 * 3600 * SECOND
"""How long a task's name stays taken after the task is gone, in a queue made through the API."""

YAML_TOMBSTONE_LIFETIME = 9 * 24 * 3600 * SECOND
"""The same in a queue made by ``queue.yaml``."""

_DELETED_QUEUE_LIFETIME = 3 * 24 * 3600 * SECOND


class QueueRegistry:
    """Finds, adds and removes queues. The queues that the store holds are there from the beginning."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._store = surroundings.store
        self._started = False
        self._dispatchers = {queue.name: Dispatcher(queue, surroundings) for queue in self._store.queues()}

    def start(self) -> None:
        """Begin dispatching, in every queue."""
        self._started = True
        for dispatcher in self:
            dispatcher.start()

    async def stop(self, grace: float) -> None:
        """Stop dispatching, in every queue; attempts in flight have ``grace`` seconds to end."""
        self._started = False
        await asyncio.gather(*(dispatcher.stop(grace) for dispatcher in self))

    async def quiet(self) -> None:
        """Wait until every queue is :meth:`quiet <gae_local_cloud.cloud_tasks.dispatch.Dispatcher.quiet>`."""
        # Again from the start after each wait: an attempt may have created a task in any queue.
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
        """Return the ids of the locations that a project (``projects/P``) has queues in."""
        prefix = f"{project}/locations/"
        return frozenset(name.split("/", 4)[3] for name in self._dispatchers if name.startswith(prefix))

    def queue(self, name: str) -> Dispatcher:
        """Return a queue.

        Raises:
            ServiceError: NOT_FOUND.
        """
        dispatcher = self._dispatchers.get(name)
        if dispatcher is None:
            raise not_found("Queue does not exist.")
        return dispatcher

    def queue_for_tasks(self, name: str) -> Dispatcher:
        """Return a queue that tasks are to be added to.

        Raises:
            ServiceError: NOT_FOUND; FAILED_PRECONDITION if it was deleted recently.
        """
        dispatcher = self._dispatchers.get(name)
        if dispatcher is None:
            raise self._no_queue_for_tasks(name)
        return dispatcher

    def _no_queue_for_tasks(self, name: str) -> ServiceError:
        if self._store.queue_existed(name, self._around.clock.now()):
            return failed_precondition("The queue no longer exists, though a queue with this name existed recently.")
        return not_found(
            "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize."
        )

    def add(self, settings: Queue, tombstone_lifetime: int = TOMBSTONE_LIFETIME) -> Dispatcher:
        """Store a queue whose name is free, and begin dispatching. Call it inside an atomic block."""
        dispatcher = Dispatcher(self._store.insert_queue(settings, tombstone_lifetime), self._around)
        self._dispatchers[settings.name] = dispatcher
        if self._started:
            dispatcher.start()
        return dispatcher

    def change(self, dispatcher: Dispatcher, settings: Queue, tombstone_lifetime: int | None = None) -> None:
        """Store a queue's new settings and go by them. Call it inside an atomic block."""
        queue = dispatcher.queue
        lifetime = queue.tombstone_lifetime if tombstone_lifetime is None else tombstone_lifetime
        self._store.update_queue(queue.id, settings, lifetime)
        dispatcher.replace(queue._replace(settings=settings, tombstone_lifetime=lifetime))

    def hide(self, dispatcher: Dispatcher) -> None:
        """Take a queue that is being deleted from everyone's sight."""
        del self._dispatchers[dispatcher.queue.name]

    def forget(self, dispatcher: Dispatcher) -> None:
        """Delete the stored queue, which has no tasks left. Call it inside an atomic block."""
        until = self._around.clock.now() + _DELETED_QUEUE_LIFETIME
        self._store.delete_queue(dispatcher.queue.id, dispatcher.queue.name, until)
