"""The attempts that a local cloud has made since it started, as many as fit into a bounded memory."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks import AttemptReport

MAX_TASKS = 1000
"""Tasks whose attempts are remembered, those that have ended included."""

_MAX_ATTEMPTS = 20
"""The last attempts of a task that are remembered. The first is remembered besides."""

_MAX_BODY_BYTES = 8 * 1024
"""Bytes of an ended task's body that is remembered; a larger body is dropped."""

_MAX_RECENT = 12
"""Attempts in the list of the latest."""

MINUTES = 5
"""Minutes for which attempts are counted."""

BAR_SECONDS = 5
"""Seconds that are counted together."""

_BARS = MINUTES * 60 // BAR_SECONDS


@dataclass
class PastTask:
    """A task that has been attempted.

    Attributes:
        first: its first attempt that was seen.
        latest: the attempts after the first, the oldest first, without those that were dropped.
        ended: whether the last of them was the task's last.

    Only the last attempt has the task's request, its body, and the end of the answer.
    """

    first: AttemptReport
    latest: deque[AttemptReport] = field(default_factory=lambda: deque(maxlen=_MAX_ATTEMPTS))
    ended: bool = False

    def add(self, report: AttemptReport) -> None:
        """Add an attempt."""
        if self.latest:
            self.latest[-1] = _slim(self.latest[-1])
        else:
            self.first = _slim(self.first)
        self.latest.append(report)

    @property
    def attempts(self) -> Sequence[AttemptReport]:
        """The attempts that are remembered, the oldest first."""
        return [self.first, *self.latest]

    @property
    def last(self) -> AttemptReport:
        """The last attempt."""
        return self.latest[-1] if self.latest else self.first

    @property
    def succeeded(self) -> bool:
        """Whether the last attempt was a success."""
        return self.last.succeeded


class Bars:
    """Counts attempts for a few minutes, in bars of a few seconds."""

    def __init__(self) -> None:
        self._bars: deque[tuple[int, list[int]]] = deque(maxlen=_BARS)

    def add(self, now: int, *, success: bool) -> None:
        """Count an attempt; the time is in microseconds since the epoch."""
        number = now // (BAR_SECONDS * SECOND)
        if not self._bars or self._bars[-1][0] != number:
            self._bars.append((number, [0, 0]))
        self._bars[-1][1][0 if success else 1] += 1

    def counts(self, now: int) -> Sequence[tuple[int, int]]:
        """Return the successes and failures of each bar, the oldest first; the last one is not over."""
        latest = now // (BAR_SECONDS * SECOND)
        found = dict(self._bars)
        return [
            (found[number][0], found[number][1]) if number in found else (0, 0)
            for number in range(latest - _BARS + 1, latest + 1)
        ]

    def last_minute(self, now: int) -> tuple[int, int]:
        """Return the successes and failures of the last minute, to the bar."""
        bars = self.counts(now)[-60 // BAR_SECONDS :]
        return sum(success for success, _ in bars), sum(failure for _, failure in bars)


class History:
    """What the console remembers of attempts. Give :meth:`add` each report, on the event loop."""

    def __init__(self) -> None:
        self.recent: deque[AttemptReport] = deque(maxlen=_MAX_RECENT)
        self._tasks: OrderedDict[tuple[int, str], PastTask] = OrderedDict()
        self._bars: dict[int, Bars] = {}

    def add(self, report: AttemptReport) -> None:
        """Remember an attempt that has ended."""
        queue, name = report.row.queue, report.row.name
        if len(report.row.body) > _MAX_BODY_BYTES:
            report = _without_body(report)
        self.recent.appendleft(report)
        self.bars(queue).add(report.ended, success=report.succeeded)
        past = self._tasks.get((queue, name))
        if past is None or past.last.row.id != report.row.id:  # another task of the same name, later
            past = self._tasks[queue, name] = PastTask(report)
        else:
            past.add(report)
        past.ended = report.final
        self._tasks.move_to_end((queue, name))
        if len(self._tasks) > MAX_TASKS:
            self._tasks.popitem(last=False)

    def bars(self, queue: int) -> Bars:
        """Return the counts of a queue."""
        return self._bars.setdefault(queue, Bars())

    def task(self, queue: int, name: str) -> PastTask | None:
        """Return what is remembered of a task, None if it was not attempted or is forgotten."""
        return self._tasks.get((queue, name))

    def ended(self, queue: int) -> Sequence[PastTask]:
        """Return the tasks of a queue that have ended, the last one first."""
        return [past for (number, _), past in reversed(self._tasks.items()) if number == queue and past.ended]


def _without_body(report: AttemptReport) -> AttemptReport:
    return replace(report, row=report.row._replace(body=b""))


def _slim(report: AttemptReport) -> AttemptReport:
    return replace(report, row=report.row._replace(request=b"", body=b""), answer=b"")
