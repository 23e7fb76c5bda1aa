"""Sends the requests of attempts over connections that are kept alive."""

import asyncio
import logging
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import aiohttp
from yarl import URL

from gae_local_cloud.clock import SECOND, Clock
from gae_local_cloud.cloud_tasks.errors import Code
from gae_local_cloud.cloud_tasks.outcome import Outcome, answered, unanswered
from gae_local_cloud.cloud_tasks.request import OutgoingRequest
from gae_local_cloud.cloud_tasks.tokens import TokenIssuer
from gae_local_cloud.cloud_tasks.validation import MAX_SCHEDULE_AHEAD
from gae_local_cloud.failure import FAILURE_HEADER, read_failure

_logger = logging.getLogger(__name__)

_KEEP_ALIVE = 1.0
"""Seconds that idle connections are kept. Gunicorn closes them after 2 s; a request sent meanwhile would fail."""

_MAX_REDIRECTS = 10

_MAX_RETRY_AFTER = MAX_SCHEDULE_AHEAD / SECOND
"""Seconds by which ``Retry-After`` can put a task off; more is taken for this, the limit for a new task's time."""

_MAX_BODY_END = 4096
"""Bytes of the end of a failure's body that are kept for people to read."""


class Sender:
    """An HTTP client for one server's attempts; use and :meth:`close` it on one event loop.

    Parameters:
        clock: measures deadlines.
        tokens: issues the requests' tokens.
    """

    def __init__(self, clock: Clock, tokens: TokenIssuer) -> None:
        self._clock = clock
        self._tokens = tokens
        self._session: aiohttp.ClientSession | None = None
        self._unreachable: set[str] = set()

    def _open_session(self) -> aiohttp.ClientSession:
        # Created on first use, because a session belongs to the running event loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                auto_decompress=False,
                trust_env=False,  # no proxy: targets are mostly on this machine
            )
        return self._session

    async def send(self, request: OutgoingRequest) -> Outcome:
        """Send a request and return its outcome. Of the answer's body, only the end of a failure's is kept.

        Raises:
            asyncio.CancelledError: the caller cancelled the call before the deadline.
        """
        attempt = cast("asyncio.Task[Any]", asyncio.current_task())
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            attempt.cancel()

        deadline = self._clock.call_at(self._clock.now() + request.deadline, expire)
        try:
            return await self._exchange(request)
        except asyncio.CancelledError:
            if not expired:
                raise
            if attempt.uncancel() > 0:
                raise  # the caller cancelled it, too
            return unanswered(Code.DEADLINE_EXCEEDED, f"no response within {request.deadline / SECOND:g}s")
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, ConnectionRefusedError)
            if refused:
                self._note_refusal(request.target)
            return unanswered(Code.UNAVAILABLE, str(error), refused=refused)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: a URL or header that passed validation but cannot be sent.
            return unanswered(Code.UNAVAILABLE, str(error) or type(error).__name__)
        finally:
            deadline.cancel()

    async def _exchange(self, request: OutgoingRequest) -> Outcome:
        async with self._open_session().request(
            request.method,
            URL(request.url, encoded=request.encoded),
            headers=[*request.headers, *await self._authorization(request)],
            data=request.body or None,
            allow_redirects=request.follow_redirects,
            max_redirects=_MAX_REDIRECTS,
        ) as response:
            end = b""
            async for chunk in response.content.iter_any():
                if response.status >= 300:
                    end = (end + chunk)[-_MAX_BODY_END:]
            if self._unreachable:
                self._note_answer(request.target)
            retry_after = self._retry_after(response.headers.get("Retry-After"))
            return answered(response.status, retry_after, end, read_failure(response.headers.get(FAILURE_HEADER)))

    def _note_refusal(self, target: str) -> None:
        """Log once that a target refuses connections, until it answers."""
        if target not in self._unreachable:
            self._unreachable.add(target)
            _logger.warning("%s refuses connections. Its queues slow down until it answers", target)

    def _note_answer(self, target: str) -> None:
        if target in self._unreachable:
            self._unreachable.remove(target)
            _logger.warning("%s answers again", target)

    async def _authorization(self, request: OutgoingRequest) -> list[tuple[str, str]]:
        if request.token is None:
            return []
        email, audience = request.token
        token = self._tokens.access_token() if audience is None else await self._tokens.id_token(email, audience)
        return [("Authorization", f"Bearer {token}")]

    def _retry_after(self, value: str | None) -> float | None:
        """Return the seconds that a ``Retry-After`` header asks for, as a number or a date (RFC 9110, 10.2.3)."""
        if value is None:
            return None
        if value.isascii() and value.isdigit():
            return min(float(value), _MAX_RETRY_AFTER)
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = (date - datetime.fromtimestamp(self._clock.now() / SECOND, UTC)).total_seconds()
        return min(max(0.0, seconds), _MAX_RETRY_AFTER)

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
