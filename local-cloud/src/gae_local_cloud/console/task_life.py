"""A task's life as a picture: when it was deferred, how long it waited, and each attempt, to the scale of time."""

from collections.abc import Sequence
from dataclasses import dataclass

from gae_local_cloud.clock import SECOND
from gae_local_cloud.console.text import duration, local_time, rough_duration

WIDTH = 1000
"""Width of the picture, in its own units."""

_LEFT = 130
"""Where the time axis begins; the rows' names are left of it."""

_RIGHT = 985
_ROW = 46
_TOP = 12
_THINNEST = 5
"""Width of an attempt that takes no time."""

_CHARACTER = 8.3
"""Width of a character of a row's text, at most."""

_MAX_ROWS = 14
"""Attempts in the picture. Of more, those in the middle are left out."""

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Seconds between two marks of the axis, of which the picture has at most seven."""


@dataclass(frozen=True)
class Try:
    """An attempt.

    Attributes:
        number: 1 for the first.
        began, ended: in microseconds since the epoch; an attempt in flight has not ended.
        success: whether it was answered with success.
        outcome: how it ended, such as ``500``.
        wait: seconds until the next attempt; None if there is none.
    """

    number: int
    began: int
    ended: int | None
    success: bool = False
    outcome: str = ""
    wait: float | None = None


@dataclass(frozen=True)
class Life:
    """What is known of a task, in microseconds since the epoch.

    Attributes:
        deferred: when it was created.
        due: when it was to run first.
        tries: its attempts, as far as they are known, the oldest first.
        next_time: when it is to run next, None if it has ended or is in flight.
        now: the time.
        held_back: why a task that is due does not run, or ``""``.
    """

    deferred: int
    due: int
    tries: Sequence[Try]
    next_time: int | None
    now: int
    held_back: str = ""


@dataclass(frozen=True)
class Mark:
    """A bar or line of a row: where it begins and how wide it is."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True)
class Row:
    """A row of the picture."""

    name: str
    text: str
    text_x: float
    y: float
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Tick:
    """A mark of the time axis."""

    x: float
    text: str


@dataclass(frozen=True)
class Picture:
    """A picture to draw.

    Attributes:
        height: in the picture's units.
        axis: where the axis is.
        description: the same in words.
    """

    height: float
    axis: float
    rows: Sequence[Row]
    ticks: Sequence[Tick]
    description: str


class _Scale:
    """Turns times into places."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.span = max(last - first, SECOND // 100)

    def x(self, time: int) -> float:
        return _LEFT + (_RIGHT - _LEFT - _THINNEST) * (time - self.first) / self.span

    def mark(self, kind: str, began: int, ended: int) -> Mark:
        x = self.x(began)
        return Mark(kind, round(x, 1), round(max(_THINNEST, self.x(ended) - x), 1))


def draw(life: Life) -> Picture:
    """Return the picture of a task's life."""
    last = max([life.due, life.now if life.next_time or _in_flight(life) else 0, life.next_time or 0, *_ends(life)])
    scale = _Scale(life.deferred, last)
    rows = [_waiting(life, scale)]
    before: Try | None = None
    for attempt in life.tries:
        rows.append(_attempt(life, scale, attempt, before))
        before = attempt
    if len(rows) > _MAX_ROWS:
        left_out = len(rows) - _MAX_ROWS
        rows[3 : 3 + left_out] = [("", f"{left_out} more attempts, which the table has", [])]
    if before is not None and life.next_time is not None:
        marks = [scale.mark("delay", before.ended or before.began, life.next_time)]
        rows.append(("Next", _until(life, life.next_time), marks))
    placed = [_place(number, *row) for number, row in enumerate(rows)]
    axis = _TOP + len(rows) * _ROW + 6
    words = [f"{name}: {text}" for name, text, _ in rows]
    return Picture(axis + 34, axis, placed, _ticks(scale), ". ".join(words))


def _in_flight(life: Life) -> bool:
    return bool(life.tries) and life.tries[-1].ended is None


def _ends(life: Life) -> Sequence[int]:
    return [attempt.ended or attempt.began for attempt in life.tries]


_Unplaced = tuple[str, str, Sequence[Mark]]
"""A row's name, text and marks."""


def _waiting(life: Life, scale: _Scale) -> _Unplaced:
    first = life.tries[0].began if life.tries else None
    marks = [scale.mark("waiting", life.deferred, life.due)] if life.due > life.deferred else []
    end = first if first is not None else life.now
    if end - life.due > SECOND // 20:
        marks.append(scale.mark("due", max(life.due, life.deferred), end))
    if first is not None:
        waited = (first - life.deferred) / SECOND
        return "Deferred", f"at {local_time(life.deferred, life.now)}, waited {duration(waited)}", marks
    if life.due > life.now:
        return "Deferred", f"at {local_time(life.deferred, life.now)}, {_until(life, life.due)}", marks
    return "Deferred", f"due for {rough_duration((life.now - life.due) / SECOND)}{life.held_back}", marks


def _until(life: Life, time: int) -> str:
    at = f"at {local_time(time, life.now)}"
    left = (time - life.now) / SECOND
    return f"is to run in {rough_duration(left)}, {at}" if left > 0 else f"is due since then, {at}{life.held_back}"


def _attempt(life: Life, scale: _Scale, attempt: Try, before: Try | None) -> _Unplaced:
    marks = []
    text = ""
    if before is not None and before.ended is not None and attempt.number == before.number + 1:
        marks.append(scale.mark("delay", before.ended, attempt.began))
        text = f"after {duration((attempt.began - before.ended) / SECOND)}: "
    if attempt.ended is None:
        marks.append(scale.mark("in-flight", attempt.began, life.now))
        return (
            f"Attempt {attempt.number}",
            f"{text}in flight for {duration((life.now - attempt.began) / SECOND)}",
            marks,
        )
    marks.append(scale.mark("success" if attempt.success else "failure", attempt.began, attempt.ended))
    took = duration((attempt.ended - attempt.began) / SECOND)
    return f"Attempt {attempt.number}", f"{text}{attempt.outcome} in {took}", marks


def _place(number: int, name: str, text: str, marks: Sequence[Mark]) -> Row:
    start = max((mark.x for mark in marks), default=_LEFT)
    x = max(_LEFT, min(start, WIDTH - _CHARACTER * len(text)))
    return Row(name, text, round(x, 1), _TOP + number * _ROW, marks)


def _ticks(scale: _Scale) -> Sequence[Tick]:
    seconds = scale.span / SECOND
    if seconds < 2:
        return [Tick(_LEFT, "0"), Tick(_RIGHT, f"+{duration(seconds)}")]
    step = next((step for step in _STEPS if seconds / step <= 7), 86400 * (1 + int(seconds // (7 * 86400))))
    marks = range(0, int(seconds) + 1, step)
    return [Tick(round(scale.x(scale.first + mark * SECOND), 1), _tick_text(mark)) for mark in marks]


def _tick_text(seconds: int) -> str:
    return f"+{rough_duration(seconds)}" if seconds else "0"
