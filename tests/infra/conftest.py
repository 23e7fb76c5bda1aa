"""Fixtures that run the real Terraform on a copy of infra/ with stand-ins for its providers."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

_MISSING = [name for name in ("hcl2", "msgpack") if find_spec(name) is None]

collect_ignore_glob = ["test_*.py"] if _MISSING else []

INFRA = Path(__file__).parents[2] / "infra"

Run = Callable[..., "subprocess.CompletedProcess[str]"]
"""Runs Terraform with the given arguments in ``folder``; returns its exit code and output."""


def pytest_report_header() -> list[str]:
    missing = ", ".join(_MISSING)
    return (
        [f"tests/infra is left out because {missing} is not installed; run it with `python3 run.py infra-check`"]
        if _MISSING
        else []
    )


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment variables with which Terraform finds the stand-ins."""
    from tests.infra import configuration, stand_in_providers

    if shutil.which("terraform") is None:
        pytest.skip("Terraform is not installed")
    names = {(each.kind, each.type) for each in configuration.read(INFRA) if each.kind != "provider"}
    with stand_in_providers.running(names, tmp_path_factory.mktemp("providers")) as found_by:
        inherited = {name: value for name, value in os.environ.items() if name != "TF_WORKSPACE"}
        yield {**inherited, **found_by, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}


@pytest.fixture(scope="session")
def terraform(environment: dict[str, str]) -> Run:
    def run(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["terraform", f"-chdir={folder}", *arguments, "-no-color"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


@pytest.fixture
def infra(tmp_path: Path, terraform: Run) -> Path:
    """An initialised copy of infra/ that a test may change and apply."""
    folder = tmp_path / "infra"
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "terraform.tfstate.d", "*.tfvars", "backend.tf")
    shutil.copytree(INFRA, folder, ignore=ignored)
    done = terraform("init", "-input=false", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder
