"""uv, which builds wheels and chooses versions."""

import subprocess

import uv

from deploy.errors import StagingError

TIMEOUT = 300.0
"""Seconds that uv may take: it may have to download much."""

_OWN_SETTINGS = (
    "uv does not read pip's settings. Where pip reaches packages and uv does not, set UV_SYSTEM_CERTS=true or "
    "UV_DEFAULT_INDEX=URL, or write a uv.toml: https://docs.astral.sh/uv/concepts/configuration-files/"
)


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
        hint = f"\n{_OWN_SETTINGS}" if "Failed to fetch" in done.stderr else ""
        raise StagingError(f"`uv {' '.join(arguments)}` failed:\n{done.stderr.strip()}{hint}")
    return done.stdout
