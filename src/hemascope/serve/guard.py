"""What stands before every route: who may ask, from which page, and what a browser may do with the answers."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Whether a name or address is reached from this machine alone."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Gate:
    """Who may ask.

    hosts: the names in the Host header that are answered, without ports; None for any. A page of another site that
    resolves its own name to this machine is refused by it. token: what every request but those to `open_paths` has to
    bring as `Authorization: Bearer TOKEN`; None for no token.
    """

    hosts: Collection[str] | None = LOOPBACK_NAMES
    token: str | None = None
    open_paths: Collection[str] = frozenset()

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """The status and the sentence of a request that is refused, or None."""
        host = headers.get("host", "")
        if self.hosts is not None and _name_of(host) not in self.hosts:
            return 403, f"this service does not answer to the name '{host[:80]}'; ask it as localhost."
        origin = headers.get("origin")
        foreign = origin is not None and _site_of(origin) != host
        if method not in _SAFE_METHODS and (foreign or headers.get("sec-fetch-site", "none") == "cross-site"):
            return 403, "the request comes from a page of another site; send it from this service's own page."
        if self.token is not None and path not in self.open_paths and not path.startswith("/assets/"):
            given = headers.get("authorization", "")
            scheme, _, token = given.partition(" ")
            # Compared in constant time, as the time of a usual comparison tells how much of a guess is right.
            same = hmac.compare_digest(token.strip().encode("utf-8", "replace"), self.token.encode("utf-8", "replace"))
            if scheme.lower() != "bearer" or not same:
                return 401, "a token is needed; send it as 'Authorization: Bearer TOKEN'."
        return None


def _name_of(host: str) -> str:
    """The name in a Host header, without the port and the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _site_of(origin: str) -> str | None:
    """The host and port of an Origin header, or None where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


class Guard:
    """An ASGI application before another: refuses what the gate refuses, and adds the headers that protect a page.

    watch: told the method, path and status of every answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        gate: Gate,
        watch: Callable[[str, str, int], None] = lambda method, path, status: None,
    ) -> None:
        self.app, self.gate, self.watch = app, gate, watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra = dict(_HEADERS) if b"cache-control" in present else {**_HEADERS, "cache-control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in extra.items()),
                ]
                self.watch(method, path, message["status"])
            await send(message)

        refused = self.gate.refusal(method, path, Headers(scope=scope))
        if refused is None:
            await self.app(scope, receive, send_guarded)
            return
        status, sentence = refused
        headers = {"www-authenticate": "Bearer"} if status == 401 else {}
        await JSONResponse({"error": sentence}, status, headers)(scope, receive, send_guarded)
