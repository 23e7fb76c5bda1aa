"""Lets an app open an NDB context of its own inside one of this library, which Cloud NDB refuses by itself."""

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.cloud import ndb

_HINT = (
    "Outside of a request and a task, such as in a script or a shell, open one with `with gae_deferred.context():`. "
    "A thread has no context of its own either"
)

finishers: set[Callable[[Any], None]] = set()
"""Called with the event loop of an NDB context whose block has failed: NDB would drop what is in it."""

_our_clients: "weakref.WeakSet[ndb.Client]" = weakref.WeakSet()


def give_way(client: "ndb.Client") -> "ndb.Client":
    """Let the contexts of a client give way to those that the app opens inside of them. Return the client."""
    _our_clients.add(client)
    return client


def finish(context: Any) -> None:
    """Call the functions in :data:`finishers` for an NDB context that is about to be closed."""
    for finisher in finishers:
        finisher(context.eventloop)


def patch_ndb() -> None:
    """Patch ``ndb.Client.context`` and the message of ``ndb.exceptions.ContextError``. Call this once in a process.

    Inside a context of one of our clients, ``client.context()`` of the app opens the app's context, which counts until
    it is closed. Inside a context of the app's, and inside a transaction, NDB goes on to raise its ``RuntimeError``: a
    write in another context would not be part of the transaction.
    """
    from google.cloud import ndb

    client_class: Any = ndb.Client
    error_class: Any = ndb.exceptions.ContextError
    client_class.context = _with_way(client_class.context)
    error_class.__init__ = _init_context_error


def _with_way(open_context: Callable[..., Any]) -> Callable[..., Any]:
    from google.cloud.ndb.context import Context, get_context

    signature = inspect.signature(open_context)

    @contextlib.contextmanager
    @functools.wraps(open_context)
    def context(*args: Any, **kwargs: Any) -> Iterator[Any]:
        current = get_context(raise_context_error=False)
        if current is None or current.client not in _our_clients or current.in_transaction():
            with open_context(*args, **kwargs) as opened, _finishing(opened):
                yield opened
            return
        options = signature.bind(*args, **kwargs).arguments
        inner: Any = Context(options.pop("self"), **options)
        with inner.use(), _finishing(inner):
            yield inner
            inner.eventloop.run()

    return context


@contextlib.contextmanager
def _finishing(context: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        finish(context)
        raise


def _init_context_error(self: Exception, *_: object) -> None:
    text = "No current context. NDB calls must be made in context established by google.cloud.ndb.Client.context."
    Exception.__init__(self, f"{text} {_HINT}.")
