"""A line of the benchmark: one question, measured for us and for peers in turn, answered with figures and ratios."""

import datetime
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

SEED = 7
"""Of everything that is drawn at random: payloads, and the times at which tasks are offered."""


@dataclass(frozen=True)
class Figure:
    """What was measured once.

    Attributes:
        value: in the unit of the line.
        beside: what else the same run has shown, by name and unit (``"s of CPU"``, ``"ms p99"``).
    """

    value: float
    beside: Mapping[str, float] = field(default_factory=dict)


Measure = Callable[[], float | Figure]
"""Measures once, and returns the figure in the unit of its line."""


class Unavailable(Exception):
    """A peer cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Contender:
    """Something to measure.

    Attributes:
        name: as the table shows it.
        prepare: a context manager that starts what is measured and gives the function that measures once.
        at: for a line about growth, how much there is already: the x of its curve.
        heavy: takes minutes to prepare; measured with ``--heavy`` only.
    """

    name: str
    prepare: Callable[[], AbstractContextManager[Measure]]
    at: int | None = None
    heavy: bool = False


@dataclass(frozen=True)
class Line:
    """One question.

    Attributes:
        name: what the command line calls it.
        question: what is measured, for the table.
        unit: of the figures.
        ours: us; for a line about growth, us at the smallest size.
        peers: what we are compared with; for a line about growth, ourselves at other sizes; may be empty.
        more_is_better: whether a larger figure is better. The ratio is ours to the peer's then, else the peer's to
            ours: it is above 1 where we are better.
        runs: how often each contender is measured.
        warm_ups: how often before that, uncounted. Servers on the Java virtual machine get faster for a while.
        heavy: takes minutes; is run when asked for by name or with ``--heavy``.
        quick: takes seconds and stays steady on a machine with two processors; is what ``--quick`` runs.
    """

    name: str
    question: str
    unit: str
    ours: Contender
    peers: tuple[Contender, ...]
    more_is_better: bool
    runs: int = 5
    warm_ups: int = 1
    heavy: bool = False
    quick: bool = False


@dataclass
class Answer:
    """The figures of a line: what is kept in a file, shown in the table and drawn.

    Attributes:
        name, question, unit, more_is_better: those of the line.
        ours: name of the contender that is us.
        figures: every counted run of each contender that was measured, by its name.
        beside: what each run has shown beside its figure: by contender, then by name and unit.
        at: the x of each contender, on a line about growth.
        missing: why a peer could not be measured, by its name.
        seconds: how long it took.
        time: when it was measured, ISO 8601.
    """

    name: str
    question: str
    unit: str
    more_is_better: bool
    ours: str
    figures: dict[str, list[float]] = field(default_factory=dict)
    beside: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    at: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    time: str = ""

    def add(self, contender: str, figure: Figure) -> None:
        """Take the figure of a run."""
        self.figures.setdefault(contender, []).append(figure.value)
        for what, value in figure.beside.items():
            self.beside.setdefault(contender, {}).setdefault(what, []).append(value)

    def leave_out(self, contender: str, reason: str) -> None:
        """Forget what a contender has shown so far, and keep the reason."""
        self.missing[contender] = reason
        for table in (self.figures, self.beside, self.at):
            table.pop(contender, None)

    def peers(self) -> list[str]:
        """Return the names of the peers that were measured."""
        return [name for name in self.figures if name != self.ours]

    def median(self, contender: str) -> float:
        """Return the median of a contender's runs."""
        return statistics.median(self.figures[contender])

    def ratio(self, peer: str) -> float:
        """Return how many times better than a peer we are: the median of the runs, each beside its neighbour."""
        pairs = zip(self.figures[self.ours], self.figures[peer], strict=True)
        return statistics.median(mine / theirs if self.more_is_better else theirs / mine for mine, theirs in pairs)

    def best_peer(self) -> str | None:
        """Return the peer that we do worst against, None if none could be measured."""
        return min(self.peers(), key=self.ratio, default=None)

    def largest(self) -> str | None:
        """Return the contender with the largest x, None where the line is not about growth."""
        return max(self.at, key=self.at.__getitem__, default=None)

    def growth(self) -> float | None:
        """Return how many times the cost of one thing is at the largest size what it is at the smallest."""
        largest = self.largest()
        return None if largest is None else self.ratio(largest)

    def exponent(self) -> float | None:
        """Return k where the cost of one thing grows like size to the k: a least-squares line through the logarithms.

        0 is a cost that stays the same, 1 one that grows with all there is. None where fewer than three sizes were
        measured.
        """
        if len(self.at) < 3:
            return None
        xs = [math.log(size) for size in self.at.values()]
        ys = [math.log(self.median(name)) * (-1 if self.more_is_better else 1) for name in self.at]
        return statistics.linear_regression(xs, ys).slope


def answer(
    line: Line,
    progress: Callable[[str], None],
    *,
    runs: int | None = None,
    warm_ups: int | None = None,
    heavy: bool = True,
) -> Answer:
    """Measure a line: all contenders are up at the same time, and are measured in turn, A B A B.

    Parameters:
        progress: is told what is being done.
        runs: counted runs of each contender, instead of what the line says.
        warm_ups: uncounted runs, instead of what the line says.
        heavy: whether to measure the contenders that take minutes.
    """
    result = Answer(line.name, line.question, line.unit, line.more_is_better, line.ours.name)
    result.time = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    began = time.monotonic()
    with ExitStack() as stack:
        measures: dict[str, Measure] = {}
        for contender in (line.ours, *line.peers):
            if contender.heavy and not heavy:
                result.missing[contender.name] = "takes minutes; --heavy measures it"
                continue
            progress(f"starting {contender.name}")
            with _named_where_missing(result, contender.name):
                measures[contender.name] = stack.enter_context(contender.prepare())
                if contender.at is not None:
                    result.at[contender.name] = contender.at
        count = line.runs if runs is None else runs
        for number in range(-(line.warm_ups if warm_ups is None else warm_ups), count):
            for name, measure in measures.items():
                if name in result.missing:
                    continue
                progress(f"{name}, {'warm-up' if number < 0 else f'run {number + 1} of {count}'}")
                with _named_where_missing(result, name):
                    measured = measure()
                    if number >= 0:
                        result.add(name, measured if isinstance(measured, Figure) else Figure(measured))
    result.seconds = round(time.monotonic() - began, 1)
    return result


@contextmanager
def _named_where_missing(result: Answer, name: str) -> Iterator[None]:
    """Leave a peer out of a line, with the reason, when it cannot be had or does not get through; never ourselves."""
    try:
        yield
    except (Unavailable, RuntimeError, TimeoutError) as error:
        if name == result.ours:
            raise
        result.leave_out(name, (str(error).strip().splitlines() or [repr(error)])[-1])
