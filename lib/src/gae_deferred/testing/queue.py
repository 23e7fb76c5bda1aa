"""A queue whose tasks wait until a test runs them."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.cloud import tasks_v2

from gae_deferred import headers, payload_store
from gae_deferred.call import Call
from gae_deferred.testing.attempts import Attempts
from gae_deferred.testing.clock import Clock

_FULL = tasks_v2.Task.View.FULL


@dataclass(frozen=True)
class WaitingTask:
    """A task in a queue.

    Attributes:
        name: its short name.
        call: the call that was deferred, or None if the task is a request of another kind, such as one of
            ``taskqueue.add``, or if the call cannot be read. The function of a bound method is the method of the
            unpickled object.
        problem: why the call of a deferred task cannot be read here, as the error that reading it raises, or None.
        body: the body of its request.
        url: the path that it goes to.
        eta: the time when it is due, in UTC.
        attempts: the number of its attempts so far.
        headers: the headers of its request.
    """

    name: str
    call: Call | None
    body: bytes
    url: str
    eta: datetime.datetime
    attempts: int
    headers: Mapping[str, str]
    problem: Exception | None = None


class Queue:
    """A queue, whose tasks a test looks at and runs.

    Parameters:
        path: its full name.
        client: Google's client, connected to the local Cloud Tasks.
        clock: the time.
        attempts: attempts the tasks.
        names_in_order: returns the short names of the tasks of a queue in the order in which they are dispatched.

    Attributes:
        calls: the calls that tasks of this queue have made, in order, failed attempts included.
    """

    def __init__(
        self,
        path: str,
        client: tasks_v2.CloudTasksClient,
        clock: Clock,
        attempts: Attempts,
        names_in_order: Callable[[str], Sequence[str]],
    ) -> None:
        self._path = path
        self._client = client
        self._clock = clock
        self._attempts = attempts
        self._names_in_order = names_in_order
        self.calls: list[Call] = []

    def tasks(self) -> list[WaitingTask]:
        """Return the waiting tasks, in the order of their times; equal times in the order of creation."""
        request = tasks_v2.ListTasksRequest(parent=self._path, response_view=_FULL)
        found = {waiting.name: waiting for waiting in map(_waiting, self._client.list_tasks(request))}
        return [found[name] for name in self._names_in_order(self._path) if name in found]

    def run_next(self) -> Call | None:
        """Run the next task that is due, in the app, and wait for its end.

        Returns:
            The call that it made, or None if the task is a request of another kind or cannot be read.

        Raises:
            LookupError: no task is due; the message says when the next one is.
            TaskFailed: the app answered with something else than success, as it does after a ``SingularTaskFailure``.
            Exception: the task raised it. The task waits for its next attempt, or is gone if this was the last. A
                ``PermanentTaskFailure`` is not raised: it ends the task, which the queue counts as success.
        """
        now = self._clock.now()
        waiting = self.tasks()
        if not waiting:
            raise LookupError(f"The queue {self._name!r} is empty")
        if waiting[0].eta > now:
            seconds = (waiting[0].eta - now).total_seconds()
            raise LookupError(f"No task of the queue {self._name!r} is due; the next one is in {seconds:g} s")
        self._note(waiting[:1])
        self._attempts.run(self._task_path(waiting[0]))
        return waiting[0].call

    def run_together(self) -> list[Call]:
        """Run all due tasks at the same time, as the real queue does, and wait for their ends.

        Returns:
            The calls that succeeded. A failed task waits for its next attempt, and raises nothing here.
        """
        due = [task for task in self.tasks() if task.eta <= self._clock.now()]
        self._note(due)
        calls = {task.name: task.call for task in due}
        ended = self._attempts.run_together([self._task_path(task) for task in due])
        return [call for call in map(calls.get, ended) if call is not None]

    def run_all(self, limit: int = 1000) -> list[Call]:
        """Run due tasks one by one, with those that they enqueue, until no task is due.

        Parameters:
            limit: maximum number of tasks, in case tasks enqueue others without end.

        Returns:
            The calls, in order.

        Raises:
            RuntimeError: ``limit`` tasks have run and there are more.
            TaskFailed, Exception: as for :meth:`run_next`. The other tasks wait.
        """
        done: list[Call | None] = []
        while (waiting := self.tasks()) and waiting[0].eta <= self._clock.now():
            if len(done) == limit:
                raise RuntimeError(f"{limit} tasks of the queue {self._name!r} have run, and another one is due")
            done.append(self.run_next())
        return [call for call in done if call is not None]

    @property
    def _name(self) -> str:
        return self._path.rpartition("/")[2]

    def _task_path(self, task: WaitingTask) -> str:
        return f"{self._path}/tasks/{task.name}"

    def _note(self, tasks: Iterable[WaitingTask]) -> None:
        self.calls += [task.call for task in tasks if task.call is not None]


def _waiting(message: tasks_v2.Task) -> WaitingTask:
    request = message.app_engine_http_request
    call, problem = _call_of(request)
    return WaitingTask(
        name=message.name.rpartition("/")[2],
        call=call,
        body=request.body,
        url=request.relative_uri,
        eta=tasks_v2.Task.pb(message).schedule_time.ToDatetime(datetime.UTC),
        attempts=message.dispatch_count,
        headers=dict(request.headers),
        problem=problem,
    )


def _call_of(request: tasks_v2.AppEngineHttpRequest) -> tuple[Call | None, Exception | None]:
    """Return the call of a task, or why that of a deferred one cannot be read: the others can be seen nevertheless."""
    try:
        return payload_store.read_call(request.body).unwrapped(), None
    except Exception as error:  # noqa: BLE001  # unpickling raises many classes
        return None, error if headers.CALLABLE.name in request.headers else None
