"""NDB futures of tasks that are being added. Costly to import, because it loads NDB."""

import logging
from collections.abc import Callable
from concurrent import futures
from typing import Any

from google.cloud.ndb.tasklets import Future

from gae_deferred import app_contexts, datastore, threads

_logger = logging.getLogger(__name__)


class Addition(Future):
    """The future of a call in a thread.

    NDB's event loop completes it, at the latest when its NDB context is closed. An error is logged if no code has asked
    for it when the future is given up.
    """

    def __init__(self, call: "futures.Future[Any]", info: str) -> None:
        super().__init__(info)
        self._call = call
        self._error: BaseException | None = None
        self._is_complete = False
        self._is_asked_for = False

    def __call__(self, call: object = None) -> None:
        """Take over the result of the call. Waits for it."""
        if self._is_complete:
            return
        self._is_complete = True
        self._error = self._call.exception()
        if self._error is None:
            self.set_result(self._call.result())
        else:
            self.set_exception(self._error)

    def check_success(self) -> None:
        """Wait, and raise the error of the call."""
        self._is_asked_for = True
        super().check_success()

    def exception(self) -> Any:
        """Return the error of the call, or None. A tasklet that yields the future asks in this way."""
        self._is_asked_for = self._is_asked_for or self._is_complete
        return self._error

    get_exception = exception

    def cancel(self) -> None:
        """Do nothing: the call goes on, so the task may be in its queue. Call ``deferred.cancel`` with the task."""

    def __del__(self) -> None:
        if self._error is not None and not self._is_asked_for:
            _logger.error("%s failed, and no code has asked for its result", self.info, exc_info=self._error)


def start(begin: Callable[[], Callable[[], Any]], info: str) -> Addition:
    """Begin an addition now, and let a thread make its call.

    Parameters:
        begin: does what belongs to this moment and this NDB context, and returns the call.
        info: name of the addition, for the log.

    Raises:
        google.cloud.ndb.exceptions.ContextError: no NDB context is open. All other errors are those of the future.
    """
    eventloop = datastore.event_loop()
    app_contexts.finishers.add(_finish)
    call = _call(begin)
    addition = Addition(call, info)
    eventloop.queue_rpc(call, addition)
    return addition


def _call(begin: Callable[[], Callable[[], Any]]) -> "futures.Future[Any]":
    try:
        return threads.run(begin())
    except Exception as error:  # noqa: BLE001  # raised where the caller asks for the result
        failed: futures.Future[Any] = futures.Future()
        failed.set_exception(error)
        return failed


def _finish(eventloop: Any) -> None:
    """Complete the additions of an NDB context that is about to be closed without running its event loop."""
    for callback in [*eventloop.rpcs.values()]:
        if isinstance(callback, Addition):
            callback()
