"""Another key signs tasks, and all that may have been used lately still verify."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from deploy.errors import UsageError
from deploy.gcloud import Gcloud, GcloudError, ask
from deploy.infrastructure import SIGNING_KEYS_SECRET


class RotationError(UsageError):
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
        UsageError: gcloud is not installed.
        RotationError: it fails, or there are no keys.
    """
    gcloud = Gcloud(project)
    try:
        rotation = after(ask(gcloud.read_secret(SIGNING_KEYS_SECRET)))
        ask(gcloud.write_secret(SIGNING_KEYS_SECRET), text=rotation.value)
    except GcloudError as error:
        raise RotationError(f"The keys are as they were. {error}") from error
    return rotation


def after(current: str) -> Rotation:
    """Return the rotation of keys: the second signs, a new one is next, and the one that signed is kept for verifying.

    Raises:
        RotationError: there are no keys.
    """
    keys = [key.strip() for key in current.split(",") if key.strip()]
    if not keys:
        raise RotationError(f"The secret {SIGNING_KEYS_SECRET} is empty. Make keys with: python3 run.py infra-apply")
    fresh = f"k{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(3)}:{secrets.token_urlsafe(32)}"
    # Where nobody knows a second key yet, the first goes on until the next rotation.
    rotated = [keys[0], fresh] if len(keys) == 1 else [keys[1], fresh, keys[0]]
    return Rotation(",".join(rotated), _id(rotated[0]), tuple(_id(key) for key in keys if key not in rotated))


def _id(key: str) -> str:
    return key.partition(":")[0]
