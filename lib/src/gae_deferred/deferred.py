"""The Deferred API: call a function later, in another request.

The names and their behaviour are those of ``google.appengine.ext.deferred``::

    from gae_deferred import deferred

    deferred.defer(send_invoice, customer_id, _countdown=60)

:func:`defer` puts the call into a Cloud Tasks queue. The queue posts it to ``/_ah/queue/deferred`` (or to ``_url``),
where a :class:`Handler` runs it: ``wrap_wsgi_app(app, use_deferred=True)`` routes the default URL there.
"""

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gae_deferred import attempt, batch, cloud_tasks, headers, outbox, payload, payload_store
from gae_deferred.call import check_synchronous, curry, describe, invoke_member
from gae_deferred.current_task import CurrentTask, current_task, time_left
from gae_deferred.dead_letters import on_permanent_failure
from gae_deferred.errors import (
    BadTaskStateError,
    BatchError,
    Error,
    InvalidTaskError,
    PermanentTaskFailure,
    SingularTaskFailure,
    TaskQueueError,
)
from gae_deferred.handler import Handler, set_log_level
from gae_deferred.limits import MAX_ENTITY_BYTES
from gae_deferred.once import is_once, new_identity, once, run_once
from gae_deferred.task import DEFAULT_QUEUE, DEFAULT_URL, Task, max_bytes

if TYPE_CHECKING:
    from google.cloud import ndb

__all__ = [
    "CurrentTask",
    "Error",
    "Handler",
    "PermanentTaskFailure",
    "SingularTaskFailure",
    "adefer",
    "application",
    "cancel",
    "current_task",
    "defer",
    "defer_async",
    "defer_many",
    "defer_many_async",
    "invoke_member",
    "on_permanent_failure",
    "once",
    "prepare",
    "run",
    "run_from_datastore",
    "serialize",
    "set_log_level",
    "time_left",
]

application = Handler()
"""A handler as the WSGI app that ``wrap_wsgi_app(app, use_deferred=True)`` routes to."""

_OPTIONS = ("_countdown", "_eta", "_name", "_target", "_retry_options", "_namespace", "_dispatch_deadline")

_MAX_CALLABLE_LENGTH = 200


