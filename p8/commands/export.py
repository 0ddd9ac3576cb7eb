"""Export: sessions as Markdown, JSON lines, one HTML page, or an archive that another P8 takes in."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Card, Confirm, Result, Table, Text, View, command
from p8.commands.session import short, target
from p8.config import secrets_in
from p8.errors import NotFound, UsageError
from p8.model import SessionRow

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.formats.redact import Redactor

FORMATS = ("md", "jsonl", "html", "p8")
EVERY_S = 0.1
QUIET_S = 1.0  #: what is done sooner is not worth a progress bar


@command(
    "export", "Write sessions to a file, to read or to carry away; what is to be read has its secrets redacted.",
    Arg("session", "ids, titles or `last`; the current one where none is given", "session", "*"),
    Arg("--project", "all sessions of this project", flag=True),
    Arg("--all", "all sessions of all projects", flag=True),
    Arg("--format", "md, jsonl or html to read; p8 is an archive, lossless: everything as recorded, secrets too",
        choices=FORMATS),
    Arg("-o", "the file, or a directory for it; named after the session, here, where none is given", "path"),
    Arg("--redact", "take secrets out of an archive, too", flag=True),
    Arg("--no-redact", "leave secrets and absolute paths in", flag=True),
    Arg("--yes", "replace the file if it is there", flag=True),
    examples=("export", "export last --format html", "export --project --format p8 -o backup.p8.zip",
              "export 135313-67a5 parser --format jsonl -o two.jsonl"),
)  # fmt: skip
def export(app: App, args: Namespace) -> Result:
    """Export."""
    from p8.core import export as exporting

    form, redact = _form(args), _redacts(args)
    rows, scope = _chosen(app, args, form)
    path = _path(app, args.o, rows, scope, exporting.suffix_of(form))
    if path.exists() and not args.yes:
        return _ask(path, rows, args, form)
    redactor = exporting.redactor_for(app.store, rows, Path.home(), secrets_in()) if redact else None
    patient = _patient(app.progress)
    about: dict[str, Any] = {"path": str(path), "format": form, "sessions": [row.id for row in rows]}
    said: list[tuple[str, str]] = [("file", str(path))]
    views: list[View] = []
    if form == "p8":
        made = exporting.write_archive(app.store, path, rows, scope=scope, redactor=redactor, progress=patient)
        parents = f", {made.ancestors} of them parents of forks, as far as needed" if made.ancestors else ""
        said.append(("sessions", f"{made.sessions}{parents}"))
        about |= {"lossless": redactor is None, "damaged": made.damaged, "ancestors": made.ancestors}
        if made.damaged:
            views.append(Text(f"{made.damaged} entries were damaged before; p8 doctor names them", "warning"))
        entries, size = made.entries, made.size_bytes
    else:
        wrote = exporting.write_readable(app.store, path, rows, form, redactor=redactor, progress=patient)
        said.append(("sessions", str(wrote.sessions)))
        entries, size = wrote.entries, wrote.size_bytes
    said += [("entries", f"{entries:,}"), ("size", f"{size:,} bytes")]
    about |= {"entries": entries, "size_bytes": size, "redacted": _found(redactor)}
    return Result(about, (Card("Exported", tuple(said)), *_redactions(form, redactor), *views))


def _form(args: Namespace) -> str:
    if args.format:
        return str(args.format)
    name = (args.o or "").lower()
    return next((form for form, end in (("p8", ".zip"), *((f, f".{f}") for f in FORMATS)) if name.endswith(end)), "md")


def _redacts(args: Namespace) -> bool:
    if args.redact and args.no_redact:
        raise UsageError("--redact and --no-redact exclude each other", "leave one out")
    return bool(args.redact) or not (args.no_redact or _form(args) == "p8")


def _chosen(app: App, args: Namespace, form: str) -> tuple[list[SessionRow], str]:
    """Return which sessions are meant, and how they were named."""
    from p8.core.export import all_rows

    if args.project + args.all + bool(args.session) > 1:
        raise UsageError("name sessions, or --project, or --all", "p8 export --help shows how")
    if args.project or args.all:
        rows = all_rows(app.store, app.project.id if args.project else None, form == "p8")
        if not rows:
            where = "in this project" if args.project else "yet"
            raise NotFound(f"there is no session {where}", "p8 session list --all shows those of all projects")
        return rows, "project" if args.project else "all"
    return _named(app, args.session), "sessions"


def _named(app: App, words: Sequence[str]) -> list[SessionRow]:
    """Return the sessions that words name: all words one title, or each of them a session."""
    try:
        return [target(app, words)]
    except NotFound:
        if len(words) < 2:
            raise
    found = {row.id: row for row in (target(app, [word]) for word in words)}
    return list(found.values())


def _path(app: App, given: str | None, rows: Sequence[SessionRow], scope: str, suffix: str) -> Path:
    path = app.directory / Path(given).expanduser() if given else app.directory
    if path.is_dir():
        about = {"all": "everything", "project": rows[0].project_name}.get(scope) or rows[0].title or short(rows[0].id)
        slug = _slug(about) or short(rows[0].id)
        more = f"-and-{len(rows) - 1}-more" if scope == "sessions" and len(rows) > 1 else ""
        path /= f"p8-{datetime.now(UTC):%Y-%m-%d}-{slug}{more}{suffix}"
    return path


def _slug(title: str) -> str:
    """Return a title as a file's name has it: its plain words only, as a part of a secret could be anything else."""
    from p8.formats.redact import Redactor

    plain = re.sub(r"\[redacted: [^]]*\]", "", Redactor().text(title)).lower()
    words = [word.strip(".,:;!?()[]'\"`…") for word in plain.split()]
    kept = [w for w in words if re.fullmatch(r"[^\W\d_]{1,20}(?:[-_/][^\W\d_]{1,20}){0,3}|\d{1,4}", w)]
    return "-".join(kept)[:48].replace("/", "-").strip("-")


