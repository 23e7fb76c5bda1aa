"""Page tokens: opaque to the caller, valid for one list and for two hours."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.errors import invalid

_LIFETIME = 2 * 3600 * SECOND


def page_size(requested: int, highest: int) -> int:
    """Return the size of a page: 0 and sizes above ``highest`` mean ``highest``.

    Raises:
        ServiceError: INVALID_ARGUMENT if the size is negative.
    """
    if requested < 0:
        raise invalid(f"page_size must not be negative, got {requested}")
    return min(requested or highest, highest)


def page_token(listed: str, last: str, now: int) -> str:
    """Return the token for the page after an item.

    Parameters:
        listed: the parent, with the filter if there is one.
        last: name of the page's last item.
        now: microseconds since the epoch.
    """
    return urlsafe_b64encode(json.dumps([listed, last, now]).encode()).decode().rstrip("=")


def last_item(token: str, listed: str, now: int) -> str:
    """Return the name of the item after which a token continues, or ``""`` without a token.

    Raises:
        ServiceError: INVALID_ARGUMENT if the token is damaged, of another list, or too old.
    """
    if not token:
        return ""
    try:
        fields = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        token_listed, last, issued = str(fields[0]), str(fields[1]), int(fields[2])
    except (binascii.Error, ValueError, TypeError, LookupError) as error:
        raise invalid("page_token was not returned by this server") from error
    if token_listed != listed:
        raise invalid("page_token belongs to a list of another parent or filter")
    if now > issued + _LIFETIME:
        raise invalid("page_token is older than 2 hours")
    return last
