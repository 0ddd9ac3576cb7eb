"""The web application: the table of routes behind the guard, held to its shapes, with the OpenAPI document made of it.

A route that declares no policy, or a policy nobody knows, keeps the server from starting.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.routing import WebSocketRoute

from p8.errors import P8Error
from p8.server import openapi, problems
from p8.server import shapes as s
from p8.server.guard import COOKIE, Asgi, Guard, Limits, Refused
from p8.server.kept import Kept
from p8.server.keys import COOKIE_S, Keys
from p8.server.routes import PARTS, Call, Route, routes
from p8.server.stream import Hub

if TYPE_CHECKING:
    from starlette.requests import Request

    from p8.app import App

THREADS = 8
SLOW = 4  #: of what may take minutes, at a time
LOOK_S = 0.5  #: how often it is looked whether somebody still waits for it
POLICIES = {"key", "open"}
JSON = "application/json"
FILES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}  # fmt: skip
BOOLEANS = {"true": True, "false": False}
NUMBER = re.compile(r"-?[0-9]{1,18}")
#: routes that no command stands behind, with their policies
OWN = {
    "GET /": "open", "GET /static/{name}": "open", "POST /login": "open", "POST /api/v1/links": "key",
    "GET /api/v1/openapi.json": "key", "WEBSOCKET /api/v1/stream": "key",
}  # fmt: skip


class Web:
    """
    Everything that is served.

    Args:
        app: what is asked.
        keys: what opens.
        limits: how much at a time.
        where: returns the address at which a browser logs in with a code; "" where no browser gets here.
    """

    def __init__(
        self, app: App, keys: Keys, limits: Limits | None = None, where: Callable[[str], str] = lambda _code: ""
    ) -> None:
        self.app = app
        self._where = where
        self.keys = keys
        self.routes = routes(app)
        self.hub = Hub(app)
        self.kept = Kept(app.store.stamp)
        self._call = Call(app)
        self._threads = ThreadPoolExecutor(THREADS, "p8-api")
        self._slow = ThreadPoolExecutor(SLOW, "p8-slow")
        self._at_work: set[threading.Event] = set()
        self._files = _dashboard()
        self.starlette = Starlette(
            routes=[*self._own(), *(self._rest(route) for route in self.routes)],
            exception_handlers={HTTPException: _http_problem, P8Error: _p8_problem, Refused: _refusal, 500: _broken},
        )
        self.starlette.state.p8 = app
        self.policies = {f"{route.method} {route.path}": route.policy for route in self.routes} | OWN
        undeclared_routes = undeclared(self.starlette, self.policies)
        if undeclared_routes:
            raise RuntimeError(f"no policy is declared for {', '.join(undeclared_routes)}")
        self.asgi: Asgi = Guard(self.starlette, keys, self._is_open, limits)
        self._document = openapi.document(self.routes, PARTS)

    def close(self) -> None:
        """Let go of the threads."""
        for stop in self._at_work:
            stop.set()
        self.hub.close()
        self._slow.shutdown(wait=True, cancel_futures=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _is_open(self, method: str, path: str) -> bool:
        name = "GET" if method == "HEAD" else method
        if path.startswith("/static/") and path.removeprefix("/static/") in self._files:
            return self.policies.get(f"{name} /static/{{name}}") == "open"
        return self.policies.get(f"{name} {path}") == "open"

    # routes of its own

    def _own(self) -> list[Any]:
        return [
            StarletteRoute("/", self._page, methods=["GET"]),
            StarletteRoute("/static/{name}", self._static, methods=["GET"]),
            StarletteRoute("/login", self._login, methods=["POST"]),
            StarletteRoute("/api/v1/links", self._link, methods=["POST"]),
            StarletteRoute("/api/v1/openapi.json", self._openapi, methods=["GET"]),
            WebSocketRoute("/api/v1/stream", self.hub.serve),
        ]

    async def _page(self, _request: Request) -> Response:
        body, kind = self._files["index.html"]
        return Response(body, media_type=kind)

    async def _static(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there is no such file")
        return Response(found[0], media_type=found[1])

    async def _login(self, request: Request) -> Response:
        given = await _body(request, s.Login)
        keys = self.keys.use_link(given["code"])
        if keys is None:
            raise HTTPException(401, "this login link was used, or is too old: p8 serve --link gives a new one")
        answer = Response(problems.dumps({"csrf": keys[1]}), media_type=JSON)
        answer.set_cookie(COOKIE, keys[0], max_age=int(COOKIE_S), path="/", httponly=True, samesite="strict")
        return answer

    async def _link(self, request: Request) -> Response:
        await _body(request, s.Nothing)
        code = self.keys.link()
        return Response(problems.dumps({"code": code, "url": self._where(code)}), status_code=201, media_type=JSON)

    async def _openapi(self, _request: Request) -> Response:
        return Response(self._document, media_type=JSON)

    # routes of the table

    def _rest(self, route: Route) -> StarletteRoute:
        patterns = [(name, re.compile(PARTS[name])) for name in re.findall(r"{(\w+)}", route.path)]

        async def endpoint(request: Request) -> Response:
            question = ""
            if route.kept:
                question = f"{request.url.path}?{request.url.query}"
                known = self.kept.get(question)
                if known is not None:
                    return Response(known, route.status, media_type=JSON)
            values: dict[str, Any] = {}
            for name, pattern in patterns:
                values["id"] = request.path_params[name]
                if not pattern.fullmatch(values["id"]):
                    raise HTTPException(404, f"there is no such {name}")
            values |= _query(request, route.query)
            if route.body is not None:
                values |= await _body(request, route.body)
            stamp = self.kept.stamp() if route.kept else None
            if route.slow:
                return Response(await self._waited(route, values, request), route.status, media_type=JSON)
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._threads, self._answer, route, values, self._call)
            if route.kept:
                self.kept.put(question, stamp, body)
            return Response(body, route.status, media_type=JSON)

        return StarletteRoute(route.path, endpoint, methods=[route.method], name=f"{route.method} {route.path}")

    def _answer(self, route: Route, values: Mapping[str, Any], call: Call) -> bytes:
        return problems.dumps(route.run(call, values))

    async def _waited(self, route: Route, values: Mapping[str, Any], request: Request) -> bytes:
        """Return the answer of what may take minutes; it is stopped when nobody waits for it any more."""
        if len(self._at_work) >= SLOW:
            raise Refused(503, "too much is being done at a time", "try again when some of it has ended")
        stop = threading.Event()
        self._at_work.add(stop)
        try:
            call = Call(self.app, stop=stop)
            work = asyncio.get_running_loop().run_in_executor(self._slow, self._answer, route, values, call)
            while not (await asyncio.wait([work], timeout=LOOK_S))[0]:
                if not stop.is_set() and await request.is_disconnected():
                    stop.set()
            return work.result()
        finally:
            stop.set()
            self._at_work.discard(stop)


def undeclared(app: Starlette, policies: Mapping[str, str]) -> list[str]:
    """Return the routes of an application for which no known policy is declared."""
    found = []
    for route in app.routes:
        if isinstance(route, WebSocketRoute):
            names = [f"WEBSOCKET {route.path}"]
        elif isinstance(route, StarletteRoute):
            names = [f"{method} {route.path}" for method in (route.methods or ()) if method != "HEAD"]
        else:
            names = [repr(route)]
        found += [name for name in names if policies.get(name) not in POLICIES]
    return found


def _dashboard() -> dict[str, tuple[bytes, str]]:
    folder = Path(__file__).parent / "dashboard"
    return {path.name: (path.read_bytes(), FILES[path.suffix]) for path in folder.iterdir() if path.suffix in FILES}


def _query(request: Request, model: type[BaseModel] | None) -> dict[str, Any]:
    """Return what the query says, held to its shape; each name once, and only those there are."""
    given: dict[str, Any] = {}
    fields = model.model_fields if model is not None else {}
    for name, text in request.query_params.multi_items():
        if name in given:
            raise HTTPException(400, f"{name[:60]} is given twice")
        kind = fields[name].annotation if name in fields else str
        if kind is bool:
            given[name] = BOOLEANS.get(text, text)
        elif kind is int:
            given[name] = int(text) if NUMBER.fullmatch(text) else text
        else:
            given[name] = text
    if model is None:
        if given:
            raise HTTPException(400, f"nothing is called {next(iter(given))[:60]} here")
        return {}
    return _fitted(model, given)


async def _body(request: Request, model: type[BaseModel]) -> dict[str, Any]:
    """Return what the body says, held to its shape. Forms of other sites cannot send this type of content."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise HTTPException(415, f"the body must be {JSON}")
    try:
        given = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error.msg}") from error
    return _fitted(model, given)


def _fitted(model: type[BaseModel], given: Any) -> dict[str, Any]:
    try:
        return model.model_validate(given).model_dump()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        raise HTTPException(400, f"{where}: {first['msg']}" if where else str(first["msg"])) from error


def _answered(found: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(problems.dumps(found), found["status"], headers, problems.TYPE)


async def _http_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answered(problems.problem(error.status_code, str(error.detail)), error.headers)


async def _p8_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, P8Error)
    return _answered(problems.of_error(error))


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _answered(error.problem, {"connection": "close"})


async def _broken(request: Request, error: Exception) -> Response:
    failure = P8Error(
        f"{request.method} {request.url.path} failed: {type(error).__name__}", "the server's log says more"
    )
    request.app.state.p8.note_error(failure)
    logging.getLogger("p8.server").error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answered(problems.problem(500, "something went wrong in P8 itself; its log says what"))
