"""The plots show every measured line, in words for people, on light and dark pages."""

import re

from bench import plots, results

COMPARISON = (plots.FOLDER / "comparison.svg").read_text(encoding="utf-8")


def test_the_comparison_shows_each_benchmark_with_a_peer():
    compared = [result for result in results.newest().results.values() if result.best_peer() and not result.at]
    assert len(compared) > 20
    for result in compared:
        assert f"{plots.TITLES[result.name]}, beside " in COMPARISON, result.name


def test_each_measured_line_is_in_a_plot():
    shown = "".join((plots.FOLDER / f"{name}.svg").read_text(encoding="utf-8") for name in ("comparison", "goals"))
    names = results.newest().results
    assert len(names) > 40
    assert [name for name in names if f">{plots.TITLES[name]}" not in shown] == []


def test_titles_differ_and_fit_on_a_phone():
    titles = [*plots.TITLES.values()]
    assert len({*titles}) == len(titles)
    assert max(map(len, titles)) < 60


def test_each_colour_of_a_plot_follows_the_preference_of_the_reader():
    for name in plots.PLOTS:
        rules, _, drawing = (plots.FOLDER / f"{name}.svg").read_text(encoding="utf-8").partition("</style>")
        assert rules.count("prefers-color-scheme: dark") == 1
        assert re.findall(r"(?:fill|stroke): (#[0-9a-fA-F]{3,6})", drawing) == []
