"""A line of the benchmark: one question, measured for us and for a peer in turn, answered with a ratio."""

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

Measure = Callable[[], float]
"""Measures once, and returns the figure in the unit of its line."""


class Unavailable(Exception):
    """A peer cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Contender:
    """Something to measure.

    Attributes:
        name: as the table shows it.
        prepare: a context manager that starts what is measured and gives the function that measures once. That function
            returns the figure, in the unit of its line.
    """

    name: str
    prepare: Callable[[], AbstractContextManager[Measure]]


@dataclass(frozen=True)
class Line:
    """One question.

    Attributes:
        name: what the command line calls it.
        question: what is measured, for the table.
        unit: of the figures.
        ours: us.
        peers: what we are compared with; for a line about scale, ourselves at another size; may be empty.
        more_is_better: whether a larger figure is better. The ratio is ours to the peer's then, else the peer's to
            ours: it is above 1 where we are better.
        runs: how often each contender is measured.
        warm_ups: how often before that, uncounted. Servers on the Java virtual machine get faster for a while.
        heavy: takes minutes; is run when asked for by name or with ``--heavy``.
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


@dataclass
class Answer:
    """The figures of a line.

    Attributes:
        figures: every counted run of each contender, by its name.
        missing: why a peer could not be measured, by its name.
        seconds: how long it took.
    """

    line: Line
    figures: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def median(self, contender: Contender) -> float:
        """Return the median of a contender's runs."""
        return statistics.median(self.figures[contender.name])

    def ratio(self, peer: Contender) -> float:
        """Return how many times better than a peer we are: the median of the runs, each beside its neighbour."""
        pairs = zip(self.figures[self.line.ours.name], self.figures[peer.name], strict=True)
        return statistics.median(mine / theirs if self.line.more_is_better else theirs / mine for mine, theirs in pairs)

    def best_peer(self) -> Contender | None:
        """Return the peer that we do worst against, None if none could be measured."""
        measured = [peer for peer in self.line.peers if peer.name in self.figures]
        return min(measured, key=self.ratio, default=None)


def answer(line: Line, progress: Callable[[str], None], runs: int | None = None) -> Answer:
    """Measure a line: all contenders are up at the same time, and are measured in turn, A B A B.

    Parameters:
        progress: is told what is being done.
        runs: counted runs of each contender, instead of what the line says.
    """
    result = Answer(line)
    began = time.monotonic()
    with ExitStack() as stack:
        measures: dict[str, Measure] = {}
        for contender in (line.ours, *line.peers):
            progress(f"{line.name}: starting {contender.name}")
            try:
                measures[contender.name] = stack.enter_context(contender.prepare())
            except Unavailable as reason:
                result.missing[contender.name] = str(reason)
        count = line.runs if runs is None else runs
        for number in range(-line.warm_ups, count):
            for name, measure in measures.items():
                progress(f"{line.name}: {name}, {'warm-up' if number < 0 else f'run {number + 1} of {count}'}")
                figure = measure()
                if number >= 0:
                    result.figures.setdefault(name, []).append(figure)
    result.seconds = time.monotonic() - began
    return result


def failed_budgets(answers: list[Answer], budgets: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a sentence for each line that is outside of its budget, or has one for a ratio and no peer to measure by.

    Parameters:
        budgets: for the name of a line ``times``, the least ratio to the best peer, or ``at_most``, in the line's unit.
    """
    failures = []
    for result in answers:
        name, budget = result.line.name, budgets.get(result.line.name, {})
        if "at_most" in budget and (figure := result.median(result.line.ours)) > budget["at_most"]:
            failures.append(f"{name}: {figure:.3g} {result.line.unit}, the budget is {budget['at_most']}")
        if "times" not in budget:
            continue
        peer = result.best_peer()
        if peer is None:
            failures.append(f"{name}: no peer could be measured ({'; '.join(result.missing.values())})")
        elif (ratio := result.ratio(peer)) < budget["times"]:
            failures.append(f"{name}: {ratio:.2f} times {peer.name}, the budget is {budget['times']}")
    return failures
