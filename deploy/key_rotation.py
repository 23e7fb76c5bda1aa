"""The rotation of the signing keys: the next key signs, and the keys in use until now still verify."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from deploy.errors import UsageError
from deploy.gcloud import Gcloud, GcloudError, ask
from deploy.infrastructure import SIGNING_KEYS_SECRET


class RotationError(UsageError):
    """The keys were not rotated. The message says why, and what to do."""


@dataclass(frozen=True)
class Rotation:
    """The result of a rotation.

    Attributes:
        value: new value of the secret, ``id:key[,id:key...]``: the first key signs, the second is next.
        signing: id of the key that signs.
        dropped: ids of the keys that verify no more.
    """

    value: str
    signing: str
    dropped: tuple[str, ...]


def rotate(project: str) -> Rotation:
    """Add a new version to the secret of a project, with gcloud. The keys pass through pipes, never a command line.

    Raises:
        UsageError: gcloud is not installed.
        RotationError: gcloud failed, or the secret is empty.
    """
    gcloud = Gcloud(project)
    try:
        rotation = after(ask(gcloud.read_secret(SIGNING_KEYS_SECRET)))
        ask(gcloud.write_secret(SIGNING_KEYS_SECRET), text=rotation.value)
    except GcloudError as error:
        raise RotationError(f"The keys are as they were. {error}") from error
    return rotation


def after(current: str) -> Rotation:
    """Return the rotation of a secret's value: the second key signs, a new key is next, the first key still verifies.

    Raises:
        RotationError: the value has no keys.
    """
    keys = [key.strip() for key in current.split(",") if key.strip()]
    if not keys:
        raise RotationError(f"The secret {SIGNING_KEYS_SECRET} is empty. Make keys with: python3 run.py infra-apply")
    fresh = f"k{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(3)}:{secrets.token_urlsafe(32)}"
    # With a single key, no instance knows a second one yet: the first key signs until the next rotation.
    rotated = [keys[0], fresh] if len(keys) == 1 else [keys[1], fresh, keys[0]]
    return Rotation(",".join(rotated), _id(rotated[0]), tuple(_id(key) for key in keys if key not in rotated))


def _id(key: str) -> str:
    return key.partition(":")[0]
