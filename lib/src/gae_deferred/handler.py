"""Handles the requests of a queue: proves the sender, runs the task, and answers.

The names are public in :mod:`gae_deferred.deferred`.
"""

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from gae_deferred import (
    authentication,
    datastore,
    dead_letters,
    ending,
    failure_header,
    headers,
    outbox,
    replays,
    settings,
    slow_client,
)
from gae_deferred.attempt import Attempt
from gae_deferred.delivery import Delivery
from gae_deferred.django_connections import refreshed_connections
from gae_deferred.errors import PermanentTaskFailure, RequestRefusedError, SingularTaskFailure, TaskNotKeptError
from gae_deferred.limits import MAX_TASK_BYTES

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Response = tuple[str, HTTPStatus, list[tuple[str, str]]]

_OK = HTTPStatus.OK
"""Looked up once: in Python 3.11 the look-up takes as long as reading a setting."""

_OUTBOX = headers.OUTBOX.environ_key

_PLAIN_TEXT = ("Content-Type", "text/plain")

_logger = logging.getLogger("gae_deferred.deferred")  # the public name, which apps set levels by
_log_level = logging.INFO


def set_log_level(log_level: int) -> None:
    """Set the level, such as ``logging.DEBUG``, of the line that the library logs for each task that it runs."""
    global _log_level
    _log_level = log_level


class Handler:
    """Runs the tasks that a queue posts to a URL.

    An instance is a WSGI app. To run tasks on a URL of your own, mount an instance there, or pass the WSGI environ of a
    POST request to :meth:`post` and send the answer that it returns. Override :meth:`post` or :meth:`run_from_request`
    to do more.

    The task runs in the open NDB context, or else in one of its own, and in the namespace in which it was deferred.
    """

    def run_from_request(self, environ: "WSGIEnvironment") -> Response:
        """Prove who sent the request, then run the task in its body.

        Parameters:
            environ: the WSGI environ (PEP 3333) of a POST request.

        Returns:
            Body, status and headers of the answer. The status is 200, or tells why the request is refused: 403 if the
            task queue did not send it, 411 if its body has no length, 413 if the body is longer than any task, 400 if
            it is empty or cut short or its length is not a number, 408 if it does not arrive in time, 503 if the sender
            cannot be proven now.

        Raises:
            PermanentTaskFailure: the body can never be unpickled, or the task raised it; it is kept as a dead letter.
            TaskNotReadableYetError: the body cannot be unpickled now; another attempt follows.
            TaskNotKeptError: the task has failed for good, and no dead letter can be kept now.
            TaskExitError: the task ended by ``SystemExit`` or the like, as of ``sys.exit()``.
            Exception: what the task raises; on its last attempt, as far as that is known, it is kept as a dead letter.
        """
        try:
            delivery = Delivery(environ)
            check_body = authentication.check_headers(delivery)
            body = _read_body(environ)
            check_body(delivery, body)
        except RequestRefusedError as refusal:
            _logger.error("Refused a request to run a task (%d): %s", refusal.status, refusal)
            slow_client.stop_listening(environ)
            return str(refusal), refusal.status, [_PLAIN_TEXT]
        if _logger.isEnabledFor(_log_level):
            _logger.log(
                _log_level, "Running task %s of queue %s, retry %s", delivery.name, delivery.queue, delivery.retry_count
            )
        this = Attempt(delivery, body)
        has_receipt = settings.keeps_receipts()
        with refreshed_connections(datastore.context(delivery.namespace)):
            try:
                if has_receipt and replays.has_run(delivery):
                    _logger.warning("The task %s has run before; this delivery does nothing", delivery.name)
                    outbox.forget(delivery)  # the first delivery may have failed to
                    return "Success", _OK, [_PLAIN_TEXT]
                if delivery.is_last:
                    dead_letters.note_ahead(this)
                this.run()
            except BaseException as error:
                ending.end_if_due(this, error)
                raise
            if _OUTBOX in environ:
                outbox.forget(delivery)
            if has_receipt:
                replays.note(delivery)
            if this.note is not None:
                dead_letters.withdraw_note(this)
        return "Success", _OK, [_PLAIN_TEXT]

    def post(self, environ: "WSGIEnvironment") -> Response:
        """Run the task of a POST request, and answer the queue.

        Parameters:
            environ: the WSGI environ (PEP 3333) of the request.

        Returns:
            Body, status and headers of the answer: those of :meth:`run_from_request`, or for a
            :class:`SingularTaskFailure` 408 (the queue tries again), for a :class:`PermanentTaskFailure` 200 (it does
            not), or if that could not be kept 503 (it tries again).

        Raises:
            Exception: the task raised another error. The framework answers 500, and the queue tries again.
        """
        try:
            return self.run_from_request(environ)
        except SingularTaskFailure:
            _logger.debug("The task asked to be tried again")
            return "SingularTaskFailure", HTTPStatus.REQUEST_TIMEOUT, [_PLAIN_TEXT, *failure_header.of(environ)]
        except PermanentTaskFailure:
            _logger.exception("The task failed for good and will not be tried again")
            return "PermanentTaskFailure", HTTPStatus.OK, [_PLAIN_TEXT, *failure_header.of(environ)]
        except TaskNotKeptError:
            _logger.exception("The task will be tried again, because no dead letter of it could be kept")
            return "TaskNotKeptError", HTTPStatus.SERVICE_UNAVAILABLE, [_PLAIN_TEXT]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        """Answer a request as a WSGI app: run the task of a POST, refuse any other method with 405."""
        if environ["REQUEST_METHOD"] == "POST":
            text, status, response_headers = self.post(environ)
        else:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            text, response_headers = "Tasks are sent with POST", [("Allow", "POST"), _PLAIN_TEXT]
        start_response(f"{status.value} {status.phrase}", response_headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [text.encode()]


def _read_body(environ: "WSGIEnvironment") -> bytes:
    """Return the request's body.

    Raises:
        RequestRefusedError: the length is missing, is not a number, is zero or more than any task's, or the body is
            shorter.
    """
    declared = str(environ.get("CONTENT_LENGTH", ""))  # some servers and tests give an integer
    if not (declared.isascii() and declared.isdecimal()):
        if not declared.strip():
            raise RequestRefusedError(HTTPStatus.LENGTH_REQUIRED, "The request has no Content-Length")
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, f"The Content-Length {declared!r} is not a number")
    length = int(declared.lstrip("0")[:20] or 0)  # Python refuses to read thousands of digits
    if length > MAX_TASK_BYTES:
        raise RequestRefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body has {length} bytes, more than the {MAX_TASK_BYTES} of the largest task",
        )
    if length == 0:
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, "The body is empty; a task has a payload")
    body = slow_client.read(environ, length)
    if len(body) < length:
        raise RequestRefusedError(
            HTTPStatus.BAD_REQUEST,
            f"The body ends after {len(body)} of {length} bytes; it was cut short, or the app has read it before",
        )
    return body
