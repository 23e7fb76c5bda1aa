"""A benchmark: one question, measured for us and for our peers in turn. Its result holds measurements and ratios."""

import datetime
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

SEED = 7
"""Seeds everything random: payloads, and the times at which jobs are offered."""


@dataclass(frozen=True)
class Measurement:
    """The outcome of one run.

    Attributes:
        value: in the unit of the benchmark.
        beside: other values of the same run, by name and unit (``"s of CPU"``, ``"ms p99"``).
    """

    value: float
    beside: Mapping[str, float] = field(default_factory=dict)


Measure = Callable[[], float | Measurement]
"""Measures once. A bare number is the value of a measurement with nothing beside it."""


class Unavailable(Exception):
    """Raised when a peer cannot run on this machine. The message says why."""


@dataclass(frozen=True)
class Contender:
    """A system that a benchmark measures.

    Attributes:
        name: as the table shows it.
        prepare: returns a context manager that starts the system and gives the function that measures it.
        at: in a benchmark of growth, how many tasks or entities exist already: the x of its curve.
        heavy: takes minutes to prepare; measured with ``--heavy`` only.
    """

    name: str
    prepare: Callable[[], AbstractContextManager[Measure]]
    at: int | None = None
    heavy: bool = False


@dataclass(frozen=True)
class Benchmark:
    """One question, and the contenders that answer it.

    Attributes:
        name: its name on the command line and in budgets.yaml.
        question: what it measures, for the table.
        unit: of its values.
        ours: our own contender; in a benchmark of growth, the one at the smallest size.
        peers: the contenders that we are compared with; in a benchmark of growth, our own at larger sizes.
        more_is_better: whether a larger value is better. The ratio to a peer is above 1 where we are better: it is our
            value divided by the peer's if more is better, and the peer's divided by ours if less is.
        runs: counted runs of each contender.
        warm_ups: uncounted runs before them. Servers on the Java virtual machine get faster for a while.
        heavy: takes minutes; runs only by name or with ``--heavy``.
        quick: takes seconds and is steady on a machine with two processors; ``--quick`` runs these only.
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
class Result:
    """The measurements of one benchmark, as kept in a file, shown in the table and drawn.

    Attributes:
        name, question, unit, more_is_better: those of the benchmark.
        ours: the name of our contender.
        figures: the value of every counted run, by contender.
        beside: the values beside them, by contender, then by name and unit.
        at: in a benchmark of growth, the x of each contender.
        missing: the reason why a peer was not measured, by its name.
        seconds: how long the benchmark took.
        time: when it began, ISO 8601.
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

    def add(self, contender: str, measurement: Measurement) -> None:
        """Add the measurement of a counted run."""
        self.figures.setdefault(contender, []).append(measurement.value)
        for name, value in measurement.beside.items():
            self.beside.setdefault(contender, {}).setdefault(name, []).append(value)

    def leave_out(self, contender: str, reason: str) -> None:
        """Drop the measurements of a contender, and keep the reason."""
        self.missing[contender] = reason
        for table in (self.figures, self.beside, self.at):
            table.pop(contender, None)

    def peers(self) -> list[str]:
        """Return the names of the peers that were measured."""
        return [name for name in self.figures if name != self.ours]

    def median(self, contender: str) -> float:
        """Return the median value of a contender's runs."""
        return statistics.median(self.figures[contender])

    def median_beside(self, contender: str, name: str) -> float:
        """Return the median of a value beside a contender's measurements, such as ``"ms p99"``.

        Raises:
            LookupError: the contender has no such value.
        """
        values = self.beside.get(contender, {}).get(name)
        if not values:
            raise LookupError(f"{self.name} has no {name!r} of {contender}")
        return statistics.median(values)

    def ratio(self, peer: str) -> float:
        """Return how many times better than a peer we are: the median over pairs of neighbouring runs."""
        pairs = zip(self.figures[self.ours], self.figures[peer], strict=True)
        return statistics.median(mine / theirs if self.more_is_better else theirs / mine for mine, theirs in pairs)

    def best_peer(self) -> str | None:
        """Return the peer with the lowest ratio, or None if no peer was measured."""
        return min(self.peers(), key=self.ratio, default=None)

    def largest(self) -> str | None:
        """Return the contender with the largest x, or None if this is not a benchmark of growth."""
        return max(self.at, key=self.at.__getitem__, default=None)

    def growth(self) -> float | None:
        """Return the ratio of the cost at the largest size to the cost at the smallest, or None without sizes."""
        largest = self.largest()
        return None if largest is None else self.ratio(largest)

    def exponent(self) -> float | None:
        """Return k such that the cost of one operation grows like size**k: a least-squares fit through the logarithms.

        With k = 0 the cost is constant; with k = 1 it is proportional to the size. Return None if fewer than three
        sizes were measured.
        """
        if len(self.at) < 3:
            return None
        xs = [math.log(size) for size in self.at.values()]
        ys = [math.log(self.median(name)) * (-1 if self.more_is_better else 1) for name in self.at]
        return statistics.linear_regression(xs, ys).slope


def run(
    benchmark: Benchmark,
    progress: Callable[[str], None],
    *,
    runs: int | None = None,
    warm_ups: int | None = None,
    heavy: bool = True,
) -> Result:
    """Start all contenders of a benchmark, then measure them in turn: A B A B.

    Parameters:
        progress: called with a description of each step.
        runs: counted runs of each contender; None takes the benchmark's own number.
        warm_ups: uncounted runs of each contender; None takes the benchmark's own number.
        heavy: whether to measure the contenders that take minutes.
    """
    result = Result(benchmark.name, benchmark.question, benchmark.unit, benchmark.more_is_better, benchmark.ours.name)
    result.time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    began = time.monotonic()
    with ExitStack() as stack:
        measures: dict[str, Measure] = {}
        for contender in (benchmark.ours, *benchmark.peers):
            if contender.heavy and not heavy:
                result.missing[contender.name] = "takes minutes; --heavy measures it"
                continue
            progress(f"starting {contender.name}")
            with _leaving_out_failed_peer(result, contender.name):
                measures[contender.name] = stack.enter_context(contender.prepare())
                if contender.at is not None:
                    result.at[contender.name] = contender.at
        count = benchmark.runs if runs is None else runs
        for number in range(-(benchmark.warm_ups if warm_ups is None else warm_ups), count):
            for name, measure in measures.items():
                if name in result.missing:
                    continue
                progress(f"{name}, {'warm-up' if number < 0 else f'run {number + 1} of {count}'}")
                with _leaving_out_failed_peer(result, name):
                    measured = measure()
                    if number >= 0:
                        result.add(name, measured if isinstance(measured, Measurement) else Measurement(measured))
    result.seconds = round(time.monotonic() - began, 1)
    return result


@contextmanager
def _leaving_out_failed_peer(result: Result, name: str) -> Iterator[None]:
    """Leave a peer out of the result if the block fails, with the reason. A failure of our own is raised."""
    try:
        yield
    except (Unavailable, RuntimeError, TimeoutError) as error:
        if name == result.ours:
            raise
        result.leave_out(name, (str(error).strip().splitlines() or [repr(error)])[-1])
