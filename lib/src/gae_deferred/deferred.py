"""The Deferred API: call a function later, in another request.

The names and their behaviour are those of ``google.appengine.ext.deferred``::

    from gae_deferred import deferred

    deferred.defer(send_invoice, customer_id, _countdown=60)

:func:`defer` puts the call into a Cloud Tasks queue. The queue posts it to ``/_ah/queue/deferred`` (or to ``_url``),
where a :class:`Handler` runs it: ``wrap_wsgi_app(app, use_deferred=True)`` routes the default URL there.
"""

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gae_deferred import (
    attempt,
    authentication,
    batch,
    cloud_tasks,
    datastore,
    dead_letters,
    headers,
    outbox,
    payload,
    payload_store,
    replays,
)
from gae_deferred.attempt import Attempt
from gae_deferred.call import curry, describe, invoke_member
from gae_deferred.dead_letters import on_permanent_failure
from gae_deferred.delivery import Delivery
from gae_deferred.django_connections import refreshed_connections
from gae_deferred.errors import (
    BadTaskStateError,
    BatchError,
    Error,
    InvalidTaskError,
    PermanentTaskFailure,
    RequestRefusedError,
    SingularTaskFailure,
    TaskQueueError,
)
from gae_deferred.once import is_once, new_identity, once, run_once
from gae_deferred.task import DEFAULT_QUEUE, DEFAULT_URL, MAX_TASK_BYTES, Task, max_bytes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = [
    "Error",
    "Handler",
    "PermanentTaskFailure",
    "SingularTaskFailure",
    "application",
    "cancel",
    "defer",
    "defer_many",
    "invoke_member",
    "on_permanent_failure",
    "once",
    "prepare",
    "run",
    "run_from_datastore",
    "serialize",
    "set_log_level",
]

Response = tuple[str, HTTPStatus, list[tuple[str, str]]]

_MAX_CALLABLE_LENGTH = 200

_logger = logging.getLogger(__name__)
_log_level = logging.INFO


