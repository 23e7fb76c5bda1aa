"""The job `suites`: results of other people's tests against the list of known failures."""

import json
from pathlib import Path

import yaml

from tests.suites.report import Result, known_failures, report
from tests.suites.suite import SUITES, mocha_results, pytest_results

KNOWN = {"test_a*": "as designed", "test_b [x]": "not there"}
FILE = Path(__file__).parents[1] / "suites" / "known_failures.yaml"


def test_failures_that_are_known_are_no_complaint():
    assert report([Result("test_a[1]", "no"), Result("test_b [x]", "no"), Result("test_c", None)], KNOWN) == []


def test_failure_that_is_not_known_a_known_one_that_passes_and_one_that_is_gone_are_complaints():
    assert report([Result("test_a[1]", None), Result("test_b x", "boom")], KNOWN) == [
        "PASSED test_a[1], a known failure: as designed",
        "FAILED test_b x: 'boom'",
        "NOT RUN test_b [x], a known failure: not there",
    ]


def test_results_of_pytest_have_failures_and_errors_but_no_skipped_tests():
    xml = """<testsuites><testsuite>
        <testcase classname="tests.system.test_m" name="passes"/>
        <testcase classname="tests.system.test_m" name="fails"><failure message="no"/></testcase>
        <testcase classname="tests.system.test_m" name="skipped"><skipped message="why"/></testcase>
        <testcase classname="tests.system.test_m" name="is not cleaned up"/>
        <testcase classname="tests.system.test_m" name="is not cleaned up">
            <error message="failed on teardown with left"/>
        </testcase>
    </testsuite></testsuites>"""
    assert pytest_results(xml) == [
        Result("test_m::passes", None),
        Result("test_m::fails", "no"),
        Result("test_m::is not cleaned up", None),
        Result("test_m::is not cleaned up (on teardown)", "failed on teardown with left"),
    ]


def test_results_of_mocha_have_the_full_titles():
    text = json.dumps({"passes": [{"fullTitle": "a b"}], "failures": [{"fullTitle": "a c", "err": {"message": "no"}}]})
    assert mocha_results(text) == [Result("a b", None), Result("a c", "no")]


def test_each_known_failure_has_a_reason_and_a_suite():
    names = {suite.name for suite in SUITES}
    for entry in yaml.safe_load(FILE.read_text()):
        assert entry["suites"]
        assert set(entry["suites"]) <= names
        assert entry["reason"]
        assert entry["tests"]


def test_known_failures_of_one_suite_are_not_those_of_another():
    text = yaml.safe_dump([{"suites": ["one", "two"], "tests": ["t"], "reason": "r"}])
    assert known_failures(text, "two") == {"t": "r"}
    assert known_failures(text, "three") == {}
