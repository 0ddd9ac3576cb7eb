"""The dashboard in a real browser: by keyboard alone, in dark and light, at phone width; stored text runs nothing."""

# ruff: noqa: E501 the payloads

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p8.core.sessions import SessionManager
from p8.errors import P8Error
from p8.store.manager import PersistenceManager
from p8.testing import make_app
from support.agents import told_agent
from support.browsing import chromium, link, ready
from support.engine import remove_all, session_image
from support.serving import Served
from support.terminal import Terminal

SHOTS = os.environ.get("P8_SCREENSHOTS", "")  # a folder, where pictures are to be kept


PLAN = {"id": "p1", "scope": {"lines": 100, "tests": 40, "docs": 5}, "phases": [["build", 60], ["test", 40]]}


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
            app.handoff.write()
            app.sessions.annotate(plan=PLAN, usage={"turns": [[1, 300], [2, 500], [3, 250]]})
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
    with Served(place.home, place.work, fake=True, FAKE_DELAY_S="1.0") as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


def opened(browser: Any, served: Served, **how: Any) -> Any:
    """A page that is logged in, and notes what goes wrong in it."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **how})
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)
    page.goto(link(served))
    ready(page, "sessions")
    return page


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    page = opened(browser, served)
    yield page
    assert page.faults == []
    page.context.close()


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.innerText || document.activeElement.value") or ""


def tab_to(page: Any, name: str) -> None:
    """Press Tab until what has the focus is called so."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if focused(page) == name:
            return
    raise AssertionError(f"Tab does not get to {name!r}")


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


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
    while "zymurgy" not in focused(page):
        page.keyboard.press("j")
    shot(page, "found")
    page.keyboard.press("Enter")
    ready(page, "session")
    assert "the zymurgy of ale is hidden here" in focused(page)  # where it was said
    assert "the zymurgy of ale is hidden here" in page.inner_text("main")
    assert "1 failed" in page.inner_text(".entry.execution")
    page.keyboard.press("j")
    assert "1 failed" in focused(page)
    assert "another way" in page.inner_text(".tree") or "The parser" in page.inner_text(".tree")
    shot(page, "session")
    tab_to(page, "Diff")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] .patch")
    assert "-total = 0\n+total = 1" in page.inner_text("dialog .patch")
    shot(page, "diff")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")
    assert focused(page) == "Diff"
    tab_to(page, "Restore")
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
    assert focused(page) == "Undo"
    page.keyboard.press("Enter")
    page.wait_for_selector("#told:has-text('taken back')")
    assert (place.work / "cart.py").read_text() == "total = 1\n"
    page.keyboard.press("Escape")
    ready(page, "sessions")
    assert page.input_value("#search") == "zymurgy"


def test_a_session_is_talked_in_by_keyboard_and_its_answer_comes_word_by_word(
    browser: Any, served: Served, place: Place
) -> None:
    page = opened(browser, served)
    page.goto(f"http://127.0.0.1:{served.port}/#/session/{place.fork}")
    ready(page, "session")
    page.keyboard.press("c")
    page.keyboard.type("tell me <b>more</b> of it")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and of **that**")
    page.keyboard.press("Enter")
    page.wait_for_selector(".entry.coming:has-text('You said: tell'):not(:has-text('that'))")  # a line at a time
    shot(page, "talking")
    page.wait_for_selector(".entry.assistant:not(.coming) strong:text-is('that')")
    page.wait_for_selector(".entry.user:has-text('tell me <b>more</b> of it')")
    page.wait_for_selector(".entry.coming", state="hidden")
    assert page.evaluate("document.activeElement.id") == "say"
    assert page.locator(".entry.user:has-text('tell me')").count() == 1
    page.keyboard.type(" ".join(map(str, range(60))))
    page.keyboard.press("Enter")
    page.wait_for_selector(".entry.coming:has-text('You said: 0 1 2')")
    tab_to(page, "Stop")
    page.keyboard.press("Enter")
    page.wait_for_selector(".entry.assistant:not(.coming):has-text('(stopped)')")
    assert page.faults == []
    page.context.close()


