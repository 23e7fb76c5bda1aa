"""Decides whether a request may run code. Unpickling runs code, so the sender has to be proven first.

Where signing keys are set, a task has to be signed, and the signature alone decides. The other proofs count where there
are no keys, and for unsigned tasks from before the keys, while ``DEFERRED_ACCEPT_UNSIGNED`` lets them pass:

===================  ====================  ====================  ====================
Proof                On App Engine         In a local cloud      Elsewhere
===================  ====================  ====================  ====================
Signature            accept or 403 [1]     accept or 403         accept or 403
OIDC token [2]       not looked at         accept, 403 or 503    accept, 403 or 503
Headers and address  accept or 403 [1]     prove nothing         prove nothing
Local queue          not asked             accept or 403         not asked
===================  ====================  ====================  ====================

A request without any of these, or without the name of a task, is refused with 403. Where keys are set and cannot be
read now, the answer is 503: the queue tries again.

Off App Engine and a local cloud, a request with headers of an App Engine task is refused, even with a signature:
somebody sends a captured task.

1. App Engine's front end removes ``X-AppEngine-*`` headers from outside requests. Headers and address have to be the
   task queue's, whether or not the task is signed.
2. Only where ``DEFERRED_SERVICE_ACCOUNT`` is set. 503 if the certificates of the issuer cannot be fetched.
"""

import functools
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeAlias

from gae_deferred import clock, cloud_tasks, headers, oidc, settings, signing, signing_keys
from gae_deferred.delivery import Delivery
from gae_deferred.errors import RequestRefusedError, TaskQueueError, TransientError

BodyCheck: TypeAlias = Callable[[Delivery, bytes], None]
"""Refuses a body that the task queue has not sent, by raising a :class:`~gae_deferred.errors.RequestRefusedError`."""

_TASK_QUEUE_IP = "0.1.0.2"
"""Address of App Engine's task requests (App Engine documentation, "Create App Engine task handlers")."""

_BEARER = "Bearer "

_SIGNATURE = headers.SIGNATURE.environ_key
_USER_IP = headers.USER_IP.environ_key

_logger = logging.getLogger(__name__)


