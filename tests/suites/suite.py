"""The system suites: how each is installed, run and read."""

import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.suites.report import Result

TEST_SECONDS = 120
"""Seconds that one test may take."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A system suite. All commands run in a copy of the package's folder.

    Attributes:
        name: its name in known_failures.yaml.
        package: the repository that the suite comes from.
        index_yaml: the composite indexes that its queries need.
        install: commands that install the package and the tools of its tests into the folder ``environment``.
        prepare: commands that write entities.
        command: command that runs the tests and writes ``output``.
        read_results: function that reads the contents of ``output``.
        environment: environment variables of the tests.
        over_http: whether the client speaks HTTP instead of gRPC.
    """

    name: str
    package: str
    index_yaml: str = "tests/system/index.yaml"
    install: Sequence[Sequence[str]]
    prepare: Sequence[Sequence[str]] = ()
    command: Sequence[str]
    output: str = "results.xml"
    read_results: Callable[[str], Sequence[Result]]
    environment: Mapping[str, str] = field(default_factory=dict)
    over_http: bool = False


def pytest_results(xml: str) -> Sequence[Result]:
    """Read the results that pytest wrote as JUnit XML. Skipped tests have none.

    A fixture's error is a result of its own, named after its test with ``(on setup)`` or ``(on teardown)``.
    """
    results = []
    for case in ElementTree.fromstring(xml).iter("testcase"):  # noqa: S314 (written by pytest just now)
        name = f"{case.get('classname', '').removeprefix('tests.system.')}::{case.get('name')}"
        failure, error = case.find("failure"), case.find("error")
        if error is not None:
            message = error.get("message", "")
            results.append(Result(f"{name} ({' '.join(message.split()[1:3])})", message))
        elif case.find("skipped") is None:
            results.append(Result(name, None if failure is None else failure.get("message", "")))
    return results


def mocha_results(text: str) -> Sequence[Result]:
    """Read the results that Mocha wrote as JSON. Skipped tests have none."""
    report = json.loads(text)
    passes = [Result(test["fullTitle"], None) for test in report["passes"]]
    return [*passes, *(Result(test["fullTitle"], test["err"].get("message", "")) for test in report["failures"])]


def _with_pip(*packages: str) -> Sequence[Sequence[str]]:
    uv = ["uv", "pip", "install", "--quiet", "--python", "environment"]
    return [
        ["uv", "venv", "--quiet", "--allow-existing", "--python", sys.executable, "environment"],
        [*uv, "google-cloud-testutils", "pytest", "pytest-timeout", "requests", *packages, "."],
    ]


_PYTEST = [
    *["python", "-m", "pytest", "--quiet", "--tb=short", "--junitxml=results.xml"],
    *["--rootdir=.", f"--config-file={os.devnull}"],  # otherwise pytest finds ours: the copy is in a folder of ours
    *[f"--timeout={TEST_SECONDS}", "tests/system"],
]
_PYTHON_DATASTORE = {
    "package": "python-datastore",
    "install": _with_pip(),
    "prepare": [
        ["python", "-m", "tests.system.utils.populate_datastore", "--uuid", "--timestamps"]
    ],  # fixtures: others
    "command": _PYTEST,
    "read_results": pytest_results,
}

SUITES = (
    Suite(
        name="python-ndb",
        package="python-ndb",
        install=_with_pip("mock"),
        command=_PYTEST,
        read_results=pytest_results,
    ),
    Suite(name="python-datastore", **_PYTHON_DATASTORE),
    Suite(
        name="python-datastore over HTTP",
        environment={"GOOGLE_CLOUD_DISABLE_GRPC": "true"},
        over_http=True,
        **_PYTHON_DATASTORE,
    ),
    Suite(
        name="nodejs-datastore",
        package="nodejs-datastore",
        index_yaml="system-test/data/index.yaml",
        install=[
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"],
            ["npm", "run", "compile"],
        ],
        command=[
            *["npx", "mocha", "build/system-test/datastore.js", f"--timeout={TEST_SECONDS * 1000}", "--exit"],
            *["--reporter=json", "--reporter-option=output=results.json"],
        ],
        output="results.json",
        read_results=mocha_results,
        environment={"MOCHA_THROW_DEPRECATION": "false", "METADATA_SERVER_DETECTION": "none"},
    ),
)
