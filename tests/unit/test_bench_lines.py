"""The benchmark's arithmetic: ratios, growth, and budgets."""

from contextlib import nullcontext

import pytest

from bench.budgets import broken, missed
from bench.lines import Answer, Contender, Figure, Line, Unavailable, answer


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
    assert result.ratio("them") == 2


def test_where_less_is_better_the_ratio_is_still_above_1_for_us():
    result = measured(line(contender("us", 0, 1, 1, 1), contender("them", 0, 4, 4, 4), more_is_better=False))
    assert result.ratio("them") == 4


def test_a_peer_that_cannot_be_had_is_named_with_the_reason():
    result = measured(line(contender("us", 0, 1, 1, 1), absent("them")))
    assert result.missing == {"them": "it is not installed"}
    assert result.best_peer() is None


def test_a_peer_that_breaks_on_the_way_is_left_out_and_we_are_not():
    def breaks():
        raise RuntimeError("a long story\nit has ended")

    peer = Contender("them", lambda: nullcontext(breaks))
    result = measured(line(contender("us", 0, 1, 2, 3), peer))
    assert (result.figures, result.missing) == ({"us": [1, 2, 3]}, {"them": "it has ended"})
    with pytest.raises(RuntimeError, match="it has ended"):
        measured(line(Contender("us", lambda: nullcontext(breaks)), contender("them", 0, 1, 1, 1)))


def test_values_beside_a_figure_are_kept():
    runs = iter([Figure(value, {"ms p99": value * 10}) for value in (0, 1, 2, 3)])
    result = measured(line(Contender("us", lambda: nullcontext(lambda: next(runs)))))
    assert result.figures == {"us": [1, 2, 3]}
    assert result.beside == {"us": {"ms p99": [10, 20, 30]}}


def growing(*costs: float, more_is_better: bool = False) -> Answer:
    sizes = [10, 100, 1000][: len(costs)]
    contenders = [
        Contender(f"at {size}", lambda cost=cost: nullcontext(lambda: cost), at=size)
        for size, cost in zip(sizes, costs, strict=True)
    ]
    return measured(line(*contenders, more_is_better=more_is_better))


@pytest.mark.parametrize(
    ("answer", "exponent"),
    [
        (growing(5, 5, 5), 0),
        (growing(1, 10, 100), 1),
        (growing(1, 100, 10_000), 2),
        (growing(100, 10, 1, more_is_better=True), 1),
    ],
    ids=["constant", "linear", "quadratic", "rate"],
)
def test_the_exponent_says_how_the_cost_of_one_thing_grows(answer: Answer, exponent: float):
    assert answer.exponent() == pytest.approx(exponent, abs=1e-9)


def test_two_sizes_do_not_make_a_curve():
    assert growing(1, 2).exponent() is None


def test_a_contender_that_takes_minutes_is_measured_when_asked_for_and_else_named():
    asked = line(contender("us", 0, 1, 1, 1), Contender("a million", lambda: nullcontext(lambda: 2), heavy=True))
    assert answer(asked, lambda text: None, heavy=False).missing == {"a million": "takes minutes; --heavy measures it"}


def test_growth_is_held_to_by_the_largest_size():
    result = growing(1, 2, 3)
    assert broken([result], {"speed": {"asked": {"growth": 3}}}) == []
    assert broken([result], {"speed": {"asked": {"growth": 2}}}) == [
        "speed: 3.00 times the cost at 1000, the limit is 2"
    ]


def test_a_ratio_is_taken_against_the_best_peer():
    result = measured(line(contender("us", 0, 6, 6, 6), contender("slow", 0, 1, 1, 1), contender("fast", 0, 3, 3, 3)))
    assert broken([result], {"speed": {"asked": {"times": 2}}}) == []
    assert broken([result], {"speed": {"asked": {"times": 2.5}}}) == ["speed: 2.00 times fast, the limit is 2.5"]


def test_a_limit_for_our_own_figure_needs_no_peer():
    result = measured(line(contender("us", 0, 5, 6, 7)))
    assert broken([result], {"speed": {"asked": {"at_most": 6}}}) == []
    assert broken([result], {"speed": {"asked": {"at_most": 5}}}) == ["speed: 6 things/s, the limit is 5"]


def test_a_limit_for_a_ratio_fails_without_any_peer_and_says_why():
    result = measured(line(contender("us", 0, 1, 1, 1), absent("them")))
    assert broken([result], {"speed": {"asked": {"times": 2}}}) == [
        "speed: no peer could be measured (it is not installed)"
    ]


def test_the_guard_is_checked_and_the_goal_is_still_told():
    result = measured(line(contender("us", 0, 1, 1, 1), contender("them", 0, 1, 1, 1)))
    budget = {"speed": {"asked": {"times": 2}, "guard": {"times": 0.5}}}
    assert broken([result], budget) == []
    assert missed(result, budget) == "1.00 times them, the limit is 2"


@pytest.mark.parametrize("budgets", [{}, {"another": {"asked": {"times": 99}}}])
def test_a_line_without_a_budget_passes(budgets):
    assert broken([measured(line(contender("us", 0, 1, 1, 1)))], budgets) == []