def check_headers(delivery: Delivery) -> BodyCheck:
    """Refuse a request whose headers prove nothing, before its body is read.

    Returns:
        The check that the body still has to pass, with the same delivery. It raises a ``RequestRefusedError`` (403, or
        503 if the signing keys cannot be read now) or a ``ConfigurationError``.

    Raises:
        RequestRefusedError: 403, with the reason; 503 if signing keys or an issuer's certificates cannot be read now.
        ConfigurationError: a setting, or the secret with the keys, cannot be read.
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
        address = environ.get(_USER_IP) or environ.get("REMOTE_ADDR")
        if address != _TASK_QUEUE_IP:
            raise _forbidden(f"The request comes from {address!r}, not from the task queue's address {_TASK_QUEUE_IP}")
    if environ.get(_SIGNATURE) and signing_keys.are_set():
        return _check_signed_headers(delivery)
    if delivery.on_app_engine:
        _check_unsigned_accepted(delivery)
        return _accept_any_body
    return _check_unsigned_off_app_engine(delivery)


def check_scheduler(environ: dict[str, Any]) -> None:
    """Refuse a request for a sweep that comes neither from App Engine's cron nor from a scheduler that proves itself.

    App Engine removes ``X-Appengine-Cron`` from outside requests. Elsewhere, and for Cloud Scheduler, an OIDC token of
    ``DEFERRED_SERVICE_ACCOUNT`` is needed. A local cloud accepts everybody: a sweep only sends what is due anyway.

    Raises:
        RequestRefusedError: 403, with the reason; 503 if the certificates for an OIDC token cannot be fetched.
    """
    if settings.on_app_engine() and environ.get(headers.CRON.environ_key) == "true":
        return
    token = _token(environ)
    if token is not None:
        _check_token(token)
    elif settings.on_app_engine() or not settings.cloud_tasks_emulator():
        raise _forbidden(
            "The request comes neither from App Engine's cron nor with an OIDC token of DEFERRED_SERVICE_ACCOUNT"
        )


def _check_that_proof_is_possible() -> None:
    if not (signing_keys.are_set() or settings.service_account() or settings.cloud_tasks_emulator()):
        raise _forbidden(
            "Outside App Engine (which sets GAE_ENV=standard, GAE_APPLICATION and GAE_INSTANCE) nothing proves that a "
            "request comes from the task queue, so no task is run. Set DEFERRED_SIGNING_KEYS (id:secret) where tasks "
            "are made and where they run, or DEFERRED_SERVICE_ACCOUNT and DEFERRED_TARGET_URL for OIDC "
            "tokens, or run the app with `gae-deferred dev`"
        )


def _check_unsigned_off_app_engine(delivery: Delivery) -> BodyCheck:
    token = _token(delivery.environ)
    if token is not None:
        _check_token(token)
        _check_unsigned_accepted(delivery)
        return _accept_any_body
    if settings.cloud_tasks_emulator():
        _check_unsigned_accepted(delivery)
        return _check_with_local_queue
    raise _forbidden("The request has neither a signature nor an OIDC token to prove its sender")


def _check_signed_headers(delivery: Delivery) -> BodyCheck:
    """Refuse a signature that cannot be valid, whatever the body is: a stranger must not have us wait for one."""
    if not delivery.is_app_engine_task:
        audience = settings.own_url_audience()
    elif delivery.on_app_engine or settings.cloud_tasks_emulator():
        audience = settings.own_service_audience()
    else:
        raise _forbidden(
            "An App Engine task arrives on App Engine or in a local cloud, not here: somebody sends a captured one"
        )
    if audience is None:
        raise _forbidden(
            "The signature of an HTTP task names its receiver, and this process does not know its own name: set "
            "DEFERRED_TARGET_URL or DEFERRED_AUDIENCE as where the task was made"
        )
    try:
        claim = signing.read_claim(delivery.environ)
    except TransientError as error:
        raise _unavailable(error) from error
    if isinstance(claim, str):
        raise _forbidden(f"The task cannot be trusted: {claim}")
    return functools.partial(_check_signature, claim, audience)


def _check_signature(claim: signing.Claim, audience: str, delivery: Delivery, body: bytes) -> None:
    problem = signing.check_claim(claim, delivery.environ, audience, body)
    if problem is not None:
        raise _forbidden(f"The task cannot be trusted: {problem}")


def _token(environ: dict[str, Any]) -> str | None:
    """Return the request's OIDC token, or None without one, or if no service account is set to compare it with."""
    authorization: str = environ.get(headers.AUTHORIZATION.environ_key, "")
    if settings.service_account() and authorization[: len(_BEARER)].lower() == _BEARER.lower():
        return authorization[len(_BEARER) :].strip()
    return None


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
    """Refuse a task without a signature where we have keys, except during a migration."""
    try:
        if not signing_keys.current():
            return
    except TransientError as error:
        raise _unavailable(error) from error
    last_day = settings.accept_unsigned_until()
    task = f"task {delivery.name!r} of queue {delivery.queue!r}"
    if last_day is None:
        raise _forbidden(
            f"The {task} is not signed, but DEFERRED_SIGNING_KEYS is set. Tasks from before the keys are run while "
            "DEFERRED_ACCEPT_UNSIGNED=until:YYYY-MM-DD is set"
        )
    if clock.now().date() > last_day:
        raise _forbidden(f"The {task} is not signed, and DEFERRED_ACCEPT_UNSIGNED ended with {last_day}")
    _logger.warning("The %s is not signed; accepted until %s (DEFERRED_ACCEPT_UNSIGNED)", task, last_day)


def _check_with_local_queue(delivery: Delivery, body: bytes) -> None:
    """Refuse a body unless the local queue is delivering it in this attempt of this task, to this path."""
    path = delivery.path
    try:
        genuine = cloud_tasks.in_flight_body(
            delivery.queue, delivery.name, path, delivery.retry_count, delivery.namespace
        )
    except TaskQueueError as error:
        raise _forbidden(f"The local Cloud Tasks cannot be asked whether the request is its own: {error}") from error
    if genuine != body:
        raise _forbidden(
            f"The local Cloud Tasks is not delivering this body to {path!r}, as retry {delivery.retry_count!r} of the "
            f"task {delivery.name!r} of the queue {delivery.queue!r}"
        )


def _accept_any_body(delivery: Delivery, body: bytes) -> None:
    """Do nothing: the headers have proven the sender."""


def _unavailable(error: TransientError) -> RequestRefusedError:
    return RequestRefusedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error))


def _forbidden(reason: str) -> RequestRefusedError:
    return RequestRefusedError(HTTPStatus.FORBIDDEN, reason)
