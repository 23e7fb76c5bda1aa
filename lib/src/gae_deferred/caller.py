"""Who is asking to run a task? A pickle is code, so nothing of a request is read as one before its caller is proven."""

import datetime
import logging
from http import HTTPStatus
from typing import Any

from gae_deferred import cloud_tasks, oidc, settings, signing, signing_keys
from gae_deferred.delivery import Delivery
from gae_deferred.errors import RequestRefusedError, TaskQueueError

_TASK_QUEUE_IP = "0.1.0.2"
"""Where App Engine's task requests come from (App Engine documentation, "Create App Engine task handlers")."""

_BEARER = "Bearer "

_logger = logging.getLogger(__name__)


def check_headers(delivery: Delivery) -> None:
    """Refuse a request that does not even claim to be a task, or whose claim cannot be checked here.

    On App Engine this proves that the task queue sends it, as in the bundled SDK: its front end removes
    ``X-AppEngine-*`` headers from outside requests. Elsewhere anybody can send them, and a request needs a signature,
    or an OIDC token, which is verified here.

    Raises:
        RequestRefusedError: 403, with the reason; 503 if the issuer of the token cannot be asked for its certificates.
        ConfigurationError: a setting cannot be read.
    """
    environ = delivery.environ
    if not delivery.on_app_engine:
        _check_that_proof_is_possible()
    if not delivery.name:
        raise _forbidden(
            "The request has no X-AppEngine-TaskName or X-CloudTasks-TaskName header, so it does not come from the "
            "task queue"
        )
    if delivery.on_app_engine:
        address = environ.get("HTTP_X_APPENGINE_USER_IP") or environ.get("REMOTE_ADDR")
        if address != _TASK_QUEUE_IP:
            raise _forbidden(f"The request comes from {address!r}, the task queue's come from {_TASK_QUEUE_IP}")
    elif not _is_signed(environ):
        _check_unsigned_outside_app_engine(delivery)


def check_body(delivery: Delivery, body: bytes) -> None:
    """Refuse a body that the task queue has not sent. To be called after :func:`check_headers`.

    A signature has to be of this body, queue and path. Without one, on App Engine the headers have said enough if there
    are no keys, and elsewhere a token has; in the local cloud the queue itself is asked whether it is delivering this
    task, with this body, to this URL, for this attempt.

    Raises:
        RequestRefusedError: 403, with the reason.
        ConfigurationError: a setting, or the secret with the keys, cannot be read.
        TransientError: the secret with the keys cannot be read now.
    """
    environ = delivery.environ
    signature = environ.get("HTTP_X_DEFERRED_SIGNATURE")
    if signature:
        problem = signing.verify(signature, delivery.queue, delivery.path, body)
        if problem is None:
            return
        if signing_keys.are_set():
            raise _forbidden(f"The task cannot be trusted: {problem}")
    if delivery.on_app_engine:
        if signing_keys.current():
            _check_unsigned_accepted(delivery)
    elif not _token(environ):
        _check_with_local_queue(delivery, body)


def check_scheduler(environ: dict[str, Any]) -> None:
    """Refuse a request to sweep that comes neither from App Engine's cron nor from a scheduler that proves itself.

    App Engine removes ``X-Appengine-Cron`` from outside requests. Elsewhere, and for Cloud Scheduler, an OIDC token of
    ``DEFERRED_SERVICE_ACCOUNT`` is needed; not in the local cloud, where a sweep can only do what is to be done anyway.

    Raises:
        RequestRefusedError: 403, with the reason; 503 if the issuer of the token cannot be asked for its certificates.
    """
    if settings.on_app_engine() and environ.get("HTTP_X_APPENGINE_CRON") == "true":
        return
    token = _token(environ)
    if token is not None:
        _check_token(token)
    elif settings.on_app_engine() or not settings.cloud_tasks_emulator():
        raise _forbidden(
            "The request comes neither from App Engine's cron nor with an OIDC token of DEFERRED_SERVICE_ACCOUNT"
        )


