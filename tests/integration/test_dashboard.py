"""The dashboard in a real browser: by keyboard alone, in dark and light, at phone width; stored text runs nothing."""

# ruff: noqa: E501 the payloads

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p8.testing import make_app
from support.browsing import chromium, link, ready
from support.serving import Served

SHOTS = os.environ.get("P8_SCREENSHOTS", "")  # a folder, where pictures are to be kept


class Place:
    def __init__(self, root: Path) -> None:
        self.home, self.work = root / "home", root / "work"
        self.work.mkdir()
        subprocess.run(["git", "init", "-q", "-b", "main", str(self.work)], check=True)
        (self.work / "cart.py").write_text("total = 0\n")
        app = make_app(self.home, self.work)
        for asked, said in (
            ("What is a git branch?", "A pointer."),
            ("The parser", "the zymurgy of ale is hidden here"),
        ):
            made = app.sessions.start_session("work", project=app.project.id, directory=str(self.work), branch="main")
            app.sessions.record_message({"role": "user", "content": asked})
            app.sessions.record_message({"role": "assistant", "content": said, "tokens_in": 10, "tokens_out": 20})
            app.sessions.record_execution("pytest -q", exit_code=1, output="1 failed\n")
            app.checkpoints.create("tests pass")
            app.sessions.pause_session()
        self.session = made.session_id
        self.fork = app.sessions.fork_session(self.session).session_id
        app.sessions.record_message({"role": "user", "content": "another way"})
        app.close()
        (self.work / "cart.py").write_text("total = 1\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(scope="module")
def served(place: Place) -> Iterator[Served]:
    with Served(place.home, place.work) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)
    page.goto(link(served))
    ready(page, "sessions")
    yield page
    assert page.faults == []
    context.close()


def shot(page: Any, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def test_a_session_is_found_read_and_its_files_restored_by_keyboard_alone(page: Any, place: Place) -> None:
    assert "#/sessions" in page.url  # the code is out of the address at once
    page.keyboard.press("/")
    page.keyboard.type("zymurgy")
    page.wait_for_selector("mark:text-is('zymurgy')")
    page.keyboard.press("ArrowDown")
    while "zymurgy" not in (page.evaluate("document.activeElement.innerText") or ""):
        page.keyboard.press("j")
    page.keyboard.press("Enter")
    ready(page, "session")
    assert "the zymurgy of ale is hidden here" in page.inner_text("main")
    assert "1 failed" in page.inner_text(".entry.execution")
    assert "another way" in page.inner_text(".tree") or "The parser" in page.inner_text(".tree")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Restore":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] :text('kept as they are')")
    assert (place.work / "cart.py").read_text() == "total = 1\n"
    page.keyboard.press("Enter")  # include what something else has changed
    page.wait_for_selector("dialog[open] :text('would be changed')")
    assert "cart.py" in page.inner_text("dialog")
    shot(page, "restore")
    page.keyboard.press("Enter")
    page.wait_for_selector("#told:has-text('1 files restored')")
    assert (place.work / "cart.py").read_text() == "total = 0\n"
    page.locator("#told button").press("Enter")
    page.wait_for_selector("#told:has-text('taken back')")
    assert (place.work / "cart.py").read_text() == "total = 1\n"


def test_a_session_is_renamed_pinned_and_put_into_the_trash(page: Any, served: Served, place: Place) -> None:
    page.goto(f"http://127.0.0.1:{served.port}/#/session/{place.fork}")
    ready(page, "session")
    page.get_by_role("button", name="Rename").press("Enter")
    page.fill("#rename", "A better name")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:text-is('A better name')")
    assert served.get(f"/api/v1/sessions/{place.fork}").json["title"] == "A better name"
    page.get_by_role("button", name="Trash").press("Enter")
    page.keyboard.press("Enter")
    ready(page, "sessions")
    assert served.get(f"/api/v1/sessions/{place.fork}").json["trashed"]


def test_what_another_process_says_appears_by_itself(page: Any, served: Served, place: Place) -> None:
    page.goto(f"http://127.0.0.1:{served.port}/#/session/{place.session}")
    ready(page, "session")
    page.wait_for_selector(".live.on")
    app = make_app(place.home, place.work)
    app.sessions.resume_session(place.session)
    app.sessions.record_message({"role": "user", "content": "said in another terminal"})
    page.wait_for_selector(".entry.user:has-text('said in another terminal')", timeout=15_000)
    app.close()


def test_every_view_is_reached_by_its_number_and_fits_a_phone(browser: Any, served: Served) -> None:
    for scheme, width in (("dark", 1280), ("light", 390)):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        page = context.new_page()
        page.goto(link(served))
        ready(page, "sessions")
        for number, view in enumerate(("sessions", "instances", "projects", "usage", "events"), 1):
            page.keyboard.press(str(number))
            ready(page, view)
            shot(page, f"{scheme}-{view}")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (view, wide)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, back.strip("rgb()").split(","))) < 200) == (scheme == "dark")
        context.close()


