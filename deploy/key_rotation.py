"""The rotation of the signing keys: the second key becomes the signer, and the first one still verifies."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from deploy.errors import UsageError
from deploy.gcloud import Gcloud, GcloudError, ask, ask_json
from deploy.infrastructure import SIGNING_KEYS_SECRET

WAIT = timedelta(days=69)
"""Time for which a signed task may wait: 7 days in the outbox, and 62 in a queue. The library refuses older ones."""

CHANGE_OVER = timedelta(minutes=40)
"""Time for which instances may sign with the old key: they read the secret again after 10 minutes, and trust the keys
for 30 while it cannot be read."""


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


@dataclass(frozen=True)
class _Version:
    """A version of the secret: numbers count from 1 (Secret Manager's REST reference, projects.secrets.versions)."""

    number: int
    created: datetime


def rotate(project: str, *, force: bool = False) -> Rotation:
    """Add a new version to the secret of a project, with gcloud. The keys pass through pipes, never a command line.

    Parameters:
        project: id of the project.
        force: drop the oldest key even though tasks that it signed may still wait.

    Raises:
        UsageError: gcloud is not installed.
        RotationError: gcloud failed, the secret is empty, or somebody else has changed it meanwhile; without ``force``
            also if tasks may still wait that are signed by the key to drop.
    """
    gcloud = Gcloud(project)
    try:
        latest = _latest(gcloud)
        rotation = after(ask(gcloud.read_secret(SIGNING_KEYS_SECRET, str(latest.number))))
        if rotation.dropped and not force:
            _check_age(latest, rotation)
        if _latest(gcloud) != latest:
            raise RotationError("Somebody else has just changed the keys, and nothing was added. Look at them first")
        added = ask(gcloud.write_secret(SIGNING_KEYS_SECRET), text=rotation.value)
    except GcloudError as error:
        raise RotationError(f"The keys are as they were. {error}") from error
    _check_successor(added, latest)
    return rotation


def _latest(gcloud: Gcloud) -> _Version:
    versions = ask_json(gcloud.secret_versions(SIGNING_KEYS_SECRET))
    if not versions:
        raise RotationError(f"The secret {SIGNING_KEYS_SECRET} is empty. Make keys with: python3 run.py infra-apply")
    numbers = {_number(version["name"]): version["createTime"] for version in versions}
    return _Version(max(numbers), datetime.fromisoformat(numbers[max(numbers)]))


def _check_age(latest: _Version, rotation: Rotation) -> None:
    """Refuse to drop a key that signed tasks which may still wait.

    The keys to drop have not signed since the latest version was made: its first key signs, and a rotation keeps it.
    """
    earliest = latest.created + CHANGE_OVER + WAIT
    if datetime.now(UTC) < earliest:
        raise RotationError(
            f"The keys are as they were. A rotation drops {', '.join(rotation.dropped)}, and until "
            f"{earliest:%Y-%m-%d %H:%M} UTC tasks may wait that this key signed: they would be refused. Rotate after "
            "that, or add --force if the key has leaked"
        )


def _check_successor(added: str, latest: _Version) -> None:
    number = _number(added.strip())
    if number != latest.number + 1:
        raise RotationError(
            f"Somebody else changed the keys at the same moment: version {number} follows {latest.number}, and the "
            f"keys of the versions between them verify no more. Compare the versions of {SIGNING_KEYS_SECRET}, and "
            "add one with all the keys"
        )


def _number(name: str) -> int:
    return int(name.rpartition("/")[2])  # projects/P/secrets/S/versions/N


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
