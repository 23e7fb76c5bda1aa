"""Every measured figure in README and docs comes from the newest result file."""

from pathlib import Path

import pytest

from bench import pages, results
from bench.benchmarks import Result
from bench.results import ResultFile

MEASURED = ResultFile(
    Path("2026-01-02.json"),
    {"processors": 2, "processor": "P", "memory_gb": 8, "system": "S", "python": "3.11"},
    {"gae-deferred": "0.1"},
    {
        "speed": Result(
            "speed", "How fast?", "things/s", True, "us",
            {"us": [8.0, 8.541, 9.0], "the other's": [2.0, 2.0, 2.0]},
            {"us": {"ms p99": [1234.5]}}, time="2026-01-02T03:04:05+00:00",
        )
    },
)  # fmt: skip


def test_readme_and_docs_show_the_figures_of_the_newest_file():
    assert list(pages.stale(results.newest())) == []


def test_readme_and_the_benchmark_pages_are_checked():
    names = {path.relative_to(pages.ROOT).as_posix() for path in pages.pages()}
    assert {"README.md", "bench/README.md", "docs/benchmarks.md"} <= names


@pytest.mark.parametrize(
    ("mark", "figure"),
    [
        ("speed; median", "8.54"),
        ("speed; median; the other's", "2"),
        ("speed; ratio; the other's", "4.27"),
        ("speed; ms p99", "1,234"),
    ],
)
def test_a_mark_is_followed_by_its_figure(mark: str, figure: str):
    text = f"It is <!-- bench: {mark} -->1,000.5 whatever."
    fresh = f"It is <!-- bench: {mark} -->{figure} whatever."
    assert pages.refreshed(text, MEASURED) == fresh
    assert pages.refreshed(fresh, MEASURED) == fresh


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("size; median", "no benchmark size"),
        ("speed; median; nobody", "no nobody; it has us, the other's"),
        ("speed; ms p50", "no 'ms p50' of us"),
        ("speed; exponent", "no exponent"),
    ],
)
def test_a_mark_without_a_measurement_is_an_error(mark: str, message: str):
    with pytest.raises(LookupError, match=message):
        pages.refreshed(f"<!-- bench: {mark} -->1", MEASURED)


@pytest.mark.parametrize("text", ["<!-- bench: speed; median --> 4", "<!-- bench: speed -->4", "<!-- bench: table -->"])
def test_a_mark_without_a_figure_after_it_is_an_error(text: str):
    with pytest.raises(LookupError, match="no figure, or no end, follows these marks"):
        pages.refreshed(text, MEASURED)


def test_the_table_is_written_between_its_marks():
    text = "Before\n<!-- bench: table -->\nold\n<!-- bench: end -->\nAfter\n"
    fresh = pages.refreshed(text, MEASURED)
    assert "old" not in fresh
    assert "| How fast? (`speed`) | us | 8.54 things/s (8 to 9), 1,234 ms p99 |  |" in fresh
    assert "|  | the other's | 2 things/s (2 to 2) | 4.27 |" in fresh
    assert pages.refreshed(fresh, MEASURED) == fresh


@pytest.mark.parametrize(
    "text",
    ["It takes 3.5 ms.", "80 MB of memory", "4.2 times as fast", "1,000 tasks/s", "5 µs"],
)
def test_a_figure_that_looks_measured_needs_a_mark(text: str):
    assert pages.unmarked(text)


@pytest.mark.parametrize(
    "text",
    [
        "It takes <!-- bench: speed; median -->3.5 ms.",
        "<!-- not measured: what Cloud Tasks allows --> at most 500 tasks/s",
        "In 60 s, in 120 s, at port 8081, Python 3.10, at most 100 tasks",
        "```console\n200  15 ms\n```",
        "`15 ms`",
    ],
)
def test_other_numbers_need_no_mark(text: str):
    assert pages.unmarked(text) == []
