"""The library, and the drop-in where an app moves with it, as wheels, which a staged app brings along."""

import shutil
import sys
import tempfile
from pathlib import Path

from deploy.staging.uv_command import run_uv

_LIB = Path(__file__).parents[2] / "lib"

LIBRARY = "gae-deferred"
DROPIN = "gae-deferred-dropin"

SOURCES = {LIBRARY: _LIB, DROPIN: _LIB / "dropin"}
"""Folder of each distribution's pyproject.toml."""


def build(name: str, into: Path) -> Path:
    """Build the wheel of a distribution, and return its path.

    Parameters:
        name: one of ``SOURCES``.
        into: folder for the wheel.

    Raises:
        StagingError: it cannot be built; the message is that of the build.
    """
    with tempfile.TemporaryDirectory() as folder:  # where uv leaves other files, too
        run_uv("build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", folder, str(SOURCES[name]))
        built = next(Path(folder).glob("*.whl"))
        return Path(shutil.copy(built, into))


def find(name: str, folder: Path) -> Path:
    """Return the wheel of a distribution that :func:`build` has put into a folder."""
    return next(folder.glob(f"{name.replace('-', '_')}-*.whl"))
