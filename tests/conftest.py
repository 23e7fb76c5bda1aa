"""Settings of all tests: no proxy, no limits of time for Hypothesis, reports that reach another process.

The tests of our own clients remove the variables of the proxy again.
"""

import gc
import os
from collections.abc import Generator

import hypothesis
import pytest

_EXCEPTIONS = "127.0.0.1,localhost"

for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, [os.environ.get(_name), _EXCEPTIONS]))

# A test is not wrong because the machine is busy.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Exclude the modules and tests from garbage collection: they stay until the end."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what UTF-8 cannot write in the log of a test: pytest-xdist sends each report to another process."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
