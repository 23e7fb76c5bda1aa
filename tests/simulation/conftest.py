"""The options of a run of simulations."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=40, help="how many seeds each set of faults is simulated with")
    group.addoption("--seed", type=int, help="simulate this one alone, and show what happened")


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    one = request.config.getoption("--seed", None)
    return range(request.config.getoption("--seeds", 40)) if one is None else range(one, one + 1)
