"""Nobody comes in without a key, from another site or under another name, and nothing happens for them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route as StarletteRoute
from starlette.routing import WebSocketRoute

from p8.errors import ConfigError
from p8.server.events import newest
from p8.server.guard import COOKIE, Limits
from p8.server.keys import COOKIE_S, LINK_S, LINKS, Keys, folder_of, token_of
from p8.server.web import OWN, Web, undeclared
from p8.testing import make_app
from support.serving import TOKEN, ask, knock

HOSTS = [
    "evil.example", "127.0.0.1", "localhost", "127.0.0.1:80", "127.0.0.1:8009", "localhost:8009", "127.0.0.1.:8008",
    "localhost.:8008", "2130706433:8008", "0x7f000001:8008", "017700000001:8008", "0177.0.0.1:8008", "127.1:8008",
    "0.0.0.0:8008", "[::1]:8008", "[::ffff:127.0.0.1]:8008", "[::]:8008", "127.0.0.1:8008.evil.example",
    "evil.example:8008", "127.0.0.1.nip.io:8008", "localtest.me:8008", "spoofed.burpcollaborator.net:8008",
    "127.0.0.1:08008", "127.0.0.1:8008 ", " 127.0.0.1:8008", "127.0.0.1:8008,evil.example", "user@127.0.0.1:8008",
    "127.0.0.1:8008@evil.example", "127.0.0.1:8008/", "127.0.0.1:8008#", "127.0.0.1:8008?x", "LOCALHOST:8008.",
    "localhost:8008:80", "127.0.0.2:8008", "p8", "p8:8008", "host.docker.internal:8008", "169.254.169.254",
    "localhost%00:8008", "①②⑦.0.0.1:8008".encode().decode("latin-1"), "", "*",
]  # fmt: skip

#: what answers without a key, but not to another host or site either
OPEN = [("GET", "/"), ("GET", "/static/main.js"), ("POST", "/login"), ("GET", "/health"), ("HEAD", "/health")]


@pytest.fixture
def web(home: Path, tmp_path: Path):
    app = make_app(home, tmp_path, engine=f"unix://{tmp_path}/none.sock")
    session = app.sessions.start_session("p")
    app.sessions.record_message({"role": "user", "content": "hello"})
    app.sessions.pause_session()
    made = Web(app, Keys(TOKEN))
    made.session = session.session_id
    made.before = standing(made)
    yield made
    made.close()
    app.close()


def every_route(web: Web) -> list[tuple[str, str]]:
    """(method, path) of each route that needs a key, with something in the place of each part."""
    parts = {"session": web.session, "checkpoint": web.session, "handoff": f"{web.session}-1", "instance": "a-shell",
             "project": "p-1", "action": "a"}  # fmt: skip
    names = [name for name, policy in web.policies.items() if policy == "key"]
    return [(m, re.sub(r"{(\w+)}", lambda p: parts[p[1]], path)) for m, _, path in (n.partition(" ") for n in names)]


def refused(web: Web, method: str, path: str, headers: dict[str, str | None]) -> int:
    """The status of a refusal; a body is given so that only the guard stands in the way."""
    if method == "WEBSOCKET":
        sent = knock(web.asgi, path, headers)
        assert "websocket.accept" not in [m["type"] for m in sent]
        return sent[0]["status"]
    return ask(web.asgi, method, path, {"title": "changed", "code": "x"}, headers).status


def standing(web: Web) -> tuple[Any, ...]:
    """What is kept: the sessions, and the end of all that was ever recorded."""
    return web.app.store.sessions.page(), newest(web.app)


def unchanged(web: Web) -> bool:
    return standing(web) == web.before


def test_every_route_declares_a_policy(web) -> None:
    assert undeclared(web.starlette, web.policies) == []
    assert set(web.policies.values()) == {"key", "open"}
    assert {n for n, p in web.policies.items() if p == "open"} == {
        "GET /", "GET /static/{name}", "POST /login", "GET /health"
    }  # fmt: skip


@pytest.mark.parametrize("policy", [None, "whatever"])
def test_a_route_without_a_policy_is_found(web, policy) -> None:
    web.starlette.routes.append(StarletteRoute("/api/v1/new", lambda r: None, methods=["POST"]))
    web.starlette.routes.append(WebSocketRoute("/api/v1/other", lambda s: None))
    policies = web.policies | ({"POST /api/v1/new": policy, "WEBSOCKET /api/v1/other": policy} if policy else {})
    assert undeclared(web.starlette, policies) == ["POST /api/v1/new", "WEBSOCKET /api/v1/other"]


def test_a_server_with_a_route_without_a_policy_does_not_start(home: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delitem(OWN, "POST /login")
    app = make_app(home, tmp_path)
    with pytest.raises(RuntimeError, match="POST /login"):
        Web(app, Keys(TOKEN))
    app.close()


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}0", f"Bearer {TOKEN.upper()}", TOKEN,
     f"Basic {TOKEN}", f"Bearer  {TOKEN}", "Bearer null", "Bearer " + "0" * 64],
)  # fmt: skip
def test_no_route_answers_without_the_token(web, given) -> None:
    for method, path in every_route(web):
        assert refused(web, method, path, {"authorization": given}) == 401, (method, path)
        assert refused(web, method, f"{path}?token={TOKEN}&access_token={TOKEN}", {"authorization": given}) == 401
    assert unchanged(web)


def test_no_route_answers_two_tokens(web) -> None:
    twice = [(b"host", b"127.0.0.1:8008"), *[(b"authorization", f"Bearer {TOKEN}".encode())] * 2]
    assert ask(web.asgi, "GET", "/api/v1/sessions", raw=twice).status == 401


@pytest.mark.parametrize("host", HOSTS)
def test_no_route_answers_to_another_host(web, host) -> None:
    for method, path in [*every_route(web), *OPEN]:
        assert refused(web, method, path, {"host": host}) == 403, (method, path)
    assert unchanged(web)


def test_a_request_without_a_host_is_refused(web) -> None:
    assert refused(web, "GET", "/api/v1/sessions", {"host": None}) == 403


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "https://127.0.0.1:8008", "http://127.0.0.1", "http://127.0.0.1:8009", "file://",
     "http://127.0.0.1:8008.evil.example", "http://localhost:8008/", "chrome-extension://abc", " http://127.0.0.1:8008"],
)  # fmt: skip
def test_no_route_answers_another_site(web, origin) -> None:
    for method, path in [*every_route(web), *OPEN]:
        assert refused(web, method, path, {"origin": origin}) == 403, (method, path)
    assert unchanged(web)


def test_a_refused_login_leaves_its_link(web) -> None:
    code = web.keys.link()
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        assert ask(web.asgi, "POST", "/login", {"code": code}, {**headers, "authorization": None}).status == 403
    assert ask(web.asgi, "POST", "/login", {"code": code}, {"authorization": None}).status == 200


def test_what_is_not_refused_is_seen(web) -> None:
    assert ask(web.asgi, "PATCH", f"/api/v1/sessions/{web.session}", {"title": "changed"}).status == 200
    assert not unchanged(web)


def test_our_own_origin_is_answered(web) -> None:
    assert ask(web.asgi, "GET", "/api/v1/sessions", headers={"origin": "http://localhost:8008"}).status == 200
    sent = knock(web.asgi, "/api/v1/stream", {"origin": "http://127.0.0.1:8008"})
    assert sent[0]["type"] == "websocket.accept"


def test_the_socket_in_the_home_has_names_of_its_own(web) -> None:
    inside = {"server": ("/home/p8.sock", None)}
    assert ask(web.asgi, "GET", "/health", headers={"host": "localhost"}, **inside).status == 200
    assert ask(web.asgi, "GET", "/health", headers={"host": "127.0.0.1:8008"}, **inside).status == 403
    assert (
        ask(web.asgi, "GET", "/api/v1/sessions", headers={"host": "p8", "authorization": None}, **inside).status == 401
    )


def test_forms_of_other_sites_change_nothing(web) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None, ""):
        answer = ask(web.asgi, "POST", "/api/v1/sessions/undo", b"{}", {"content-type": kind})
        assert answer.status == 415, kind
    code = web.keys.link()
    answer = ask(web.asgi, "POST", "/login", {"code": code}, {"sec-fetch-site": "cross-site", "authorization": None})
    assert answer.status == 403


def logged_in(web) -> dict[str, str | None]:
    answer = ask(web.asgi, "POST", "/login", {"code": web.keys.link()}, {"authorization": None})
    assert answer.status == 200
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    return {"authorization": None, "cookie": cookie.split(";")[0], "x-p8-csrf": answer.json["csrf"],
            "origin": "http://127.0.0.1:8008"}  # fmt: skip


def test_a_link_opens_once_and_gives_a_cookie_that_opens_with_its_csrf_token(web) -> None:
    code = web.keys.link()
    assert ask(web.asgi, "POST", "/login", {"code": code}, {"authorization": None}).status == 200
    assert ask(web.asgi, "POST", "/login", {"code": code}, {"authorization": None}).status == 401
    browser = logged_in(web)
    path = f"/api/v1/sessions/{web.session}"
    assert ask(web.asgi, "GET", "/api/v1/sessions", headers={**browser, "origin": None}).status == 200
    assert ask(web.asgi, "PATCH", path, {"pinned": True}, browser).json["pinned"] is True
    for lacking in ({"x-p8-csrf": None}, {"x-p8-csrf": "0" * 64}, {"cookie": f"{COOKIE}=x.9999999999.{'0' * 64}"},
                    {"cookie": None}, {"sec-fetch-site": "same-site"}):  # fmt: skip
        assert ask(web.asgi, "GET", "/api/v1/sessions", headers={**browser, **lacking}).status == 401, lacking
        assert ask(web.asgi, "PATCH", path, {"title": "no"}, {**browser, **lacking}).status == 401, lacking
    assert ask(web.asgi, "PATCH", path, {"title": "no"}, {**browser, "origin": None}).status == 403


def test_a_browsers_stream_needs_the_csrf_token_as_a_protocol_and_an_origin(web) -> None:
    browser = logged_in(web)
    proto = {"sec-websocket-protocol": f"p8.stream.v1, csrf.{browser.pop('x-p8-csrf')}"}
    assert knock(web.asgi, "/api/v1/stream", {**browser, **proto})[0]["type"] == "websocket.accept"
    assert knock(web.asgi, "/api/v1/stream", {**browser})[0]["status"] == 401
    assert knock(web.asgi, "/api/v1/stream", {**browser, **proto, "origin": None})[0]["status"] == 403


def test_links_and_cookies_grow_old() -> None:
    now = [1000.0]
    keys = Keys(TOKEN, lambda: now[0])
    code = keys.link()
    now[0] += LINK_S + 1
    assert keys.use_link(code) is None
    made = keys.use_link(keys.link())
    assert made is not None
    assert keys.is_cookie(*made)
    assert Keys(TOKEN, lambda: now[0]).is_cookie(*made)  # a restarted server
    assert not Keys("f" * 64, lambda: now[0]).is_cookie(*made)
    now[0] += COOKIE_S + 1
    assert not keys.is_cookie(*made)


def test_only_so_many_links_are_out_at_a_time() -> None:
    keys = Keys(TOKEN)
    codes = [keys.link() for _ in range(LINKS + 5)]
    assert sum(keys.use_link(code) is not None for code in codes) == LINKS


def test_what_is_too_large_is_not_read(web) -> None:
    answer = ask(web.asgi, "POST", "/api/v1/sessions/undo", b"{}", {"content-length": str(1 << 30)})
    assert answer.status == 413
    assert ask(web.asgi, "POST", "/api/v1/sessions/undo", b" " * ((1 << 20) + 1)).status == 413
    assert ask(web.asgi, "POST", "/api/v1/sessions/undo", b"[" * 100_000).status == 400


def test_more_than_is_allowed_at_a_time_is_refused(web) -> None:
    few = Web(web.app, Keys(TOKEN), Limits(requests=0, sockets=0))
    assert ask(few.asgi, "GET", "/health").status == 503
    assert knock(few.asgi, "/api/v1/stream")[0]["status"] == 503
    few.close()


def test_every_answer_says_what_a_page_may_do(web) -> None:
    for answer in (ask(web.asgi, "GET", "/"), ask(web.asgi, "GET", "/api/v1/about"), ask(web.asgi, "GET", "/nothing"),
                   ask(web.asgi, "GET", "/", headers={"host": "x"})):  # fmt: skip
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_token_is_made_once_and_only_its_owner_reads_it(home: Path) -> None:
    old = os.umask(0)
    try:
        folder = folder_of(home)
        token = token_of(folder)
    finally:
        os.umask(old)
    assert token == token_of(folder)
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [p.name for p in folder.iterdir()] == ["token"]


@pytest.mark.parametrize("spoil", ["open", "empty", "link", "folder"])
def test_a_token_that_is_not_as_it_must_be_is_refused(home: Path, tmp_path: Path, spoil) -> None:
    folder = folder_of(home)
    token_of(folder)
    path = folder / "token"
    if spoil == "open":
        path.chmod(0o644)
    elif spoil == "empty":
        path.write_text("")
    elif spoil == "link":
        (tmp_path / "elsewhere").write_text(TOKEN)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        folder.chmod(0o755)
    with pytest.raises(ConfigError):
        token_of(folder_of(home))
