"""Compares the results of a suite with its known failures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

MESSAGE_LENGTH = 200
"""Characters of a failure's message that a report shows."""


@dataclass(frozen=True)
class Result:
    """The result of one test: the message of its failure, None if it passed."""

    test: str
    failure: str | None


def known_failures(text: str, suite: str) -> Mapping[str, str]:
    """Return the reason of each known failure of a suite, by the test's name, in which ``*`` matches any text.

    Parameters:
        text: the contents of known_failures.yaml.
        suite: the suite's name.
    """
    entries = [entry for entry in yaml.safe_load(text) if suite in entry["suites"]]
    return {test: entry["reason"] for entry in entries for test in entry["tests"]}


def report(results: Sequence[Result], known: Mapping[str, str]) -> Sequence[str]:
    """Return a line for each failure that is not known, and for each known one that no test shows."""
    lines = []
    for result in results:
        names = [name for name in known if _matches(name, result.test)]
        if result.failure is not None and not names:
            lines.append(f"FAILED {result.test}: {result.failure[:MESSAGE_LENGTH]!r}")
        if result.failure is None and names:
            lines.append(f"PASSED {result.test}, a known failure: {known[names[0]]}")
    tests = [result.test for result in results]
    missing = [name for name in known if not any(_matches(name, test) for test in tests)]
    return lines + [f"NOT RUN {name}, a known failure: {known[name]}" for name in missing]


def _matches(name: str, test: str) -> bool:
    return re.fullmatch(re.escape(name).replace(r"\*", ".*"), test, re.DOTALL) is not None
