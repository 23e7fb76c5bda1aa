"""The benchmark's arithmetic: ratios, and budgets."""

from contextlib import nullcontext

import pytest

from bench.lines import Answer, Contender, Line, Unavailable, answer, failed_budgets


def contender(name: str, *figures: float) -> Contender:
    remaining = iter(figures)
    return Contender(name, lambda: nullcontext(lambda: next(remaining)))


def absent(name: str) -> Contender:
    def prepare():
        raise Unavailable("it is not installed")

    return Contender(name, prepare)


def line(ours: Contender, *peers: Contender, more_is_better: bool = True) -> Line:
    return Line("speed", "How fast?", "things/s", ours, peers, more_is_better, runs=3)


def measured(asked: Line) -> Answer:
    return answer(asked, lambda text: None)


def test_the_warm_up_does_not_count_and_the_ratio_is_the_median_of_neighbouring_runs():
    result = measured(line(contender("us", 999, 10, 20, 90), contender("them", 1, 10, 10, 10)))
    assert result.figures == {"us": [10, 20, 90], "them": [10, 10, 10]}
    assert result.ratio(result.line.peers[0]) == 2


def test_where_less_is_better_the_ratio_is_still_above_1_for_us():
    result = measured(line(contender("us", 0, 1, 1, 1), contender("them", 0, 4, 4, 4), more_is_better=False))
    assert result.ratio(result.line.peers[0]) == 4


def test_a_peer_that_cannot_be_had_is_named_with_the_reason():
    result = measured(line(contender("us", 0, 1, 1, 1), absent("them")))
    assert result.missing == {"them": "it is not installed"}
    assert result.best_peer() is None


def test_a_budget_is_held_to_by_the_best_of_the_peers():
    result = measured(line(contender("us", 0, 6, 6, 6), contender("slow", 0, 1, 1, 1), contender("fast", 0, 3, 3, 3)))
    assert failed_budgets([result], {"speed": {"times": 2}}) == []
    assert failed_budgets([result], {"speed": {"times": 2.5}}) == ["speed: 2.00 times fast, the budget is 2.5"]


def test_a_budget_for_our_own_figure_needs_no_peer():
    result = measured(line(contender("us", 0, 5, 6, 7)))
    assert failed_budgets([result], {"speed": {"at_most": 6}}) == []
    assert failed_budgets([result], {"speed": {"at_most": 5}}) == ["speed: 6 things/s, the budget is 5"]


def test_a_budget_without_any_peer_fails_and_says_why():
    result = measured(line(contender("us", 0, 1, 1, 1), absent("them")))
    assert failed_budgets([result], {"speed": {"times": 2}}) == [
        "speed: no peer could be measured (it is not installed)"
    ]


@pytest.mark.parametrize("budgets", [{}, {"another": {"times": 99}}])
def test_a_line_without_a_budget_passes(budgets):
    assert failed_budgets([measured(line(contender("us", 0, 1, 1, 1)))], budgets) == []
