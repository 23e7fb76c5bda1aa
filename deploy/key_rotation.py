"""Another key signs tasks, and all that may have been used lately still verify."""

import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from deploy.infrastructure import SIGNING_KEYS_SECRET


class RotationError(Exception):
    """The keys are as they were. The message says why, and what to do."""


@dataclass(frozen=True)
class Rotation:
    """What a rotation makes of the signing keys.

    Attributes:
        value: what the secret is to hold, ``id:secret[,id:secret...]``: the first signs, the second is next.
        signing: id of the key that signs.
        dropped: ids of the keys that are gone.
    """

    value: str
    signing: str
    dropped: tuple[str, ...]


def rotate(project: str) -> Rotation:
    """Give the secret of a project a new version, by gcloud; secrets go through pipes, where nobody else reads them.

    Raises:
        RotationError: gcloud is missing or fails, or there are no keys.
    """
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise RotationError("gcloud is not installed, or not on the PATH: https://cloud.google.com/sdk/docs/install")
    rotation = after(_run(gcloud, read_command(project)))
    _run(gcloud, add_command(project), rotation.value)
    return rotation


def after(current: str) -> Rotation:
    """Return the rotation of keys: the second signs, a new one is next, and the one that signed is kept for verifying.

    Raises:
        RotationError: there are no keys.
    """
    keys = [key.strip() for key in current.split(",") if key.strip()]
    if not keys:
        raise RotationError(f"The secret {SIGNING_KEYS_SECRET} is empty. Make keys with: nox -s infra-apply")
    fresh = f"k{datetime.now(timezone.utc):%Y%m%d}-{secrets.token_hex(3)}:{secrets.token_urlsafe(32)}"
    # Where nobody knows a second key yet, the first goes on until the next rotation.
    rotated = [keys[0], fresh] if len(keys) == 1 else [keys[1], fresh, keys[0]]
    return Rotation(",".join(rotated), _id(rotated[0]), tuple(_id(key) for key in keys if key not in rotated))


def read_command(project: str) -> list[str]:
    """Return gcloud's arguments that print the signing keys."""
    return ["secrets", "versions", "access", "latest", f"--secret={SIGNING_KEYS_SECRET}", f"--project={project}"]


def add_command(project: str) -> list[str]:
    """Return gcloud's arguments that keep what is on standard input as the signing keys."""
    return ["secrets", "versions", "add", SIGNING_KEYS_SECRET, "--data-file=-", f"--project={project}"]


def _id(key: str) -> str:
    return key.partition(":")[0]


def _run(gcloud: str, arguments: Sequence[str], text: str | None = None) -> str:
    done = subprocess.run(  # noqa: S603 - the user's own gcloud, without a shell
        [gcloud, *arguments], input=text, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise RotationError("gcloud failed, so the keys are as they were.")
    return done.stdout
