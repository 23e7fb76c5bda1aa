"""The requirements.txt of a staged app: the library as a wheel, and every other package pinned, with hashes."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import uv
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.errors import StagingError

NAME = "requirements.txt"

LIBRARY = "gae-deferred"
DROPIN = "gae-deferred-dropin"
BUNDLED_SDK = "appengine-python-standard"

BOTH_SDKS = (
    f"{DROPIN} and {BUNDLED_SDK} are both required, and both install the package google.appengine: remove one of them"
)
"""A problem that :func:`ours` finds in an app's own requirements.txt, and the inspection in all packages."""

PLATFORM = "x86_64-manylinux_2_28"
"""Wheels that App Engine's runtimes can run: Ubuntu 22.04 and newer have a newer glibc than 2.28."""

UV_TIMEOUT = 300.0
"""Seconds for one uv command, which may have to download many packages."""

_LIB = Path(__file__).parents[2] / "lib"
_SOURCES = {LIBRARY: _LIB, DROPIN: _LIB / "dropin"}
"""Folder with the pyproject.toml of each distribution that is staged as a wheel."""

_UV_SETTINGS = (
    "uv does not read pip's settings. If pip can download packages and uv cannot, set UV_SYSTEM_CERTS=true or "
    "UV_DEFAULT_INDEX=URL, or write a uv.toml: https://docs.astral.sh/uv/concepts/configuration-files/"
)


def build_wheel(name: str, folder: Path) -> Path:
    """Build the wheel of a distribution of this repository, and return its path.

    Parameters:
        name: of the distribution, from :func:`ours`.
        folder: the folder for the wheel.

    Raises:
        StagingError: the build failed; the message is that of the build.
    """
    with tempfile.TemporaryDirectory() as scratch:  # uv leaves other files there, too
        _run_uv("build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", scratch, str(_SOURCES[name]))
        built = next(Path(scratch).glob("*.whl"))
        return Path(shutil.copy(built, folder))


def pin(wanted: Path, folder: Path, runtime: str) -> str:
    """Return the text of a requirements.txt that names every package with one version and its hashes.

    App Engine's build reuses the packages of the previous build if requirements.txt is unchanged
    (GoogleCloudPlatform/buildpacks, pkg/python/python.go). The hash of the wheel changes the file when only the
    library's code has changed.

    Parameters:
        wanted: requirements.txt of the app, which names the packages that it imports.
        folder: folder of the new file, with the wheels of :func:`ours`.
        runtime: App Engine runtime, such as ``python313``, for which the versions are chosen.

    Raises:
        StagingError: the app does not require the library, or its requirements conflict.
    """
    required = ours(wanted)
    wheels = {name: next(folder.glob(f"{name.replace('-', '_')}-*.whl")) for name in required}
    with tempfile.TemporaryDirectory() as scratch:
        override = Path(scratch, "override.txt")
        override.write_text("".join(f"{name} @ {path.resolve().as_uri()}\n" for name, path in wheels.items()))
        others = _run_uv(
            *["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"],
            *["--python-version", _python_version(runtime), "--python-platform", PLATFORM, "--python", sys.executable],
            *["--override", str(override), *(part for name in wheels for part in ("--no-emit-package", name))],
            str(wanted),
        )
    lines = "".join(_wheel_line(path, required[name].extras) for name, path in wheels.items())
    return f"# Made for {runtime} from the app's own requirements.txt.\n{lines}{others}"


def ours(wanted: Path) -> dict[str, Requirement]:
    """Return an app's requirements of this repository's distributions: the library, and the drop-in if it is named.

    Raises:
        StagingError: the app requires neither (the drop-in brings the library), or the drop-in and the bundled SDK.
    """
    named: dict[str, Requirement] = {}
    for line in wanted.read_text(encoding="utf-8").splitlines():
        try:
            requirement = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:
            continue  # an option of pip, a comment, or an error that uv will report
        named[canonicalize_name(requirement.name)] = requirement
    if named.keys() >= {DROPIN, BUNDLED_SDK}:
        raise StagingError(f"{wanted}: {BOTH_SDKS}")
    named = {name: requirement for name, requirement in named.items() if name in _SOURCES}
    if not named:
        raise StagingError(f"{wanted} does not name {LIBRARY}: add the line `{LIBRARY}`")
    return {LIBRARY: Requirement(LIBRARY), **named}


def names(text: str) -> set[str]:
    """Return the packages of a requirements.txt made by :func:`pin`. A wheel is named by its file."""
    lines = [line.split()[0] for line in text.splitlines() if line and line[0] not in "# "]
    return {line.partition("==")[0].removeprefix("./").partition("[")[0] for line in lines}


def _python_version(runtime: str) -> str:
    """Return the Python version of an App Engine runtime: ``3.13`` for ``python313``."""
    digits = runtime.removeprefix("python")
    return f"{digits[0]}.{digits[1:]}"


def _wheel_line(path: Path, extras: set[str]) -> str:
    """Return the line for a wheel in the folder of requirements.txt."""
    chosen = f"[{','.join(sorted(extras))}]" if extras else ""
    return f"./{path.name}{chosen} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _run_uv(*arguments: str) -> str:
    """Run uv, and return its output.

    Raises:
        StagingError: it failed, or took longer than ``UV_TIMEOUT``.
    """
    command = [uv.find_uv_bin(), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 (uv of this environment, without a shell)
            command, capture_output=True, text=True, timeout=UV_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StagingError(f"`uv {arguments[0]}` took longer than {UV_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        hint = f"\n{_UV_SETTINGS}" if "Failed to fetch" in done.stderr else ""
        raise StagingError(f"`uv {' '.join(arguments)}` failed:\n{done.stderr.strip()}{hint}")
    return done.stdout
