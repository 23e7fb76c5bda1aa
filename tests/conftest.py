"""Keeps tests from a proxy on the way to servers on this machine, and lets processes that share the tests report.

The tests of our own clients remove the variables of the proxy again.
"""

import os
from collections.abc import Generator

import pytest

_EXCEPTIONS = "127.0.0.1,localhost"

for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, [os.environ.get(_name), _EXCEPTIONS]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what UTF-8 cannot write in the log of a test: pytest-xdist sends each report to another process."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
