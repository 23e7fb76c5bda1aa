"""The supported Pythons are the same wherever they are listed."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SUPPORTED = ["3.11", "3.12", "3.13", "3.14"]


def test_ci_runs_on_each():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert jobs["ci"]["strategy"]["matrix"]["python"] == SUPPORTED


@pytest.mark.parametrize("folder", ["lib", "lib/dropin", "local-cloud"])
def test_each_distribution_says_so(folder: str):
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    classifiers = [name.rpartition(" ")[2] for name in project["classifiers"] if name.startswith(prefix)]
    assert classifiers == SUPPORTED
    assert project["requires-python"] == f">={SUPPORTED[0]}"


def test_the_job_tests_versions_knows_each():
    (versions,) = re.findall(r"python=(\[.*?\])", (ROOT / "noxfile.py").read_text())
    assert ast.literal_eval(versions) == SUPPORTED


def test_an_app_can_be_deployed_on_each():
    (runtimes,) = re.findall(r"^RUNTIMES = (.*)$", (ROOT / "deploy/staging/variables.py").read_text(), re.MULTILINE)
    assert ast.literal_eval(runtimes) == tuple(f"python{version.replace('.', '')}" for version in SUPPORTED)


def test_ci_looks_for_another_python_among_them():
    (versions,) = re.findall(r"^for version in (.*); do$", (ROOT / ".ci/other-python").read_text(), re.MULTILINE)
    assert versions.split() == SUPPORTED[::-1]
