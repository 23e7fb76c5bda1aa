"""Draw the plots of docs/benchmarks.md from a result file: ``python -m bench.plots [FILE]``."""

import sys
from collections.abc import Callable
from pathlib import Path

from bench import budgets, results
from bench.benchmarks import Result
from bench.results import ResultFile
from bench.table import number, power

FOLDER = Path(__file__).parent.parent / "docs" / "plots"

_INK, _PAPER, _GRID = "#202124", "#fbfbf8", "#b0b0b1"
_OURS, _BETTER, _WORSE = "#0b57d0", "#1e8e5a", "#c5491f"
_OTHERS = ("#c5491f", "#1e8e5a", "#7b4fb5", "#a87900", "#5f6368")

_DARK = {
    _INK: "#e8eaed",
    _PAPER: "#1b1c1e",
    _GRID: "#4a4d51",
    _OURS: "#8ab4f8",
    _BETTER: "#5bb98b",
    _WORSE: "#f0845c",
    "#7b4fb5": "#c3a6ee",
    "#a87900": "#e2b64a",
    "#5f6368": "#9aa0a6",
}
"""For each colour of the plots, the one that takes its place where the reader prefers a dark page."""

_STYLE = {
    "svg.hashsalt": "bench",  # reproducible: the same results give the same file
    "svg.fonttype": "none",  # text as text, not as outlines: a third of the size
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": _GRID,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), _PAPER),
}

_FAR = 20.0
"""Ratio to a goal at which bars end: some costs are 0."""

_MARKERS = "osD^v*"
_LATENCY = "jobs-latency-"

TITLES = {
    "cloud-idle-cpu": "Processor time of the idle local cloud",
    "cloud-idle-memory": "Memory of the idle local cloud",
    "cloud-ready": "Start of the local cloud",
    "console-page-growth": "A page of the console, with 1,000 to 1,000,000 tasks",
    "console-watched": "8,000 tasks, followed in the console",
    "datastore-contention": "One counter, incremented by 8 processes",
    "datastore-memory-at-1e5": "Memory with 100,000 entities",
    "datastore-ndb-transactions": "Transactions through Cloud NDB",
    "datastore-put": "Writing entities, 500 in a call",
    "datastore-put-growth": "Writing entities, with 1,000 to 1,000,000 stored",
    "datastore-query-growth": "A query, with 1,000 to 1,000,000 entities",
    "datastore-statistics-growth": "Statistics, with 1,000 to 1,000,000 entities",
    "datastore-transactions": "Transactions, one after another",
    "deferred-defer-cpu": "Processor time of a defer",
    "deferred-handle": "Handling a task",
    "deferred-serialize": "Pickling a call",
    "deferred-serve": "Handling a task, through the whole app",
    "deferred-transaction": "A transaction that defers 5 tasks",
    "first-answer": "README's first command, to the first answer",
    "fixture-set-up": "The test fixture, set up and torn down",
    "jobs-enqueue": "Enqueuing jobs one by one",
    "jobs-enqueue-bare": "Enqueuing jobs, beside bare calls",
    "jobs-execute": "1,000 jobs, from first enqueued to last run",
    "jobs-latency-1": "Delay of a job at 1 a second",
    "jobs-latency-10": "Delay of a job at 10 a second",
    "jobs-latency-100": "Delay of a job at 100 a second",
    "jobs-latency-500": "Delay of a job at 500 a second",
    "jobs-latency-1000": "Delay of a job at 1,000 a second",
    "sample-increments": "Requests that count through a task",
    "sample-ready": "Start of the Flask sample on a laptop",
    "start-django-defer": "Cold start of Django, to its first tasks",
    "start-django-import": "Import of the Django sample",
    "start-django-response": "Cold start of Django, to its first response",
    "start-flask-defer": "Cold start of Flask, to its first tasks",
    "start-flask-import": "Import of the Flask sample",
    "start-flask-response": "Cold start of Flask, to its first response",
    "start-warm-defer": "First request that defers, warmed up",
    "start-wsgi-defer": "Cold start without a framework, to its first tasks",
    "start-wsgi-import": "Import of the sample without a framework",
    "start-wsgi-response": "Cold start without a framework, to its first response",
    "tasks-app-away": "Creating tasks while the app is away",
    "tasks-create": "Creating tasks one by one",
    "tasks-create-batch": "Creating tasks, 100 in a call",
    "tasks-create-growth": "Creating tasks, with 1,000 to 1,000,000 waiting",
    "tasks-dispatch": "3,000 tasks one by one, to the last run",
    "tasks-dispatch-batch": "Creating tasks, 100 in a call, while they run",
    "tasks-dispatch-cpu": "Processor time of a task",
    "tasks-execute": "8,000 tasks, from first created to last run",
    "tasks-lateness-at-1e6": "Delay of a task, with 1,000,000 waiting",
    "tasks-memory-at-1e6": "Memory with 1,000,000 tasks",
    "tasks-restart-at-1e6": "Start with 1,000,000 tasks",
}
"""For each benchmark a few words for people. The table of the page has the exact question."""