def _is_signed(environ: dict[str, Any]) -> bool:
    """Tell whether a request has a signature that decides. A wrong one does, whatever else the request brings."""
    return bool(environ.get("HTTP_X_DEFERRED_SIGNATURE") and signing_keys.are_set())


def _token(environ: dict[str, Any]) -> str | None:
    """Return the OIDC token of a request, if there is one and we know whose it should be."""
    authorization: str = environ.get("HTTP_AUTHORIZATION", "")
    if settings.service_account() and authorization[: len(_BEARER)].lower() == _BEARER.lower():
        return authorization[len(_BEARER) :].strip()
    return None


def _check_that_proof_is_possible() -> None:
    if not (signing_keys.are_set() or settings.service_account() or settings.cloud_tasks_emulator()):
        raise _forbidden(
            "Outside App Engine (which sets GAE_ENV=standard) nothing proves that a request comes from the task queue, "
            "so no task is run. Set DEFERRED_SIGNING_KEYS (id:secret) where tasks are made and where they run, or "
            "DEFERRED_SERVICE_ACCOUNT and DEFERRED_TARGET_URL for OIDC tokens, or run the app with `gae-deferred dev`"
        )


def _check_unsigned_outside_app_engine(delivery: Delivery) -> None:
    token = _token(delivery.environ)
    if token is not None:
        _check_token(token)
    elif not settings.cloud_tasks_emulator():
        raise _forbidden("The request has neither a signature nor an OIDC token, one of which has to prove its sender")
    elif signing_keys.current():
        _check_unsigned_accepted(delivery)


def _check_token(token: str) -> None:
    from google.auth.exceptions import TransportError

    account, audience = settings.service_account(), settings.oidc_audience()
    if account is None or audience is None:
        raise _forbidden("OIDC tokens cannot be verified: set DEFERRED_TARGET_URL or DEFERRED_AUDIENCE")
    try:
        oidc.verify(token, account=account, audience=audience, issuer=settings.oidc_issuer())
    except oidc.TokenRefusedError as error:
        raise _forbidden(f"The request cannot be trusted: {error}") from error
    except TransportError as error:
        reason = f"The certificates that OIDC tokens are verified with cannot be fetched: {error}"
        raise RequestRefusedError(HTTPStatus.SERVICE_UNAVAILABLE, reason) from error


def _check_unsigned_accepted(delivery: Delivery) -> None:
    """Let a task without a signature pass during a migration; whatever else proves its sender has been, or will be."""
    last_day = settings.accept_unsigned_until()
    task = f"task {delivery.name!r} of queue {delivery.queue!r}"
    if last_day is None:
        raise _forbidden(
            f"The {task} is not signed, but DEFERRED_SIGNING_KEYS is set. Tasks from before the keys are run while "
            "DEFERRED_ACCEPT_UNSIGNED=until:YYYY-MM-DD is set"
        )
    if datetime.datetime.now(datetime.UTC).date() > last_day:
        raise _forbidden(f"The {task} is not signed, and DEFERRED_ACCEPT_UNSIGNED ended with {last_day}")
    _logger.warning("The %s is not signed; accepted until %s (DEFERRED_ACCEPT_UNSIGNED)", task, last_day)


def _check_with_local_queue(delivery: Delivery, body: bytes) -> None:
    path = delivery.path
    try:
        genuine = cloud_tasks.in_flight_body(delivery.queue, delivery.name, path, delivery.retry_count)
    except TaskQueueError as error:
        raise _forbidden(f"The local Cloud Tasks cannot be asked whether the request is its own: {error}") from error
    if genuine != body:
        raise _forbidden(
            f"The local Cloud Tasks is not delivering this body to {path!r}, as retry {delivery.retry_count!r} of the "
            f"task {delivery.name!r} of the queue {delivery.queue!r}"
        )


def _forbidden(reason: str) -> RequestRefusedError:
    return RequestRefusedError(HTTPStatus.FORBIDDEN, reason)