def defer(obj: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Call ``obj(*args, **kwargs)`` later, in another request.

    Delivery is at least once: a task may run twice, and is run again when it raises. Write it so that this does no
    harm.

    Each task has a name from the start: without ``_name``, 32 random hexadecimal digits. ``defer`` repeats a call to
    Cloud Tasks whose answer is lost, for up to 20 seconds: the queue refuses a second task of the same name. A name has
    a price: Cloud Tasks looks for duplicates, and creating a task has "significantly increased latency"
    (docstring of ``google.cloud.tasks_v2.types.CreateTaskRequest.task``, which recommends random prefixes).
    ``DEFERRED_GENERATED_NAMES=off`` avoids the price. A call whose answer is lost then raises, and is not repeated.

    A payload that is too big for a task is compressed. If it is still too big, Datastore keeps it until the task has
    run: at most 9 MiB, compressed.

    Parameters:
        obj: a function, class, bound method, built-in or other callable. Functions and classes at the top level of a
            module travel by name. So do those of the script that started the process: the app that runs the task
            imports the script as a module. Lambdas, closures, and nested functions and classes travel by value
            (cloudpickle), with copies of the globals that they use, and run on the same version of Python only. The
            handler runs an ``async def`` to its end, on an event loop of its own, and cancels it at the
            ``_dispatch_deadline``.
        args: positional arguments of the callable, pickled now.
        kwargs: keyword arguments of the callable, and, beginning with an underscore, options of the task:
        _countdown: seconds from now after which the task runs.
        _eta: ``datetime.datetime`` at which the task runs; a naive one is in local time, which is UTC on App Engine.
        _name: name of the task. The queue refuses a second task of this name for up to 24 hours. Names that begin with
            a date or a counter slow down the whole queue (the same docstring).
        _target: App Engine service or ``version.service`` to run it on; by default the version that calls ``defer``.
        _queue: name of the queue; ``"default"`` by default.
        _url: path of a handler of your own; see :class:`Handler`.
        _headers: dict of further headers of the request. Cloud Tasks sets ``Host``, ``Content-Length``,
            ``X-AppEngine-*`` and ``X-Google-*`` by itself; these are left out.
        _retry_options: a :class:`~gae_deferred.TaskRetryOptions`.
        _namespace: Datastore namespace in which the task runs: keys and queries that name none belong to it. By
            default it is that of the open NDB context. ``""`` is the default namespace.
        _dispatch_deadline: seconds after which the queue counts an attempt as failed: 15 to 1,800 for an HTTP task, 15
            to 86,400 for an App Engine task, whose scaling may allow less. By default Cloud Tasks takes 10 minutes, on
            App Engine with basic or manual scaling 24 hours. The task can ask for :func:`time_left`.
        _transactional: enqueue if and only if the current NDB transaction commits, and at once when it has.
        _once: let the effects in Datastore happen once, however often the task is delivered; see :func:`once`.

    Returns:
        The task. Its ``was_enqueued`` is true once a queue has taken it, with ``_transactional`` after the commit.

    Raises:
        ValueError: ``obj`` is not callable, or a call of it would do nothing (a generator function), or it is an
            ``async def`` and ``_once`` is true: Cloud NDB is synchronous.
        SerializationError: the callable or an argument cannot be pickled, or something else is found by its name, as
            by that of a function that a decorator has replaced.
        InvalidTaskError: an option is not valid (its subclasses: name, URL, ETA, dispatch deadline, size).
        InvalidQueueNameError: no queue can have that name.
        BadTransactionStateError: ``_transactional`` is true outside a transaction.
        ConfigurationError: the project, the location of the queue or the credentials are missing, or nothing could
            prove the task where it runs.
        UnknownQueueError: the queue does not exist.
        TaskAlreadyExistsError: the name in ``_name`` has been used in the last 24 hours. If the error's
            ``may_be_enqueued`` is true, a call for this task may have used it. Never with ``_transactional``: the queue
            says so after the commit, and the task with that name counts as this one.
        TransientError: Cloud Tasks could not be reached, or is overloaded.
        TaskQueueError: Cloud Tasks refused the task for another reason. All errors above are subclasses of it, except
            ``ValueError``, ``SerializationError`` and ``ConfigurationError``. If the error's ``may_be_enqueued`` is
            true, the queue may have the task nevertheless. Another ``defer`` would then make a second task;
            ``defer_many([error.task])`` repeats this one safely, within an hour: Google's quota page lets a queue
            forget names after that.
    """
    return _enqueue(prepare(obj, *args, **kwargs))


def defer_async(obj: Callable[..., Any], *args: Any, **kwargs: Any) -> "ndb.Future":
    """Begin what :func:`defer` does, and return at once. The arguments are the same.

    The callable and its arguments are pickled now; a thread makes the calls to Cloud Tasks and, for a big payload, to
    Datastore. With ``_transactional`` the task is part of the transaction when this returns.

    Example::

        @ndb.tasklet
        def remind_all(orders):
            tasks = yield [deferred.defer_async(remind, order.key) for order in orders]

    Returns:
        An NDB future of the task: ``yield`` it in a tasklet, or call its ``get_result()``. All errors of :func:`defer`
        arrive there. The request does not end before the call has. If no code asks for the result, an error is logged.

    Raises:
        google.cloud.ndb.exceptions.ContextError: no NDB context is open.
    """
    from gae_deferred import additions  # loads NDB

    return additions.start(lambda: _begin(obj, args, kwargs), f"defer_async of {describe(obj)}")


async def adefer(obj: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Do what :func:`defer` does, while the event loop of asyncio goes on. Arguments, result and errors are the same.

    The callable and its arguments are pickled in the thread of the event loop. Another thread makes the calls to Cloud
    Tasks and, for a big payload, to Datastore. If the coroutine is cancelled meanwhile, the task may be enqueued.

    Example::

        await asyncio.gather(*(deferred.adefer(remind, order) for order in orders))
    """
    from asyncio import wrap_future  # asyncio is loaded where this runs

    from gae_deferred import threads

    return await wrap_future(threads.run(_begin(obj, args, kwargs)))


def prepare(obj: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Make the task that :func:`defer` would enqueue, for :func:`defer_many`. Arguments and errors are the same.

    Example::

        deferred.defer_many(deferred.prepare(send_invoice, customer) for customer in customers)
    """
    return _pickle(obj, args, kwargs)()


def _pickle(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Task]:
    """Pickle a call and check its options, and return what makes the task."""
    options = {name[1:]: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
    options["url"] = kwargs.pop("_url", DEFAULT_URL)
    options["queue"] = kwargs.pop("_queue", DEFAULT_QUEUE)
    fixed_headers = {"Content-Type": "application/octet-stream", headers.CALLABLE.name: _name_for_header(obj)}
    own_headers = kwargs.pop("_headers", None) or {}
    try:
        options["headers"] = fixed_headers | own_headers
    except (TypeError, ValueError) as error:
        raise InvalidTaskError(f"The headers are {own_headers!r:.100}; they take a dict") from error
    transactional = options["transactional"] = bool(kwargs.pop("_transactional", False))
    if transactional:
        outbox.check_transaction()
    if kwargs.pop("_once", False) or is_once(obj):
        check_synchronous(obj)
        function, args, kwargs = curry(obj, args, kwargs)
        data, python = payload.write(run_once, (new_identity(), function, *args), kwargs)
    else:
        data, python = payload.write(obj, args, kwargs)
    return functools.partial(_make_task, data, python, options, has_own_headers=bool(own_headers))


def _make_task(data: bytes, python: str | None, options: dict[str, Any], *, has_own_headers: bool) -> Task:
    """Make the task of a pickled call. Stores a payload that is too big."""
    transactional = options["transactional"]
    stored = None
    limit = min(max_bytes(), MAX_ENTITY_BYTES) if transactional else max_bytes()
    if has_own_headers or len(data) > limit // 2:  # half of it leaves room for everything else
        room = limit - Task(b"", **options).size
        if len(data) > room:
            data, stored = payload_store.shrink(data, room, transactional=transactional)
    task = Task(data, **options)
    task.stored_payload, task.python = stored, python
    return task


def _begin(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Task]:
    """Pickle a call, and return the rest of :func:`defer`, for another thread.

    A transactional task becomes part of its transaction now.
    """
    make_task = _pickle(obj, args, dict(kwargs))
    if not kwargs.get("_transactional"):
        return lambda: _enqueue(make_task())
    task = _enqueue(make_task())
    return lambda: task


def _enqueue(task: Task) -> Task:
    if task.transactional:
        outbox.add([task])
        return task
    try:
        cloud_tasks.create(task)
    except TaskQueueError as error:
        _discard_payload(task, error)
        raise
    return task


def defer_many(tasks: Iterable[Task]) -> list[Task]:
    """Enqueue many prepared tasks, with one call for up to 100 tasks of a queue.

    Parameters:
        tasks: tasks that :func:`prepare` returned. They may go to different queues.

    Returns:
        The tasks in the same order. Each is enqueued, or with ``_transactional`` part of the transaction.

    Raises:
        BatchError: some tasks were not enqueued. Its ``failures`` holds the error of each by its index. All other
            tasks were enqueued. ``defer_many`` takes the failed tasks again, and makes no second one of a task whose
            error has a true ``may_be_enqueued``.
        BadTaskStateError: a task has been enqueued before, or is listed twice. No task is enqueued.
        DuplicateTaskNameError: two tasks for one queue have the same name. No task is enqueued.
        BadTransactionStateError: a task is transactional, outside a transaction. No task is enqueued.
    """
    return begin_many(tasks)()


def defer_many_async(tasks: Iterable[Task]) -> "ndb.Future":
    """Begin what :func:`defer_many` does, and return at once.

    Returns:
        An NDB future of the list of tasks, as :func:`defer_async` returns one of a task.

    Raises:
        google.cloud.ndb.exceptions.ContextError: no NDB context is open.
    """
    from gae_deferred import additions  # loads NDB

    prepared = list(tasks)
    return additions.start(lambda: begin_many(prepared), f"defer_many_async of {len(prepared)} tasks")


def begin_many(tasks: Iterable[Task]) -> Callable[[], list[Task]]:
    """Check tasks, and return the rest of :func:`defer_many`, for another thread.

    Transactional tasks become part of their transaction now.
    """
    prepared = list(tasks)
    batch.check(prepared)
    transactional = [task for task in prepared if task.transactional]
    if transactional:
        outbox.add(transactional)
    return functools.partial(_enqueue_many, prepared)


def _enqueue_many(prepared: list[Task]) -> list[Task]:
    immediate = {index: task for index, task in enumerate(prepared) if not task.transactional}
    try:
        if immediate:
            cloud_tasks.create_many([*immediate.values()])
    except BatchError as error:
        indices = [*immediate]
        failures = {indices[position]: failure for position, failure in error.failures.items()}
        for index, failure in failures.items():
            _discard_payload(prepared[index], failure)
        raise BatchError(failures, len(prepared)) from error
    return prepared


def cancel(task: Task) -> bool:
    """Delete a task that waits in its queue, so that it does not run, or after a failed attempt not again.

    The queue is asked whether it is delivering the task, and then told to delete it: a task whose delivery begins
    between the two runs nevertheless, at most once, and True is returned. Cloud Tasks cannot exclude that: it deletes a
    task that it is delivering, without interrupting it (docstring of ``CloudTasksClient.delete_task``, and
    ``Task.dispatch_deadline``). Its name stays taken, as if the task had run.

    The account needs the permissions ``cloudtasks.tasks.get`` and ``cloudtasks.tasks.delete``, such as the roles
    ``roles/cloudtasks.viewer`` and ``roles/cloudtasks.taskDeleter`` have them; ``roles/cloudtasks.enqueuer``, which
    ``defer`` needs, does not.

    Parameters:
        task: what :func:`defer` or :func:`defer_many` returned, or the ``task`` of an error of theirs.

    Returns:
        Whether it is deleted: False if it has run, is running, or has been deleted before.

    Raises:
        BadTaskStateError: no queue has been given the task. A transactional one is given to it when its transaction has
            committed; to cancel it before, let the transaction fail.
        PermissionDeniedError: the account lacks a permission.
        TransientError: Cloud Tasks could not be reached; whether the task is deleted is not known. Call again: False
            means that it is, or has run.
        TaskQueueError: any other refusal of Cloud Tasks.
    """
    if task.name is None or not (task.was_enqueued or task.may_be_enqueued):
        wait = "; its transaction has not committed, or a sweep is still to send it" if task.transactional else ""
        raise BadTaskStateError(f"{task!r} is in no queue that it could be deleted from{wait}")
    is_deleted = cloud_tasks.delete_waiting(task.queue_name, task.name)
    if is_deleted:
        task.was_enqueued = True
        if task.stored_payload is not None:
            payload_store.finish(task.stored_payload)
    return is_deleted


def serialize(obj: Callable[..., Any], *args: Any, **kwargs: Any) -> bytes:
    """Return a call as the bytes that :func:`run` takes: a pickle of ``(callable, args, kwargs)``.

    Raises:
        ValueError: ``obj`` is not callable, or is a generator function.
        SerializationError: the callable or an argument cannot be pickled.
    """
    return payload.write(obj, args, kwargs)[0]


def run(data: bytes) -> Any:
    """Unpickle a call and make it.

    Warning: unpickling runs code of the writer's choice. Prove first who wrote the bytes.

    Parameters:
        data: bytes that :func:`serialize` has returned, or the bundled SDK's.

    Returns:
        The result of the callable.

    Raises:
        PermanentTaskFailure: the bytes can never be unpickled, or are no call.
        TaskNotReadableYetError: the bytes cannot be unpickled now: an import failed, or what they name is not there.
        TaskExitError: the callable ended by ``SystemExit`` or the like.
        Exception: what the callable raises.
    """
    return attempt.run(data)


def run_from_datastore(key: str) -> Any:
    """Make a call that the bundled SDK stored in Datastore because it was too big for a task. Then delete the entity.

    Parameters:
        key: the URL-safe key of a ``_DeferredTaskEntity``.

    Returns:
        The result of the callable.

    Raises:
        PermanentTaskFailure: there is no such entity, or it holds no call, or nothing proves who wrote it; or the
            callable raised it.
        TaskNotReadableYetError: the call cannot be unpickled now.
        Exception: what the callable raises; the entity stays for the next attempt.
    """
    from gae_deferred import bundled_payload

    entity_key, parts = bundled_payload.fetch(key)
    try:
        result = attempt.make(parts)
    except PermanentTaskFailure:
        if attempt.current() is None:  # else the entity stays until a dead letter takes its place
            entity_key.delete()
        raise
    entity_key.delete()
    return result


def _discard_payload(task: Task, error: TaskQueueError) -> None:
    """Delete the stored payload of a refused task, unless the queue may have taken the task nevertheless."""
    if task.stored_payload is not None and not error.may_be_enqueued:
        payload_store.discard(task.stored_payload)


def _name_for_header(obj: Callable[..., Any]) -> str:
    name = describe(obj)
    if not (name.isascii() and name.isprintable()):
        name = name.encode("ascii", "backslashreplace").decode()
        name = "".join(char for char in name if char.isprintable())
    return name[:_MAX_CALLABLE_LENGTH]
