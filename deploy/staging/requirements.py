"""What an app needs on App Engine, down to the last package, each in one version."""

import hashlib
import sys
import tempfile
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.errors import StagingError
from deploy.staging import wheel
from deploy.staging.uv_command import run_uv

NAME = "requirements.txt"

PLATFORM = "x86_64-manylinux_2_28"
"""What App Engine's runtimes can run: they are Ubuntu 22.04 and newer, whose glibc is newer than 2.28."""


def pin(wanted: Path, folder: Path, runtime: str) -> str:
    """Return the text of a requirements.txt that says for every package which version, with hashes.

    App Engine's build takes the packages of an earlier build when requirements.txt is the same as then
    (GoogleCloudPlatform/buildpacks, pkg/python/python.go). The hash of a wheel makes it another one when only the
    library's code has changed.

    Parameters:
        wanted: requirements.txt of the app, which names what it imports.
        folder: where the new file is to be, beside the wheels of what :func:`ours` returns.
        runtime: of App Engine, such as ``python313``, for which versions are chosen.

    Raises:
        StagingError: the app does not require the library, or no versions go together.
    """
    required = ours(wanted)
    wheels = {name: wheel.find(name, folder) for name in required}
    with tempfile.TemporaryDirectory() as scratch:
        override = Path(scratch, "override.txt")
        override.write_text("".join(f"{name} @ {path.resolve().as_uri()}\n" for name, path in wheels.items()))
        others = run_uv(
            *["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"],
            *["--python-version", python_version(runtime), "--python-platform", PLATFORM, "--python", sys.executable],
            *["--override", str(override), *(part for name in wheels for part in ("--no-emit-package", name))],
            str(wanted),
        )
    brought = "".join(_line(path, required[name].extras) for name, path in wheels.items())
    return f"# Made for {runtime} from what the app's own requirements.txt asks for.\n{brought}{others}"


def ours(wanted: Path) -> dict[str, Requirement]:
    """Return how an app requires what comes as a wheel, by name: the library, and the drop-in where it is named.

    Raises:
        StagingError: it requires neither. The drop-in brings the library.
    """
    named: dict[str, Requirement] = {}
    for line in wanted.read_text(encoding="utf-8").splitlines():
        try:
            requirement = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:
            continue  # an option of pip, a comment, or something that uv will complain about
        if canonicalize_name(requirement.name) in wheel.SOURCES:
            named[canonicalize_name(requirement.name)] = requirement
    if not named:
        raise StagingError(f"{wanted} does not name {wheel.LIBRARY}: add the line `{wheel.LIBRARY}`")
    return {wheel.LIBRARY: Requirement(wheel.LIBRARY), **named}


def python_version(runtime: str) -> str:
    """Return the version of Python that a runtime of App Engine has: ``3.13`` for ``python313``."""
    digits = runtime.removeprefix("python")
    return f"{digits[0]}.{digits[1:]}"


def names(text: str) -> set[str]:
    """Return the packages of a requirements.txt as :func:`pin` makes it, the wheel by its file name."""
    lines = [line.split()[0] for line in text.splitlines() if line and line[0] not in "# "]
    return {line.partition("==")[0].removeprefix("./").partition("[")[0] for line in lines}


def _line(path: Path, extras: set[str]) -> str:
    """Return the line for a wheel that is beside requirements.txt."""
    chosen = f"[{','.join(sorted(extras))}]" if extras else ""
    return f"./{path.name}{chosen} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
