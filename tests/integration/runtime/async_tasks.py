"""``async def`` functions that tests defer."""

import asyncio
import threading
from collections.abc import Coroutine, Generator
from typing import Any

from gae_deferred import attempt

from .tasks import RAN, count, increment


async def add_later(name: str, amount: int) -> None:
    """Let others run, then write to Datastore, which works on the loop: NDB is synchronous."""
    await asyncio.sleep(0)
    increment(name, amount)
    RAN.put(count(name))


async def meet(first: str, second: str) -> list[str]:
    """Run two coroutines at the same time: each needs the other to end."""
    arrived = {first: asyncio.Event(), second: asyncio.Event()}

    async def arrive(name: str, other: str) -> str:
        arrived[name].set()
        await arrived[other].wait()
        return name

    both = await asyncio.gather(arrive(first, second), arrive(second, first))
    RAN.put(both)
    return both


async def fail(error: type[BaseException]) -> None:
    await asyncio.sleep(0)
    RAN.put(threading.current_thread().name)
    raise error("on purpose")


async def leave_behind() -> None:
    """End with a task that nobody awaits: it is cancelled."""

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            RAN.put("cancelled")
            raise

    left = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0)
    RAN.put(left.done())


class Clerk:
    """Has methods that are ``async def``."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def greet(self, whom: str) -> None:
        RAN.put(f"{self.name} greets {whom}")

    async def __call__(self, whom: str) -> None:
        RAN.put(f"{self.name} is called by {whom}")


def return_coroutine(*args: Any) -> Any:
    """Return a coroutine without being an ``async def``."""
    return meet(*args)


class CompiledCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine of another class than the interpreter's, as Cython makes one of an ``async def``."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        return self._inner.throw(*error)


def return_compiled_coroutine(*args: Any) -> Any:
    return CompiledCoroutine(meet(*args))


async def wait_for_ever() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        RAN.put("cancelled at the deadline")
        raise


def wait_near_the_deadline(used: float) -> Any:
    """Return a coroutine that does not end, as if the request had come some seconds ago."""
    this: Any = attempt.current()
    this.delivery.started -= used
    return wait_for_ever()


async def time_out() -> None:
    """Raise the class of error that the deadline raises, for a reason of its own."""
    async with asyncio.timeout(0):
        await asyncio.Event().wait()


class Awaitable:
    """Can be awaited, and is no coroutine."""

    def __await__(self) -> Generator[None]:
        yield


class _WithoutHash(type):
    __hash__ = None  # type: ignore[assignment]


class OfNoHash(metaclass=_WithoutHash):
    """An object whose class cannot be a key: the ABCs of ``collections`` raise for it."""