def defer(obj: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Call ``obj(*args, **kwargs)`` later, in another request.

    Delivery is at least once: a task may run twice, and is run again when it raises. Write it so that this does no
    harm.

    Each task has a name from the start, 32 random hexadecimal digits if it is given none, so that the call to Cloud
    Tasks can be made again, within 20 seconds, when its answer is lost: the queue refuses a second task of that name.
    A name has a price: looking for duplicates "significantly" increases the latency of creating a task (docstring of
    ``google.cloud.tasks_v2.types.CreateTaskRequest.task``, which recommends random prefixes).
    ``DEFERRED_GENERATED_NAMES=off`` saves it; a call without an answer is then not repeated.

    A payload that is too big for a task is compressed, and if it is still too big kept in Datastore until the task has
    run: at most 9 MiB, compressed.

    Parameters:
        obj: a function, class, bound method, built-in or other callable. What pickle finds by name travels by name, and
            so do functions and classes of the script that the process was started with, which the app that runs the
            task has to be able to import. Lambdas, closures, and nested functions and classes travel by value
            (cloudpickle), with copies of the globals that they use, to the same version of Python.
        args: positional arguments of the callable, pickled now.
        kwargs: keyword arguments of the callable, and, beginning with an underscore, options of the task:
        _countdown: seconds from now to run it in.
        _eta: ``datetime.datetime`` to run it at; a naive one is in local time, which is UTC on App Engine.
        _name: name of the task, by which the queue refuses a second one for up to 24 hours. Names that begin alike,
            such as with a date or a number that counts up, slow down the whole queue (the same docstring).
        _target: App Engine service or ``version.service`` to run it on; by default the version that calls ``defer``.
        _queue: name of the queue; ``"default"`` by default.
        _url: path of a handler of your own; see :class:`Handler`.
        _headers: dict of further headers of the request. Cloud Tasks sets ``Host``, ``Content-Length``,
            ``X-AppEngine-*`` and ``X-Google-*`` by itself; these are left out.
        _retry_options: a :class:`~gae_deferred.TaskRetryOptions`.
        _transactional: enqueue if and only if the current NDB transaction commits, and at once when it has.
        _once: let its effects in Datastore happen once, however often the task is delivered; see :func:`once`.

    Returns:
        The task, as the queue has taken it, or will: its ``was_enqueued`` is false until its transaction has committed.

    Raises:
        ValueError: ``obj`` is not callable, or a call of it would do nothing (an ``async def``, a generator function).
        SerializationError: the callable or an argument cannot be pickled, or something else is found by its name, as
            by that of a function that a decorator has replaced.
        InvalidTaskError: an option is not valid (its subclasses: name, URL, ETA, size).
        InvalidQueueNameError: there can be no queue of that name.
        BadTransactionStateError: ``_transactional`` is true, and there is no transaction.
        ConfigurationError: the project or the location of the queue is not known, or there are no credentials.
        UnknownQueueError: the queue does not exist.
        TaskAlreadyExistsError: the given name has been used in the last 24 hours; if ``may_be_enqueued`` is true,
            perhaps by this very task, in a call that was not answered. Not with ``_transactional``: the transaction has
            committed when the queue says so, and the task that has the name is taken for this one.
        TransientError: Cloud Tasks could not be reached, or is overloaded.
        TaskQueueError: any other refusal of Cloud Tasks; all but ``ValueError``, ``SerializationError`` and
            ``ConfigurationError`` are subclasses of it. If its ``may_be_enqueued`` is true, the queue may have the task
            nevertheless: do not call ``defer`` again, which makes a second one, but ``defer_many([error.task])``, which
            does not, within the hour for which Cloud Tasks is sure to remember names.
    """
    task = prepare(obj, *args, **kwargs)
    if task.transactional:
        outbox.add([task])
        return task
    try:
        cloud_tasks.create(task)
    except TaskQueueError as error:
        _discard_payload(task, error)
        raise
    return task


def prepare(obj: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Make the task that :func:`defer` would enqueue, for :func:`defer_many`; arguments and errors are the same.

    Example::

        deferred.defer_many(deferred.prepare(send_invoice, customer) for customer in customers)
    """
    options = {name: kwargs.pop(f"_{name}", None) for name in ("countdown", "eta", "name", "target", "retry_options")}
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
        function, args, kwargs = curry(obj, args, kwargs)
        data, python = payload.write(run_once, (new_identity(), function, *args), kwargs)
    else:
        data, python = payload.write(obj, args, kwargs)
    stored = None
    limit = min(max_bytes(), datastore.MAX_ENTITY_BYTES) if transactional else max_bytes()
    if own_headers or len(data) > limit // 2:  # half of it leaves room for everything else
        room = limit - Task(b"", **options).size
        if len(data) > room:
            data, stored = payload_store.shrink(data, room, transactional=transactional)
    task = Task(data, **options)
    task.stored_payload, task.python = stored, python
    return task


def defer_many(tasks: Iterable[Task]) -> list[Task]:
    """Enqueue many prepared tasks with few calls, one for up to 100 of them.

    Parameters:
        tasks: what :func:`prepare` returned; they may go to different queues.

    Returns:
        The tasks in the same order, all enqueued, or with ``_transactional`` part of the transaction.

    Raises:
        BatchError: some tasks were not enqueued; its ``failures`` holds the error of each by its index. The others
            were. Those whose error has a ``may_be_enqueued`` that is true can be given to ``defer_many`` again.
        BadTaskStateError: a task has been enqueued before, or is there twice; none is enqueued.
        DuplicateTaskNameError: two tasks for one queue have the same name; none is enqueued.
        BadTransactionStateError: a task is transactional, and there is no transaction; none is enqueued.
    """
    prepared = list(tasks)
    batch.check(prepared)
    transactional = [task for task in prepared if task.transactional]
    if transactional:
        outbox.add(transactional)
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
            payload_store.discard(task.stored_payload)
    return is_deleted


def serialize(obj: Callable[..., Any], *args: Any, **kwargs: Any) -> bytes:
    """Return a call as the bytes that :func:`run` takes: a pickle of ``(callable, args, kwargs)``.

    Raises:
        ValueError: ``obj`` is not callable, or is an ``async def`` or a generator function.
        SerializationError: the callable or an argument cannot be pickled.
    """
    return payload.dump(obj, args, kwargs)


def run(data: bytes) -> Any:
    """Unpickle a call and make it. The pickle's writer decides what code runs: know who it is.

    Returns:
        What the callable returns.

    Raises:
        PermanentTaskFailure: the bytes cannot be unpickled, or are no call.
        Exception: what the callable raises.
    """
    return attempt.run(data)


def run_from_datastore(key: str) -> Any:
    """Make a call that the bundled SDK stored in Datastore because it was too big for a task, and delete it.

    Parameters:
        key: the URL-safe key of a ``_DeferredTaskEntity``.

    Returns:
        What the callable returns.

    Raises:
        PermanentTaskFailure: there is no such entity, or it holds no call; or the callable raised it.
        Exception: what the callable raises; the entity stays for the next attempt.
    """
    from gae_deferred import bundled_payload

    entity_key, parts = bundled_payload.fetch(key)
    try:
        result = attempt.make(parts)
    except PermanentTaskFailure:
        entity_key.delete()
        raise
    entity_key.delete()
    return result


def set_log_level(log_level: int) -> None:
    """Set the level, such as ``logging.DEBUG``, of the line that is logged for each task that is run."""
    global _log_level
    _log_level = log_level


class Handler:
    """Runs the tasks that a queue posts to a URL.

    To run tasks on a URL of your own, pass the WSGI environ of its POST requests to :meth:`post` and answer what it
    returns, or mount an instance there, which is a WSGI app. Override :meth:`post` or :meth:`run_from_request` to do
    more. The task runs in the NDB context that is open, or else in one of its own, and if the bundled SDK has enqueued
    it in a namespace, in that.
    """

    def run_from_request(self, environ: "WSGIEnvironment") -> Response:
        """Prove who the caller is, then run the task in the request's body.

        Parameters:
            environ: the WSGI environ (PEP 3333) of a POST request.

        Returns:
            Body, status and headers of the answer: 200, or why the request is refused: 403 for a caller that is not the
            task queue, 411 for a body of unknown length, 413 for one that is too long for a task, 400 for one that is
            empty, cut short, or has a length that is no number.

        Raises:
            PermanentTaskFailure: the body cannot be unpickled, or the task raised it; it is kept as a dead letter.
            Exception: what the task raises; on its last attempt, as far as that is known, it is kept as a dead letter.
        """
        try:
            delivery = Delivery(environ)
            check_body = authentication.check_headers(delivery)
            body = _read_body(environ)
            check_body(delivery, body)
        except RequestRefusedError as refusal:
            _logger.error("Refused a request to run a task (%d): %s", refusal.status, refusal)
            return str(refusal), refusal.status, [_PLAIN_TEXT]
        if _logger.isEnabledFor(_log_level):
            _logger.log(
                _log_level, "Running task %s of queue %s, retry %s", delivery.name, delivery.queue, delivery.retry_count
            )
        this = Attempt(delivery, body)
        with datastore.context(delivery.namespace), refreshed_connections():
            if replays.has_run(delivery):
                _logger.warning("The task %s has run before; this delivery does nothing", delivery.name)
                return "Success", _OK, [_PLAIN_TEXT]
            try:
                this.run()
            except PermanentTaskFailure as error:
                dead_letters.keep_failed(this, error, dead_letters.FAILED if this.parts else dead_letters.UNREADABLE)
                raise
            except Exception as error:
                if delivery.is_last:
                    dead_letters.keep_failed(this, error, dead_letters.GIVEN_UP)
                raise
            replays.note(delivery)
        return "Success", _OK, [_PLAIN_TEXT]

    def post(self, environ: "WSGIEnvironment") -> Response:
        """Run the task of a POST request, and answer the queue.

        Parameters:
            environ: the WSGI environ (PEP 3333) of the request.

        Returns:
            Body, status and headers of the answer: those of :meth:`run_from_request`, or for a
            :class:`SingularTaskFailure` 408 (the queue tries again), for a :class:`PermanentTaskFailure` 200 (it does
            not).

        Raises:
            Exception: what the task raises otherwise. The framework then answers 500, and the queue tries again.
        """
        try:
            return self.run_from_request(environ)
        except SingularTaskFailure:
            _logger.debug("The task asked to be tried again")
            return "SingularTaskFailure", HTTPStatus.REQUEST_TIMEOUT, [_PLAIN_TEXT]
        except PermanentTaskFailure:
            _logger.exception("The task failed for good and will not be tried again")
            return "PermanentTaskFailure", HTTPStatus.OK, [_PLAIN_TEXT]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        """Answer a request as a WSGI app: run the task of a POST, refuse any other method with 405."""
        if environ["REQUEST_METHOD"] == "POST":
            text, status, response_headers = self.post(environ)
        else:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            text, response_headers = "Tasks are sent with POST", [("Allow", "POST"), _PLAIN_TEXT]
        start_response(f"{status.value} {status.phrase}", response_headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [text.encode()]


application = Handler()
"""A handler as the WSGI app that ``wrap_wsgi_app(app, use_deferred=True)`` routes to."""

_OK = HTTPStatus.OK
"""Looked up once: for Python 3.11, that takes as long as reading a setting."""

_PLAIN_TEXT = ("Content-Type", "text/plain")


def _read_body(environ: "WSGIEnvironment") -> bytes:
    """Return the request's body.

    Raises:
        RequestRefusedError: it has no length or none that is a number, is empty, longer than any task, or shorter than
            it says.
    """
    declared = str(environ.get("CONTENT_LENGTH", ""))  # some servers and tests give an integer
    if not (declared.isascii() and declared.isdecimal()):
        if not declared.strip():
            raise RequestRefusedError(HTTPStatus.LENGTH_REQUIRED, "The request has no Content-Length")
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, f"The Content-Length {declared!r} is no number")
    length = int(declared[:20])  # Python refuses to read thousands of digits
    if length > MAX_TASK_BYTES:
        raise RequestRefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body has {length} bytes, no task has more than {MAX_TASK_BYTES}"
        )
    if length == 0:
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, "The body is empty; a task has a payload")
    body: bytes = environ["wsgi.input"].read(length)
    if len(body) < length:
        raise RequestRefusedError(
            HTTPStatus.BAD_REQUEST,
            f"The body ends after {len(body)} of {length} bytes; it was cut short, or the app has read it before",
        )
    return body


def _discard_payload(task: Task, error: TaskQueueError) -> None:
    """Delete the stored payload of a task that the queue has refused, unless it may have taken it nevertheless."""
    if task.stored_payload is not None and not error.may_be_enqueued:
        payload_store.discard(task.stored_payload)


def _name_for_header(obj: Callable[..., Any]) -> str:
    name = describe(obj).encode("ascii", "backslashreplace").decode()
    return "".join(char for char in name if char.isprintable())[:_MAX_CALLABLE_LENGTH]