def _ask(path: Path, rows: Sequence[SessionRow], args: Namespace, form: str) -> Result:
    """Show what would be replaced by what."""
    state = path.stat()
    changed = datetime.fromtimestamp(state.st_mtime, UTC)
    messages = sum(row.messages for row in rows)
    new = f"{len(rows)} session{'s' * (len(rows) != 1)} with {messages:,} messages as {form}"
    words = ["export", *(row.id for row in rows if not (args.project or args.all)), "--format", form, "-o", str(path)]
    words += [flag for flag in ("--project", "--all", "--redact", "--no-redact") if getattr(args, _dest(flag))]
    question = f"Replace {path} ({state.st_size:,} bytes, of {changed:%Y-%m-%d %H:%M} UTC) by {new}?"
    return Result({"path": str(path), "done": ""}, (), Confirm(question, shlex.join([*words, "--yes"])))


def _dest(flag: str) -> str:
    return flag.strip("-").replace("-", "_")


def _patient(tell: Callable[[float, str], None]) -> Callable[[float, str], None]:
    """Return a progress that says nothing in the first second, and then ten times a second."""
    begun, shown, last = time.monotonic(), False, 0.0

    def progress(fraction: float, text: str) -> None:
        nonlocal shown, last
        now = time.monotonic()
        due = fraction >= 1 or now - last > EVERY_S if shown else fraction < 1 and now - begun > QUIET_S
        if due:
            shown, last = True, now
            tell(fraction, text)

    return progress


def _found(redactor: Redactor | None) -> list[dict[str, Any]] | None:
    return None if redactor is None else [found._asdict() for found in redactor.found]


def _redactions(form: str, redactor: Redactor | None) -> tuple[View, ...]:
    if redactor is None and form == "p8":
        text = "Lossless: everything is in it as it was recorded, secrets too. --redact takes them out."
        return (Text(text, "warning"),)
    if redactor is None:
        return (Text("Nothing was redacted: secrets and paths are in it as they were recorded.", "warning"),)
    from p8.formats.redact import has_detectors

    rows = tuple((found.kind, str(found.secrets), str(found.places)) for found in redactor.found)
    table = Table(("REDACTED", "SECRETS", "PLACES"), rows, "No secret was found in it.")
    more = () if has_detectors() else (Text("pip install 'p8[redact]' looks for more shapes of secrets", "dim"),)
    return (table, *more)
