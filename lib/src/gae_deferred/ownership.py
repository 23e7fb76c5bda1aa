"""Decides whether this app wrote a request in the outbox. Anybody who can write to Datastore could have forged it."""

import enum
from typing import TYPE_CHECKING, Any

from gae_deferred import settings, signing_keys, stored_outbox
from gae_deferred.signing import Seal
from gae_deferred.stored_outbox import StoredOutbox, StoredRequest

if TYPE_CHECKING:
    from google.cloud import tasks_v2


class Owner(enum.Enum):
    """The owner of a stored request.

    OURS: this app sends it. ANOTHERS: it may belong to another service, whose sweep sends it. NOBODYS: it is forged.
    """

    OURS = "ours"
    ANOTHERS = "another's"
    NOBODYS = "nobody's"


def owner_of(entity: StoredOutbox, stored: StoredRequest) -> Owner:
    """Return the owner of a request.

    Where there are signing keys, its seal alone decides. Without keys, the request has to go where this app sends its
    own: to a queue of this project and location, and as an HTTP task to our URL with a token of our account.

    Raises:
        ConfigurationError: a setting cannot be read.
        TransientError: the signing keys cannot be read now.
    """
    if signing_keys.current() and not (stored.seal == "" and signing_keys.accept_unsigned()):
        seal = stored_outbox.check_seal(entity.key, entity.created, stored)
        return {Seal.VALID: Owner.OURS, Seal.UNKNOWN_KEY: Owner.ANOTHERS, Seal.FORGED: Owner.NOBODYS}[seal]
    return Owner.OURS if _goes_where_ours_go(stored.request) else Owner.ANOTHERS


def _goes_where_ours_go(request: "tasks_v2.CreateTaskRequest") -> bool:
    if not request.parent.startswith(f"projects/{settings.project()}/locations/{settings.location()}/queues/"):
        return False
    base = settings.target_url()
    task: Any = request.task
    if "app_engine_http_request" in task:
        return base is None
    http = task.http_request
    to_us = base is not None and (http.url == base or http.url.startswith((f"{base}/", f"{base}?")))
    token = http.oidc_token
    by_us = token.service_account_email == (settings.service_account() or "")
    for_us = token.audience == ((settings.oidc_audience() or "") if token.service_account_email else "")
    return to_us and by_us and for_us and "oauth_token" not in http
