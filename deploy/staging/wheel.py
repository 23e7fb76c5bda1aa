"""The library as a wheel, which a staged app brings along."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import uv

from deploy.errors import StagingError

LIB = Path(__file__).parents[2] / "lib"
"""Sources of gae-deferred."""

TIMEOUT = 300.0
"""Seconds that uv may take: it may have to download what builds the wheel."""


def build(into: Path, sources: Path = LIB) -> Path:
    """Build the wheel of the library, and return its path.

    Parameters:
        into: folder for the wheel.
        sources: folder of the library's pyproject.toml.

    Raises:
        StagingError: it cannot be built; the message is that of the build.
    """
    with tempfile.TemporaryDirectory() as folder:  # where uv leaves other files, too
        run_uv("build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", folder, str(sources))
        built = next(Path(folder).glob("*.whl"))
        return Path(shutil.copy(built, into))


def run_uv(*arguments: str) -> str:
    """Run uv, and return what it prints.

    Raises:
        StagingError: it failed, or did not end.
    """
    command = [uv.find_uv_bin(), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise StagingError(f"`uv {arguments[0]}` has not ended within {TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        raise StagingError(f"`uv {' '.join(arguments)}` failed:\n{done.stderr.strip()}")
    return done.stdout
