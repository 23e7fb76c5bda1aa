"""The library as a wheel, which a staged app brings along."""

import shutil
import sys
import tempfile
from pathlib import Path

from deploy.staging.uv_command import run_uv

LIB = Path(__file__).parents[2] / "lib"
"""Sources of gae-deferred."""


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