def test_a_session_that_is_open_elsewhere_is_asked_for_or_taken_over(
    browser: Any, served: Served, place: Place
) -> None:
    page = opened(browser, served)
    manager = SessionManager(PersistenceManager(place.home))
    held = manager.start_session("program", directory=str(place.work)).session_id
    manager.record_message({"role": "user", "content": "held by a program"})
    manager.save_session()
    prompt = Terminal(place.home, place.work)
    try:
        prompt.wait("›")
        prompt.line("typed at the prompt", "You said: typed at the prompt")
        mine = served.get("/api/v1/sessions?q=typed").json["items"][0]["id"]
        page.goto(f"http://127.0.0.1:{served.port}/#/session/{mine}")
        ready(page, "session")
        page.keyboard.press("c")
        page.keyboard.type("said in the browser")
        page.keyboard.press("Enter")
        prompt.wait("You said: said in the browser")
        page.wait_for_selector(".entry.assistant:not(.coming):has-text('You said: said in the browser')")
        prompt.line("/quit", "Saved")
    finally:
        prompt.close()
    page.goto(f"http://127.0.0.1:{served.port}/#/session/{held}")
    ready(page, "session")
    page.keyboard.press("c")
    page.keyboard.type("mine now")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] :text('Take it over')")
    shot(page, "taken")
    page.keyboard.press("Enter")
    page.wait_for_selector(".entry.assistant:not(.coming):has-text('You said: mine now')")
    manager.close()
    assert page.faults == []
    page.context.close()


def test_what_an_agent_asks_is_answered_in_the_browser(browser: Any, tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    told_agent(home, tmp_path / "state")
    app = make_app(home, work)
    session = app.sessions.start_session("work", directory=str(work), model="tester").session_id
    app.close()
    with Served(home, work) as served:
        page = opened(browser, served)
        page.goto(f"http://127.0.0.1:{served.port}/#/session/{session}")
        ready(page, "session")
        page.keyboard.press("c")
        page.keyboard.type("edit a.txt <b>hello</b>")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open] pre:has-text('<b>hello</b>')", timeout=60_000)
        shot(page, "question")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".entry.assistant:not(.coming):has-text('done')")
        assert (work / "a.txt").read_text() == "<b>hello</b>"
        assert page.faults == []
        page.context.close()


def test_what_a_session_cost_and_what_was_used_is_drawn(page: Any, served: Served, place: Place) -> None:
    page.goto(f"http://127.0.0.1:{served.port}/#/session/{place.session}")
    ready(page, "session")
    page.wait_for_selector("aside svg[aria-label^='Burndown'] polyline.k0")
    points = page.get_attribute("aside svg polyline.k0", "points").split()
    heights = [float(point.split(",")[1]) for point in points]
    assert len(points) == 4
    assert heights == sorted(heights)  # tokens left grow fewer
    page.locator("aside summary").press("Enter")
    assert "turn 2" in page.inner_text("aside table")
    page.keyboard.press("4")
    ready(page, "usage")
    page.wait_for_selector("svg[aria-label='Tokens a day'] rect", state="attached")
    assert page.locator("svg[aria-label='Tokens a day'] rect").count() == 28
    assert "{" not in page.inner_text("main")
    page.get_by_label("How far back").select_option("7")
    until(lambda: page.locator("svg[aria-label='Tokens a day'] rect").count() == 14)


def test_a_handoff_and_a_checkpoint_are_made_and_a_session_forked(page: Any, served: Served, place: Place) -> None:
    page.goto(f"http://127.0.0.1:{served.port}/#/session/{place.session}")
    ready(page, "session")
    tab_to(page, "Checkpoint")
    page.keyboard.press("Enter")
    page.keyboard.type("made in the browser")
    page.keyboard.press("Enter")
    page.wait_for_selector("aside .title:has-text('made in the browser')")
    page.wait_for_selector(".entry.checkpoint:has-text('made in the browser')")
    tab_to(page, "Hand off")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] h4:text-is('Goal')")
    shot(page, "handoff")
    page.keyboard.press("Escape")
    tab_to(page, "Fork")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"[data-view=session][data-ready=yes] .tree a[href='#/session/{place.session}']")


