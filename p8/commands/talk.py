"""What is about the talk itself: search in it, its commands, asking again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Result, Retry, Table, command
from p8.commands.session import age, short, target
from p8.model import Entry, Hit, from_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App


@command("search", "Find a word said or printed in any session.",
         Arg("words", 'words, "phrases", and project: branch: tag: role: kind: before: after: is:', nargs="+"),
         Arg("--here", "only in this project", flag=True), Arg("--limit", "at most so many", default=20, type=int),
         Arg("--session", "only in this session, every hit", "session", default=""),
         examples=("search flaky test", 'search "connection reset" after:7d', "search role:user parser"))  # fmt: skip
def search(app: App, args: Namespace) -> Result:
    """Search."""
    inside = target(app, [args.session]).id if args.session else ""
    query = " ".join(f'"{word}"' if " " in word else word for word in args.words)
    project = app.project.id if args.here else None
    hits = app.store.search(query, project=project, limit=args.limit, session=inside)
    rows = tuple((h.session.title, age(h.time_us), _who(h), h.snippet, short(h.session.id)) for h in hits)
    return Result([_plain(h) for h in hits], (Table(("TITLE", "AGE", "WHO", "TEXT", "ID"), rows, "Nothing found."),))


def _who(hit: Hit) -> str:
    return hit.role or {"session": "title", "execution": "output"}.get(hit.kind, hit.kind)


def _plain(hit: Hit) -> dict[str, Any]:
    return {
        "session": hit.session.id, "title": hit.session.title, "project": hit.session.project_name, "seq": hit.seq,
        "time": from_us(hit.time_us).isoformat(), "kind": hit.kind, "role": hit.role, "snippet": hit.snippet,
        "marks": [list(span) for span in hit.marks], "score": round(hit.score, 3),
    }  # fmt: skip


@command("history", "Show what was typed in a session, or in all of this project.",
         Arg("session", "which session; all of this project where none is given or current", "session", "*"),
         Arg("--limit", "newest so many", default=50, type=int),
         examples=("history", "history last --limit 10"))  # fmt: skip
def history(app: App, args: Namespace) -> Result:
    """Show what was typed."""
    if args.session or app.sessions.current is not None:
        found = typed_in(app, target(app, args.session).id, args.limit)
    else:
        found = typed_in_project(app, args.limit)
    rows = tuple((age(at), line, short(session)) for at, line, session in found)
    data = [{"time": from_us(at).isoformat(), "line": line, "session": session} for at, line, session in found]
    return Result(data, (Table(("AGE", "LINE", "SESSION"), rows, "Nothing typed yet."),))


def typed_in(app: App, session_id: str, limit: int) -> list[tuple[int, str, str]]:
    """Return the newest lines typed in a session, commands and messages, as (time, line, session), oldest first."""
    found: list[tuple[int, str, str]] = []
    before: Entry | None = None
    while len(found) < limit:
        entries = app.store.sessions.entries(
            session_id, kinds=("command", "message"), limit=max(limit, 50), newest=True, before=before
        )
        if not entries:
            break
        before = entries[0]
        typed = [e for e in entries if e.kind == "command" or e.role == "user"]
        found = [(e.time_us, e.text, e.stream) for e in typed] + found
    return found[-limit:]


def typed_in_project(app: App, limit: int, without: str = "") -> list[tuple[int, str, str]]:
    """Return the newest lines typed in the project's sessions, oldest first; those of session `without` left out."""
    found: list[tuple[int, str, str]] = []
    for row in app.store.sessions.page(project=app.project.id, limit=50):
        if row.id != without:
            found += [line for line in typed_in(app, row.id, limit - len(found)) if line[2] == row.id]
        if len(found) >= limit:
            break
    return sorted(found)[-limit:]


@command("retry", "Ask the assistant again for an answer to the last message.", doors=("repl",))
def retry(app: App, args: Namespace) -> Result:
    """Ask again."""
    return Result(effect=Retry())