def draw(measured: ResultFile) -> list[Path]:
    """Draw every plot, and return the files.

    Raises:
        LookupError: the file lacks a benchmark that a plot shows.
    """
    return [_save(name, plot, measured) for name, plot in PLOTS.items()]


def stamp(measured: ResultFile) -> str:
    """Return the name and digest of a result file, as the plots drawn from it carry them."""
    return f"bench/results/{measured.path.name} sha256:{measured.digest}"


def _save(name: str, plot: Callable[[ResultFile], object], measured: ResultFile) -> Path:
    import matplotlib as mpl

    mpl.use("svg")
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.svg"
    with mpl.rc_context(_STYLE):
        figure = plot(measured)
        metadata = {"Date": None, "Creator": None, "Description": stamp(measured)}
        figure.savefig(path, metadata=metadata, bbox_inches="tight")
    path.write_text(in_both_modes(path.read_text(encoding="utf-8")), encoding="utf-8")
    return path


def in_both_modes(svg: str) -> str:
    """Return a plot whose colours follow the reader's preference for light or dark pages.

    Each colour becomes a variable with two values.
    """
    light, dark = [], []
    for place, (colour, other) in enumerate(_DARK.items()):
        svg = svg.replace(colour, f"var(--c{place})")
        light.append(f"--c{place}: {colour}")
        dark.append(f"--c{place}: {other}")
    rules = f"svg {{ {'; '.join(light)} }} @media (prefers-color-scheme: dark) {{ svg {{ {'; '.join(dark)} }} }}"
    return svg.replace(" <defs>\n", f" <style>{rules}</style>\n <defs>\n", 1)


def comparison(measured: ResultFile):
    """Draw our ratio to the best peer for each benchmark that has one, the worst too."""
    compared = [result for result in measured.results.values() if result.best_peer() and not result.at]
    compared.sort(key=lambda result: result.ratio(result.best_peer()))
    ratios = [result.ratio(result.best_peer()) for result in compared]
    figure, axes = _bars(
        [f"{TITLES.get(result.name, result.question)}, beside {result.best_peer()}" for result in compared],
        ratios,
        [f"{number(ratio)} times better" if ratio >= 1 else f"{number(1 / ratio)} times worse" for ratio in ratios],
    )
    axes.set_xlabel("ratio to the best peer: 1 is equal, 10 is ten times better")
    axes.set_title("Each benchmark, compared with its best peer")
    return figure


def goals(measured: ResultFile):
    """Draw how far each benchmark is from its goal, if it has one."""
    limits = {name: budget["asked"] for name, budget in budgets.load().items() if "asked" in budget}
    margins = {
        name: margin
        for name, limit in limits.items()
        if name in measured.results and (margin := budgets.margin(measured.result(name), limit)) is not None
    }
    names = sorted(margins, key=margins.__getitem__)
    figure, axes = _bars(
        [TITLES.get(name, name) for name in names],
        [min(margins[name], _FAR) for name in names],
        [budgets.standing(measured.result(name), limits[name]).replace("the limit is", "goal") for name in names],
    )
    axes.set_xlabel("ratio to the goal: left of 1 it is missed")
    axes.set_title("Each benchmark, compared with its goal")
    return figure


