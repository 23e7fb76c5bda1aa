"""Holds, advances and runs the local cloud's clock."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gae_local_cloud.clock import SECOND, Clock, HeldClock
from gae_local_cloud.console.text import rough_duration
from gae_local_cloud.controlled_clock import ControlledClock

_MAX_ADVANCE = 366 * 86400.0

_DRIFT = 2 * SECOND
"""Difference to the machine's clock that is not worth a word."""


class TimeControl:
    """The local cloud's clock, as a page shows and sets it.

    Parameters:
        clock: the clock.
        advance: moves it by a number of seconds, and returns when all that comes due has been attempted.
    """

    def __init__(self, clock: Clock, advance: Callable[[float], Awaitable[None]]) -> None:
        self._clock = clock
        self._advance = advance
        self._advancing: asyncio.Task[None] | None = None
        self._target = 0

    def now(self) -> int:
        """Return the local cloud's time, in microseconds since the epoch."""
        return self._clock.now()

    @property
    def settable(self) -> bool:
        """Whether the clock can be held and advanced."""
        return isinstance(self._clock, HeldClock | ControlledClock)

    @property
    def can_run(self) -> bool:
        """Whether the clock can run at real speed. That of a test cannot."""
        return isinstance(self._clock, ControlledClock)

    @property
    def held(self) -> bool:
        """Whether the clock stands still."""
        return self._clock.held if isinstance(self._clock, ControlledClock) else isinstance(self._clock, HeldClock)

    @property
    def target(self) -> int | None:
        """The time that the clock is being advanced to, None if it is not."""
        return self._target if self._advancing is not None else None

    @property
    def difference(self) -> str:
        """How far the clock is from the machine's, such as ``1 h ahead of``; ``""`` if it is not."""
        ahead = self._clock.ahead if isinstance(self._clock, ControlledClock) else 0
        if abs(ahead) < _DRIFT:
            return ""
        return f"{rough_duration(abs(ahead) / SECOND)} {'ahead of' if ahead > 0 else 'behind'}"

    @property
    def behind(self) -> float:
        """Seconds by which the clock is behind the machine's, 0 if it is not."""
        if not isinstance(self._clock, ControlledClock) or self._clock.ahead > -_DRIFT:
            return 0
        return -self._clock.ahead / SECOND

    async def act(self, action: str, seconds: str) -> None:
        """Do what a form asks for.

        Parameters:
            action: ``hold``, ``run``, ``advance``, ``catch-up``, or ``stop``, which ends an advance.
            seconds: to advance by.

        Raises:
            HTTPBadRequest: there is no such action, or it is not possible now.
        """
        if action == "stop":
            await self.stop()
        elif action == "advance":
            await self._begin_advance(_seconds(seconds))
        elif action == "catch-up":
            await self._begin_advance(self.behind)
        elif action in ("hold", "run") and isinstance(self._clock, ControlledClock):
            await self.stop()
            (self._clock.hold if action == "hold" else self._clock.run)()
        else:
            raise web.HTTPBadRequest(text="This clock cannot do that.")

    async def _begin_advance(self, seconds: float) -> None:
        """Advance the clock, and return when that is done or takes long: pages show then that it goes on."""
        if not self.settable:
            raise web.HTTPBadRequest(text="This clock cannot be advanced.")
        if self._advancing is not None:
            raise web.HTTPBadRequest(text="The clock is being advanced already.")
        self._target = self._clock.now() + round(seconds * SECOND)
        self._advancing = asyncio.ensure_future(self._advance(seconds))
        self._advancing.add_done_callback(self._advanced)
        await asyncio.wait([self._advancing], timeout=1.0)

    def _advanced(self, advancing: "asyncio.Task[None]") -> None:
        self._advancing = None
        if not advancing.cancelled():
            advancing.result()  # raises what went wrong, which the event loop reports

    async def stop(self) -> None:
        """End an advance where it is."""
        if self._advancing is not None:
            self._advancing.cancel()
            await asyncio.wait([self._advancing])


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= _MAX_ADVANCE:
        raise web.HTTPBadRequest(text="The clock can be advanced by up to 366 days.")
    return seconds
