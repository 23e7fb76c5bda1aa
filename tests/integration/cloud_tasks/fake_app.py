"""An app without sockets, for tests that count turns of the event loop."""

import asyncio
from dataclasses import dataclass, field

from gae_local_cloud.clock import SECOND, HeldClock
from gae_local_cloud.cloud_tasks.errors import Code
from gae_local_cloud.cloud_tasks.outcome import Outcome, unanswered
from gae_local_cloud.cloud_tasks.request import OutgoingRequest

BUSY_TURNS = 40
"""Turns of the event loop within which all work ends that waits for neither the app nor the clock."""


async def turns(count: int) -> None:
    """Let the event loop run."""
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Sent:
    """A request that the app has received."""

    name: str
    retries: int
    eta: int
    at: int
    forced: bool
    answer: "asyncio.Future[Outcome]"


@dataclass
class FakeApp:
    """Replaces the sender: requests in flight wait for the test's answers."""

    clock: HeldClock
    in_flight: dict[str, Sent] = field(default_factory=dict)
    log: list[Sent] = field(default_factory=list)
    forced: set[str] = field(default_factory=set)

    async def send(self, request: OutgoingRequest) -> Outcome:
        headers = dict(request.headers)
        seconds, _, micros = headers["X-AppEngine-TaskETA"].partition(".")
        name = headers["X-AppEngine-TaskName"]
        sent = Sent(
            name,
            int(headers["X-AppEngine-TaskRetryCount"]),
            int(seconds) * SECOND + int(micros),
            self.clock.now(),
            name in self.forced,
            asyncio.get_running_loop().create_future(),
        )
        self.forced.discard(name)
        assert name not in self.in_flight, "a task in flight was dispatched again"
        self.in_flight[name] = sent
        self.log.append(sent)

        def expire() -> None:
            if not sent.answer.done():
                sent.answer.set_result(unanswered(Code.DEADLINE_EXCEEDED, "no response"))

        deadline = self.clock.call_at(self.clock.now() + request.deadline, expire)
        try:
            return await sent.answer
        finally:
            deadline.cancel()
            if self.in_flight.get(name) is sent:
                del self.in_flight[name]

    async def close(self) -> None:
        pass