def _bars(titles: list[str], ratios: list[float], words: list[str]):
    """Draw a bar for each ratio, from 1 to the left or right, with a title above it and words to its right."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 0.42 * len(ratios) + 1))
    colours = [_BETTER if ratio >= 1 else _WORSE for ratio in ratios]
    axes.barh(range(len(ratios)), [ratio - 1 for ratio in ratios], left=1, color=colours, height=0.34)
    axes.set_xscale("log")
    axes.set_xlim(min(ratios) / 1.5, max(ratios) * 15)
    axes.axvline(1, color=_INK, linewidth=1)
    behind = {"facecolor": _PAPER, "edgecolor": "none", "pad": 1}  # the line does not cross the words
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for row, (title, ratio, text) in enumerate(zip(titles, ratios, words, strict=True)):
        axes.text(0, row + 0.38, title, transform=axes.get_yaxis_transform(), fontsize=8.5, va="center", bbox=behind)
        axes.annotate(text, (max(ratio, 1), row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_ylim(-0.5, len(ratios) - 0.2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure, axes


def growth(measured: ResultFile):
    """Draw the cost of one task, entity, query or page as more tasks or entities exist."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    names = {
        "tasks-create-growth": "creating a task",
        "datastore-put-growth": "writing an entity",
        "datastore-query-growth": "querying for 20 entities",
        "datastore-statistics-growth": "querying statistics after a change",
        "console-page-growth": "showing a page of the console",
    }
    for (name, title), colour, marker in zip(names.items(), (_OURS, *_OTHERS), _MARKERS, strict=False):
        result = measured.result(name)
        points = sorted((size, _milliseconds(result, contender)) for contender, size in result.at.items())
        sizes, costs = zip(*points, strict=True)
        exponent = result.exponent()
        label = title if exponent is None else f"{title}: like size^{power(exponent)}"
        axes.plot(sizes, costs, marker=marker, color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.01)
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("tasks or entities that exist already")
    axes.set_ylabel("milliseconds per operation")
    axes.set_title("Cost of one more in the local cloud")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def _milliseconds(result: Result, contender: str) -> float:
    """Return the milliseconds of one operation, from a median in milliseconds or in operations a second."""
    median = result.median(contender)
    return median if result.unit == "ms" else 1e3 / median


def latency(measured: ResultFile):
    """Draw the latency of jobs at each rate: medians, with the 99th percentiles as whiskers."""
    from matplotlib import pyplot as plt

    rates = [rate for rate in (1, 10, 100, 500, 1_000) if f"{_LATENCY}{rate}" in measured.results]
    latencies = [measured.result(f"{_LATENCY}{rate}") for rate in rates]
    figure, axes = plt.subplots(figsize=(7, 4.4))
    contenders = list(dict.fromkeys(name for result in latencies for name in result.figures))
    colours = (_OURS, *_OTHERS)
    for index, name in enumerate(contenders):
        shown = [(rate, result) for rate, result in zip(rates, latencies, strict=True) if name in result.figures]
        spread = 1.07 ** (index - len(contenders) / 2)  # side by side: whiskers do not overlap
        xs = [rate * spread for rate, _ in shown]
        medians = [result.median(name) for _, result in shown]
        tails = [max(0.0, result.median_beside(name, "ms p99") - result.median(name)) for _, result in shown]
        axes.errorbar(
            xs,
            medians,
            yerr=[[0.0] * len(xs), tails],
            marker=_MARKERS[index % len(_MARKERS)],
            label=name,
            color=colours[index % len(colours)],
            linewidth=2.2 if index == 0 else 1.2,
            capsize=3,
            elinewidth=0.8,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(rates, [f"{rate:,}" for rate in rates])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.set_xlabel("jobs offered per second")
    axes.set_ylabel("milliseconds from due to run")
    axes.set_title("Latency of a job: median, and up to the 99th percentile")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


PLOTS: dict[str, Callable[[ResultFile], object]] = {
    "comparison": comparison,
    "goals": goals,
    "growth": growth,
    "latency": latency,
}

if __name__ == "__main__":
    for file in draw(results.load(Path(sys.argv[1])) if sys.argv[1:] else results.newest()):
        print(file.relative_to(FOLDER.parent.parent))