def test_a_projects_actions_are_done_from_its_page(page: Any, served: Served, place: Place) -> None:
    (place.home / "configs" / "actions").mkdir(exist_ok=True)
    (place.home / "configs" / "actions" / "greet.yaml").write_text(
        "greet: {help: Say hello, run: 'echo hello {name}', parameters: {name: text}}\n"
    )
    page.keyboard.press("3")
    ready(page, "projects")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    ready(page, "project")
    assert "The parser" in page.inner_text("main")
    shot(page, "project")
    page.locator("li.row:has(.title:text-is('greet')) button").press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.type("$(you) & <i>you</i>")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] :text('hello $(you) & <i>you</i>')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#told a")


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


def test_every_view_is_reached_by_its_number_and_fits_a_phone(browser: Any, served: Served, place: Place) -> None:
    for scheme, width in (("dark", 1280), ("light", 390)):
        page = opened(browser, served, color_scheme=scheme, viewport={"width": width, "height": 800})
        for number, view in enumerate(("sessions", "instances", "projects", "usage", "events"), 1):
            page.keyboard.press(str(number))
            ready(page, view)
            shot(page, f"{scheme}-{view}")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (view, wide)
            assert named(page) == [], view
        project = served.get(f"/api/v1/sessions/{place.session}").json["project"]
        for view in (f"session/{place.session}", f"project/{project}"):
            page.goto(f"http://127.0.0.1:{served.port}/#/{view}")
            ready(page, view.split("/")[0])
            shot(page, f"{scheme}-{view.split('/')[0]}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view
            assert named(page) == [], view
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open] :text('search')")
        page.keyboard.press("Escape")
        assert page.faults == []
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, back.strip("rgb()").split(","))) < 200) == (scheme == "dark")
        page.context.close()


def named(page: Any) -> list[str]:
    """What has no name for whoever does not see it."""
    return page.evaluate(
        """[...document.querySelectorAll("button, a, input, select, textarea, svg[role=img], dialog[open]")]
        .filter((one) => !(one.innerText || one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") || "").trim())
        .map((one) => one.outerHTML.slice(0, 120))"""
    )


BUSY = """\
command: ["sh", "-c", "while true; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; date; sleep 0.2; done"]
health: {port: false}
"""


#: closes a dialog and moves on before the page is told that it was closed; returns what has the focus then
MOVED_ON = """() => new Promise((done) => {
    const dialog = document.querySelector("dialog[open]");
    dialog.addEventListener("close", () => setTimeout(() => done(document.activeElement.textContent)));
    dialog.close();
    [...document.querySelectorAll("button")].find((one) => one.textContent === "Freeze").focus();
})"""