def test_without_a_login_nothing_is_shown_and_a_link_works_once(browser: Any, served: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.wait_for_selector("text=Not logged in")
    used = link(served)
    page.goto("about:blank")
    page.goto(used)
    ready(page, "sessions")
    other = browser.new_context().new_page()
    other.goto(used)
    other.wait_for_selector("text=Not logged in")
    assert page.evaluate("document.cookie") == ""  # out of a script's reach
    context.close()


def payloads() -> list[str]:
    """Three hundred ways in which stored text has become a script."""
    calls = ["window.pwned=1", "parent.pwned=1", "top['pwned']=1", "fetch('/pwned')", "location='/pwned'"]
    shapes = [
        "<script>{}</script>", "<img src=x onerror=\"{}\">", "<svg onload=\"{}\">", "<svg><script>{}</script></svg>",
        "<iframe srcdoc=\"<script>{}</script>\">", "<a href=\"javascript:{}\" autofocus onfocus=\"{}\">x</a>",
        "\"><script>{}</script>", "'><img src=x onerror={}>", "</pre><script>{}</script>", "</textarea><script>{}</script>",
        "<body onload={}>", "<details open ontoggle={}>", "<video><source onerror=\"{}\">", "<marquee onstart={}>",
        "<math><mtext></form><form><mglyph><svg><mtext><textarea><a title=\"</textarea><img src=x onerror={}>\">",
        "<object data=\"javascript:{}\">", "<embed src=\"javascript:{}\">", "<base href=\"javascript:{}//\">",
        "<meta http-equiv=refresh content=\"0;url=javascript:{}\">", "<style>@import 'javascript:{}';</style>",
        "<link rel=import href=\"data:text/html,<script>{}</script>\">", "<input autofocus onfocus={}>", "javascript:{}",
        "<svg><animate onbegin={} attributeName=x dur=1s>", "<form action=\"javascript:{}\"><button>x</button></form>",
        "<x onclick={} tabindex=1 id=x></x>#x", "${{{}}}", "{{{{constructor.constructor('{}')()}}}}", "<![CDATA[<script>{}</script>]]>",
        "%3Cscript%3E{}%3C/script%3E", "&lt;script&gt;{}&lt;/script&gt;", "\\u003cscript\\u003e{}\\u003c/script\\u003e",
        "<scr<script>ipt>{}</scr</script>ipt>", "<img src=\"x`{}`\" onerror=eval(src)>", "<template><script>{}</script></template>",
        "<svg><use href=\"data:image/svg+xml,<svg id='x' onload='{}'/>#x\">", "<button popovertarget=x onbeforetoggle={}>",
        "<a href=\"data:text/html,<script>{}</script>\">x</a>", "[x](javascript:{})", "![x](x\" onerror=\"{})",
        "<noscript><p title=\"</noscript><img src=x onerror={}>\">", "<select><style></select><img src=x onerror={}>",
        "<frameset onload={}>", "<table background=\"javascript:{}\">", "<div style=\"width:expression({})\">",
        "<img srcset=x onerror={}>", "<audio src onerror={}>", "<script/src=data:,{}></script>", "<script type=module>{}</script>",
        "<isindex type=image src=1 onerror={}>", "<applet code=\"javascript:{}\">", "<svg/onload={}//", "<!--><script>{}</script>-->",
        "<xss contenteditable onblur={}>", "<svg><a xlink:href=\"javascript:{}\"><text y=9>x</text></a></svg>",
        "<?xml version=\"1.0\"?><script>{}</script>", "\x00<script>{}</script>", "\u202e<script>{}</script>", "]]><script>{}</script>",
        "*/{};/*",
    ]  # fmt: skip
    made = [shape.replace("{}", call) for call, shape in itertools.product(calls, shapes)]
    return made[:300]


@pytest.mark.timeout(280)
def test_stored_text_runs_nothing_in_any_field(browser: Any, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    app = make_app(tmp_path / "home", work)
    evil = payloads()
    assert len(evil) == 300
    ids = []
    for at in range(0, 300, 30):
        some = evil[at : at + 30]
        made = app.sessions.start_session(some[0], directory=some[1], branch=some[2], model=some[3], project=some[4])
        ids.append(made.session_id)
        for text in some:
            app.sessions.record_message({"role": "user", "content": text})
            app.sessions.record_message({"role": text, "content": [{"text": text}], "model": text, "error": text})
            app.sessions.record_command(f"/{text}")
            app.sessions.record_execution(text, exit_code=1, output=text)
            app.sessions.record("part", {"part": "tool", "title": text, "status": text})
            app.sessions.record("event", {"what": text, "text": text})
            app.sessions.record(
                "checkpoint", {"id": made.session_id, "name": text, "git": {"branch": text, "commit": text}}
            )
        app.sessions.annotate(title=some[5], tags=[some[6], some[7]])
        app.sessions.pause_session()
    app.close()
    with Served(tmp_path / "home", work) as served:
        context = browser.new_context()
        page = context.new_page()
        faults: list[str] = []
        asked: list[str] = []
        page.on("dialog", lambda dialog: (faults.append("dialog"), dialog.dismiss()))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(link(served))
        base = f"http://127.0.0.1:{served.port}/"
        views = ["sessions", "projects", "usage", "events", "sessions?q=script", *(f"session/{one}" for one in ids)]
        seen = ""
        for view in views:
            page.goto(f"{base}#/{view}")
            ready(page, view.split("/")[0].split("?")[0])
            while page.locator("button:text-is('Earlier')").count():
                page.locator("button:text-is('Earlier')").click()
                page.wait_for_timeout(50)
            seen += page.inner_text("main")
            assert page.evaluate("[window.pwned, top.pwned]") == [None, None], view
            assert page.locator("main script, main iframe, main object, main embed, main img, main form").count() == 0
            assert page.locator("main [onerror], main [onload], main [onfocus], main [href^='javascript']").count() == 0
        assert faults == []
        assert all(url.startswith(base) and "pwned" not in url for url in asked), [u for u in asked if "pwned" in u]
        assert sum(text.split("\n")[0][:20] in seen for text in evil) > 280  # it was shown, as text
        context.close()
