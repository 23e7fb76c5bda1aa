"""A plugin of pytest, run under coverage.py: notes which test runs which line, and how long each takes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

_measured = coverage.Coverage(data_file=None, source_pkgs=["gae_deferred", "gae_local_cloud"])
_measured.start()  # before another plugin imports the package
_durations: dict[str, float] = {}
_failed: set[str] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _measured.switch_context(item.nodeid)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _durations[report.nodeid] = _durations.get(report.nodeid, 0) + report.duration
    if report.failed:
        _failed.add(report.nodeid)  # it would kill every mutant


def pytest_sessionfinish(exitstatus: int) -> None:
    _measured.stop()
    if exitstatus > pytest.ExitCode.TESTS_FAILED:
        return
    durations = {test: seconds for test, seconds in _durations.items() if test not in _failed}
    numbers = {test: number for number, test in enumerate(durations)}
    data = _measured.get_data()
    lines = {
        file: {
            line: [numbers[test] for test in tests if test in numbers]
            for line, tests in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    Path(os.environ["MUTANTS_MAP"]).write_text(json.dumps({"lines": lines, "durations": durations}))