@pytest.mark.timeout(280)
def test_instances_are_watched_read_stopped_and_started_by_keyboard(browser: Any, tmp_path: Path) -> None:
    image = session_image(tmp_path)
    home, work = tmp_path / "home", tmp_path / "shop"
    work.mkdir()
    app = make_app(home, work, container_image=image)
    app.store.start()
    (home / "config.toml").write_text(f'container_image = "{image}"\n')
    (home / "configs" / "shop-shell.yml").write_text(BUSY)
    try:
        with Served(home, work, DOCKER_HOST="") as served:
            page = opened(browser, served)
            page.keyboard.press("2")
            ready(page, "instances")
            assert "No instances" in page.inner_text("main")
            tab_to(page, ".")
            page.keyboard.press("Control+a")
            page.keyboard.type(str(work))
            page.keyboard.press("Enter")
            page.wait_for_selector("[data-id=shop-shell] .chip.running", timeout=60_000)
            seen: set[tuple[str, str]] = set()

            def moved() -> bool:
                figures = page.locator("[data-id=shop-shell] [data-figure]").all_inner_texts()
                seen.add((figures[0], figures[1]))
                return len({cpu for cpu, _ in seen if cpu != "–"}) >= 4

            until(moved, 40)
            line = "document.querySelectorAll('[data-id=shop-shell] svg.spark polyline')[0].getAttribute('points')"
            before = page.evaluate(line)
            until(lambda: page.evaluate(line) != before)
            assert " of " in page.inner_text("[data-id=shop-shell] [data-figure=memory]")
            shot(page, "instances")
            page.keyboard.press("Escape")
            page.keyboard.press("j")
            assert "shop-shell" in focused(page)
            page.keyboard.press("Tab")
            assert focused(page) == "Log"
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog[open] .log")
            text = page.inner_text("dialog .log")
            until(lambda: page.inner_text("dialog .log") != text)
            shot(page, "log")
            assert page.evaluate(MOVED_ON) == "Freeze"
            page.keyboard.press("Shift+Tab")
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog[open] .log")
            page.keyboard.press("Escape")
            tab_to(page, "Freeze")
            page.keyboard.press("Enter")
            page.wait_for_selector("[data-id=shop-shell] .chip.paused", timeout=30_000)
            tab_to(page, "Stop")
            page.keyboard.press("Enter")
            page.wait_for_selector("[data-id=shop-shell] .chip.stopped", timeout=40_000)
            assert app.runtime.list() == []
            tab_to(page, "Start")
            page.keyboard.press("Enter")
            page.wait_for_selector("[data-id=shop-shell] .chip.running", timeout=40_000)
            assert [one.state for one in app.runtime.list()] == ["running"]
            assert page.faults == []
            page.context.close()
    finally:
        remove_all(app.runtime.installation)
        app.close()


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
    ids, projects = [], []
    actions = tmp_path / "home" / "configs" / "actions"
    for at in range(0, 300, 30):
        some = evil[at : at + 30]
        projects.append(app.portfolio.create(f"p{at}", name=some[8], description=some[9]).project.id)
        app.store.instances.claim(
            {"id": f"i{at}", "project_name": some[10], "project_path": some[11], "mode": some[12], "status": "error",
             "created": 1, "meta": {"error": some[13], "health": some[14], "template": some[15]}},
            lambda _row, _others: None,
        )  # fmt: skip
        definition = {"help": some[16], "run": f"echo {some[17].split(chr(39))[0]!r}"}
        with contextlib.suppress(P8Error):
            app.actions.save(f"a{at}", definition)
        project = projects[-1] if at % 60 else some[4]
        made = app.sessions.start_session(some[0], directory=some[1], branch=some[2], model=some[3], project=project)
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
        app.handoff.write()
        app.sessions.pause_session()
    assert list(actions.iterdir())
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
        views = ["sessions", "instances", "projects", "usage", "events", "sessions?q=script",
                 *(f"session/{one}" for one in ids), *(f"project/{one}" for one in projects)]  # fmt: skip
        seen = ""
        for view in views:
            page.goto(f"{base}#/{view}")
            ready(page, view.split("/")[0].split("?")[0])
            while page.locator("button:text-is('Earlier')").count():
                page.locator("button:text-is('Earlier')").click()
                page.wait_for_timeout(50)
            if view.startswith("session/"):  # also what stands in dialogs
                for name in ("Rename", "Read", "Trash"):
                    page.get_by_role("button", name=name).first.press("Enter")
                    page.wait_for_selector("dialog[open]")
                    seen += page.inner_text("dialog")
                    assert page.locator("dialog script, dialog iframe, dialog img, dialog object").count() == 0
                    page.keyboard.press("Escape")
            seen += page.inner_text("main")
            assert page.evaluate("[window.pwned, top.pwned]") == [None, None], view
            assert page.locator("main script, main iframe, main object, main embed, main img").count() == 0
            assert page.locator("main form").count() == page.locator("form.say, form.bar").count()
            assert page.locator("main [onerror], main [onload], main [onfocus], main [href^='javascript']").count() == 0
        assert faults == []
        assert all(url.startswith(base) and "pwned" not in url for url in asked), [u for u in asked if "pwned" in u]
        assert sum(text.split("\n")[0][:20] in seen for text in evil) > 280  # it was shown, as text
        context.close()
