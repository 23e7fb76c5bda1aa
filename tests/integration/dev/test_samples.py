"""The samples' own tests, as in a copy of a sample. Each has a process of its own: they share the module name main."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .commands import UNREACHABLE_PROXY

SAMPLES = Path(__file__).parents[3] / "samples"


@pytest.mark.parametrize("sample", ["flask", "django", "wsgi"])
def test_a_samples_own_tests_pass_even_where_the_environment_has_a_proxy(sample: str):
    # pytest-asyncio is for our own tests alone.
    run = [sys.executable, "-m", "pytest", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    done = subprocess.run(
        run, cwd=SAMPLES / sample, env=os.environ | UNREACHABLE_PROXY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
