"""Posting to an address that holds a secret: whatever goes wrong, no more than its host is named.

Redirections are not followed: they would lose what is posted, or take the secret elsewhere.
"""

from __future__ import annotations

import base64
import contextlib
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from luceloop.core.config.webhooks import host_of

TIMEOUT = 5.0
"""Seconds that an address may take to answer, and its network before that."""
LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
"""What another try may mend, beside errors of the server."""


class PostError(Exception):
    """A post that was not taken; its message holds no secret.

    Args:
        reason: why not.
        again: whether another try may do better.
        after: seconds that the other side asks to wait before it.
    """

    def __init__(self, reason: str, *, again: bool, after: float = 0.0) -> None:
        super().__init__(reason)
        self.again, self.after = again, after


class _Stay(urllib.request.HTTPRedirectHandler):
    """Takes a redirection as an answer that is none."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Webhook:
    """An address that takes JSON by HTTP."""

    def __init__(self, address: str) -> None:
        """Take an http:// or https:// URL; a name and password in it become a header."""
        parts = urlsplit(address)
        self.host = host_of(address)
        """What may be shown of it."""
        login, at, place = parts.netloc.rpartition("@")
        self._url = urlunsplit(parts._replace(netloc=place, fragment=""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "luceloop"}
        if at:
            encoded = base64.b64encode(unquote(login).encode()).decode()
            self._headers["Authorization"] = f"Basic {encoded}"
        self._opener = urllib.request.build_opener(_Stay)

    def post(self, content: bytes) -> None:
        """Post once.

        Raises:
            PostError: if that is not taken.
        """
        request = urllib.request.Request(self._url, content, self._headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            with error:
                again = error.code in LATER or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
                after = _seconds(error.headers.get("Retry-After"))
                raise PostError(f"HTTP {error.code}", again=again, after=after) from None
        except (OSError, HTTPException) as error:
            raise PostError(_reason(error), again=True) from None


def _reason(error: Exception) -> str:
    """What the system says; of other messages some repeat the address, so only their kind."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer in {TIMEOUT:g} s"
    said = cause.strerror if isinstance(cause, OSError) else None
    return str(said or type(cause).__name__)


def _seconds(header: str | None) -> float:
    """What `Retry-After` asks for; 0 if it is a date or missing."""
    with contextlib.suppress(ValueError):
        return max(0.0, float(header or 0))
    return 0.0
