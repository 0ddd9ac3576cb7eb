"""The one gate, before every route, for requests and WebSockets alike: Host, Origin, token or cookie, limits.

A page that lured a browser here (DNS rebinding, cross-site requests) and a program without the token are refused before
anything happens. Closed is the default: only routes declared `open` answer without a key. No CORS header is ever sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple

from p8.server.keys import Keys
from p8.server.problems import TYPE, dumps, problem

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "p8"
CSRF_HEADER = b"x-p8-csrf"
PROTOCOL = "p8.stream.v1"  #: of the WebSocket; a browser offers it and `csrf.TOKEN` beside it
SOCKET_HOSTS = ("localhost", "p8")  #: what a request over the unix socket may call its host
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self';"
    b" form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
    b" 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY), (b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"), (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"), (b"cache-control", b"no-store"),
)  # fmt: skip


class Limits(NamedTuple):
    """How much one server takes on."""

    body_bytes: int = 1 << 20
    body_s: float = 15.0  #: in which a request's body must have come
    requests: int = 256  #: at work at a time
    sockets: int = 64  #: WebSockets at a time


class Refused(Exception):
    """A request that does not come in."""

    def __init__(self, status: int, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.problem = problem(status, detail, hint)


class Guard:
    """
    Lets in who may come in.

    Args:
        app: what stands behind.
        keys: what opens.
        is_open: whether a method and path answer without a key.
        limits: how much at a time.
    """

    def __init__(
        self, app: Asgi, keys: Keys, is_open: Callable[[str, str], bool], limits: Limits | None = None
    ) -> None:
        self._app = app
        self._keys = keys
        self._is_open = is_open
        self._limits = limits or Limits()
        self._at_work = {"http": 0, "websocket": 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        kind = scope["type"]
        if kind not in self._at_work:
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Refused as refused:
            await refuse(scope, receive, send, refused)
            return
        self._at_work[kind] += 1
        try:
            if kind == "http":
                body = _Body(receive, self._limits)
                await self._app(scope, body, _with_headers(send))
            else:
                await self._app(scope, receive, send)
        finally:
            self._at_work[kind] -= 1

    def _check(self, scope: Scope) -> None:
        most = self._limits.requests if scope["type"] == "http" else self._limits.sockets
        if self._at_work[scope["type"]] >= most:
            raise Refused(503, "too much is asked at a time", "try again in a moment")
        headers = _headers(scope, (b"host", b"origin", b"authorization", b"cookie", CSRF_HEADER, b"sec-fetch-site",
                                   b"sec-websocket-protocol", b"content-length"))  # fmt: skip
        server = scope.get("server") or ("", None)
        hosts = hosts_of(server[1])
        if len(headers[b"host"]) != 1 or headers[b"host"][0] not in hosts:
            raise Refused(403, "this host is not served here", "use the address that p8 serve prints")
        origin = headers[b"origin"]
        if origin and (len(origin) != 1 or origin[0] not in {f"http://{host}" for host in hosts}):
            raise Refused(403, "requests from other sites are not answered")
        size = headers[b"content-length"]
        if size and (not size[0].isdecimal() or int(size[0]) > self._limits.body_bytes):
            raise Refused(413, f"more than {self._limits.body_bytes} bytes are not taken")
        method = scope.get("method", "WEBSOCKET")
        if not self._is_open(method, scope["path"]):
            self._authenticate(method, headers)
        elif headers[b"sec-fetch-site"] and headers[b"sec-fetch-site"][0] == "cross-site" and method != "GET":
            raise Refused(403, "requests from other sites are not answered")

    def _authenticate(self, method: str, headers: dict[bytes, list[str]]) -> None:
        given = headers[b"authorization"]
        if given:
            scheme, _, token = given[0].partition(" ")
            if len(given) == 1 and scheme.lower() == "bearer" and self._keys.is_token(token):
                return
            raise Refused(401, "this is not the token", "it is in the folder server of P8's home")
        cookie = _cookie(headers[b"cookie"])
        if not cookie:
            raise Refused(401, "the token is needed: Authorization: Bearer …", "or log in: p8 serve --link")
        if method == "WEBSOCKET":
            offered = [part.strip() for line in headers[b"sec-websocket-protocol"] for part in line.split(",")]
            csrf = next((part.removeprefix("csrf.") for part in offered if part.startswith("csrf.")), "")
        else:
            csrf = headers[CSRF_HEADER][0] if len(headers[CSRF_HEADER]) == 1 else ""
        if method not in {"GET", "HEAD"} and not headers[b"origin"]:
            raise Refused(403, "a browser says where its request comes from")
        site = headers[b"sec-fetch-site"]
        if (site and site[0] not in {"same-origin", "none"}) or not self._keys.is_cookie(cookie, csrf):
            raise Refused(401, "this login is over", "p8 serve --link gives a new one")


def hosts_of(port: int | None) -> tuple[str, ...]:
    """Return what a request may call its host; None is the unix socket."""
    return SOCKET_HOSTS if port is None else (f"127.0.0.1:{port}", f"localhost:{port}")


def _headers(scope: Scope, wanted: Iterable[bytes]) -> dict[bytes, list[str]]:
    found: dict[bytes, list[str]] = {name: [] for name in wanted}
    for name, value in scope["headers"]:
        if name in found:
            found[name].append(value.decode("latin-1"))
    return found


def _cookie(lines: list[str]) -> str:
    if len(lines) != 1:
        return ""
    try:
        jar = SimpleCookie(lines[0])
    except CookieError:
        return ""
    return jar[COOKIE].value if COOKIE in jar else ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message.get("headers", ())}
            more = [pair for pair in HEADERS if pair[0] not in given]
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return sending


class _Body:
    """A request's body that may not be larger, or come more slowly, than is allowed."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._size = 0
        self._done = False

    async def __call__(self) -> Message:
        if self._done:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.body_s)
        except TimeoutError as error:
            raise Refused(408, "the request's body did not come in time") from error
        self._size += len(message.get("body", b""))
        self._done = not message.get("more_body", False)
        if self._size > self._limits.body_bytes:
            raise Refused(413, f"more than {self._limits.body_bytes} bytes are not taken")
        return message


async def refuse(scope: Scope, receive: Receive, send: Send, refused: Refused) -> None:
    """Refuse a request; a WebSocket before it is accepted."""
    body = dumps(refused.problem)
    more = [(b"www-authenticate", b"Bearer")] if refused.status == 401 else []
    more += [(b"connection", b"close")] if refused.status in {408, 413} else []
    headers = [(b"content-type", TYPE.encode()), (b"content-length", str(len(body)).encode()), *HEADERS, *more]
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    elif "websocket.http.response" in scope.get("extensions", {}):
        await receive()
        await send({"type": "websocket.http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": str(refused)})
