"""What an app needs on App Engine, down to the last package, each in one version."""

import hashlib
import sys
import tempfile
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.errors import StagingError
from deploy.staging.uv_command import run_uv

NAME = "requirements.txt"

LIBRARY = "gae-deferred"
"""The distribution that comes as a wheel."""

PLATFORM = "x86_64-manylinux_2_28"
"""What App Engine's runtimes can run: they are Ubuntu 22.04 and newer, whose glibc is newer than 2.28."""


def pin(wanted: Path, wheel: Path, runtime: str) -> str:
    """Return the text of a requirements.txt that says for every package which version, with hashes.

    App Engine's build takes the packages of an earlier build when requirements.txt is the same as then
    (GoogleCloudPlatform/buildpacks, pkg/python/python.go). The hash of the wheel makes it another one when only the
    library's code has changed.

    Parameters:
        wanted: requirements.txt of the app, which names what it imports.
        wheel: of the library, which is to be beside the new file.
        runtime: of App Engine, such as ``python313``, for which versions are chosen.

    Raises:
        StagingError: the app does not require the library, or no versions go together.
    """
    library = _library_of(wanted)
    with tempfile.TemporaryDirectory() as folder:
        override = Path(folder, "override.txt")
        override.write_text(f"{LIBRARY} @ {wheel.resolve().as_uri()}\n")
        others = run_uv(
            *["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"],
            *["--python-version", python_version(runtime), "--python-platform", PLATFORM, "--python", sys.executable],
            *["--override", str(override), "--no-emit-package", LIBRARY],
            str(wanted),
        )
    extras = f"[{','.join(sorted(library.extras))}]" if library.extras else ""
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    ours = f"./{wheel.name}{extras} \\\n    --hash=sha256:{sha256}\n"
    return f"# Made for {runtime} from what the app's own requirements.txt asks for.\n{ours}{others}"


def python_version(runtime: str) -> str:
    """Return the version of Python that a runtime of App Engine has: ``3.13`` for ``python313``."""
    digits = runtime.removeprefix("python")
    return f"{digits[0]}.{digits[1:]}"


def names(text: str) -> set[str]:
    """Return the packages of a requirements.txt as :func:`pin` makes it, the wheel by its file name."""
    lines = [line.split()[0] for line in text.splitlines() if line and line[0] not in "# "]
    return {line.partition("==")[0].removeprefix("./").partition("[")[0] for line in lines}


def _library_of(wanted: Path) -> Requirement:
    """Return how the app requires the library."""
    for line in wanted.read_text(encoding="utf-8").splitlines():
        try:
            requirement = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:
            continue  # an option of pip, a comment, or something that uv will complain about
        if canonicalize_name(requirement.name) == LIBRARY:
            return requirement
    raise StagingError(f"{wanted} does not name {LIBRARY}: add the line `{LIBRARY}`")
