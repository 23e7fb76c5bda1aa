"""Arithmetic of benchmarks: ratios, growth and budgets."""

from contextlib import nullcontext

import pytest

from bench.benchmarks import Benchmark, Contender, Measurement, Result, Unavailable, run
from bench.budgets import broken, missed


def contender(name: str, *figures: float) -> Contender:
    remaining = iter(figures)
    return Contender(name, lambda: nullcontext(lambda: next(remaining)))


def absent(name: str) -> Contender:
    def prepare():
        raise Unavailable("it is not installed")

    return Contender(name, prepare)


def benchmark(ours: Contender, *peers: Contender, more_is_better: bool = True) -> Benchmark:
    return Benchmark("speed", "How fast?", "things/s", ours, peers, more_is_better, runs=3)


def measured(asked: Benchmark) -> Result:
    return run(asked, lambda text: None)


def test_the_warm_up_does_not_count_and_the_ratio_is_the_median_of_neighbouring_runs():
    result = measured(benchmark(contender("us", 999, 10, 20, 90), contender("them", 1, 10, 10, 10)))
    assert result.figures == {"us": [10, 20, 90], "them": [10, 10, 10]}
    assert result.ratio("them") == 2


def test_where_less_is_better_the_ratio_is_still_above_1_for_us():
    result = measured(benchmark(contender("us", 0, 1, 1, 1), contender("them", 0, 4, 4, 4), more_is_better=False))
    assert result.ratio("them") == 4


def test_an_unavailable_peer_is_named_with_the_reason():
    result = measured(benchmark(contender("us", 0, 1, 1, 1), absent("them")))
    assert result.missing == {"them": "it is not installed"}
    assert result.best_peer() is None


def test_a_peer_that_fails_is_left_out_and_a_failure_of_ours_is_raised():
    def breaks():
        raise RuntimeError("a long story\nit has ended")

    peer = Contender("them", lambda: nullcontext(breaks))
    result = measured(benchmark(contender("us", 0, 1, 2, 3), peer))
    assert (result.figures, result.missing) == ({"us": [1, 2, 3]}, {"them": "it has ended"})
    with pytest.raises(RuntimeError, match="it has ended"):
        measured(benchmark(Contender("us", lambda: nullcontext(breaks)), contender("them", 0, 1, 1, 1)))


def test_values_beside_a_measurement_are_kept():
    runs = iter([Measurement(value, {"ms p99": value * 10}) for value in (0, 1, 2, 3)])
    result = measured(benchmark(Contender("us", lambda: nullcontext(lambda: next(runs)))))
    assert result.figures == {"us": [1, 2, 3]}
    assert result.beside == {"us": {"ms p99": [10, 20, 30]}}


def growing(*costs: float, more_is_better: bool = False) -> Result:
    sizes = [10, 100, 1000][: len(costs)]
    contenders = [
        Contender(f"at {size}", lambda cost=cost: nullcontext(lambda: cost), at=size)
        for size, cost in zip(sizes, costs, strict=True)
    ]
    return measured(benchmark(*contenders, more_is_better=more_is_better))


@pytest.mark.parametrize(
    ("result", "exponent"),
    [
        (growing(5, 5, 5), 0),
        (growing(1, 10, 100), 1),
        (growing(1, 100, 10_000), 2),
        (growing(100, 10, 1, more_is_better=True), 1),
    ],
    ids=["constant", "linear", "quadratic", "rate"],
)
def test_the_exponent_is_that_of_the_cost_of_one_operation(result: Result, exponent: float):
    assert result.exponent() == pytest.approx(exponent, abs=1e-9)


def test_two_sizes_have_no_exponent():
    assert growing(1, 2).exponent() is None


def test_a_heavy_contender_is_measured_on_request_and_named_otherwise():
    asked = benchmark(contender("us", 0, 1, 1, 1), Contender("a million", lambda: nullcontext(lambda: 2), heavy=True))
    assert run(asked, lambda text: None, heavy=False).missing == {"a million": "takes minutes; --heavy measures it"}


def test_growth_is_the_cost_at_the_largest_size():
    result = growing(1, 2, 3)
    assert broken([result], {"speed": {"asked": {"growth": 3}}}) == []
    assert broken([result], {"speed": {"asked": {"growth": 2}}}) == [
        "speed: 3.00 times the cost at 1000, the limit is 2"
    ]


def test_a_ratio_is_compared_with_the_best_peer():
    result = measured(
        benchmark(contender("us", 0, 6, 6, 6), contender("slow", 0, 1, 1, 1), contender("fast", 0, 3, 3, 3))
    )
    assert broken([result], {"speed": {"asked": {"times": 2}}}) == []
    assert broken([result], {"speed": {"asked": {"times": 2.5}}}) == ["speed: 2.00 times fast, the limit is 2.5"]


def test_a_limit_on_our_own_value_needs_no_peer():
    result = measured(benchmark(contender("us", 0, 5, 6, 7)))
    assert broken([result], {"speed": {"asked": {"at_most": 6}}}) == []
    assert broken([result], {"speed": {"asked": {"at_most": 5}}}) == ["speed: 6 things/s, the limit is 5"]


def test_a_limit_on_a_ratio_fails_without_a_peer_and_says_why():
    result = measured(benchmark(contender("us", 0, 1, 1, 1), absent("them")))
    assert broken([result], {"speed": {"asked": {"times": 2}}}) == [
        "speed: no peer could be measured (it is not installed)"
    ]


def test_the_guard_is_checked_and_a_missed_goal_is_still_named():
    result = measured(benchmark(contender("us", 0, 1, 1, 1), contender("them", 0, 1, 1, 1)))
    budget = {"speed": {"asked": {"times": 2}, "guard": {"times": 0.5}}}
    assert broken([result], budget) == []
    assert missed(result, budget) == "1.00 times them, the limit is 2"


@pytest.mark.parametrize("budgets", [{}, {"another": {"asked": {"times": 99}}}])
def test_a_benchmark_without_a_budget_passes(budgets):
    assert broken([measured(benchmark(contender("us", 0, 1, 1, 1)))], budgets) == []
