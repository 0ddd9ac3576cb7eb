"""Backup and restore of an instance or a session, in one file that was read back before it counts as done."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Card, Confirm, Result, Table, Text, View, command
from p8.commands.session import target
from p8.errors import NotFound, UsageError
from p8.formats.backup import SUFFIX
from p8.model import from_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.backup import Backups, Done, Preview

MOST = 12


def _backups(app: App) -> Backups:
    from p8.core.backup import Backups

    return Backups(app.instances)


@command(
    "instance backup", "Back an instance or a session up: what is recorded, its configuration, its state folder.",
    Arg("which", "an instance, or a session by id or title; the current session where none is given", nargs="*"),
    Arg("--session", "the same, named", default=""),
    Arg("-o", "the file, or a directory for it; DATE_NAME, here, where none is given", "path"),
    Arg("--yes", "replace the file if it is there", flag=True),
    aliases=("backup",),
    examples=("instance backup my-project-claude", "instance backup --session my-project -o /mnt/disk"),
)  # fmt: skip
def backup(app: App, args: Namespace) -> Result:
    """Back one up."""
    if args.session and args.which:
        raise UsageError("one name, not two", "p8 backup --session NAME")
    words = [args.session] if args.session else list(args.which)
    instance = _instance(app, words)
    row = None if instance else target(app, words)
    name = instance or str(row.id if row is not None else "")
    path = app.directory / Path(args.o).expanduser() if args.o else app.directory
    if path.is_dir():
        path /= f"{datetime.now(UTC):%Y-%m-%d}_{name}{SUFFIX}"
    if path.exists() and not args.yes:
        words = ["instance", "backup", name, "-o", str(path), "--yes"]
        question = f"Replace {path} ({path.stat().st_size:,} bytes)?"
        return Result({"path": str(path), "done": False}, (), Confirm(question, shlex.join(words)))
    made = _backups(app)
    done = made.of_session(row, path, app.progress) if row is not None else (
        made.of_instance(instance, path, app.progress)
    )  # fmt: skip
    fields = (
        ("file", str(path)), (done.kind, done.name), ("sessions", str(done.sessions)),
        ("state", f"{done.files:,} files, {done.state[:12]}" if done.state else "none yet"),
        ("size", f"{done.size_bytes:,} bytes"),
    )  # fmt: skip
    views: list[View] = [Card("Backed up, and read back whole", fields)]
    views.append(Text("Lossless: everything is in it as it was recorded, secrets too.", "warning"))
    if done.changed:
        views.append(Text(f"{_few(done.changed)} changed meanwhile: stop it and back it up again", "warning"))
    if done.left_out:
        views.append(Text(f"left out, as they are no files: {_few(done.left_out)}", "dim"))
    data = {**done._asdict(), "path": str(path), "changed": list(done.changed), "left_out": list(done.left_out)}
    return Result({**data, "done": True}, tuple(views))


def _few(names: Any) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _instance(app: App, words: list[str]) -> str:
    """Return the id of the instance that words name; "" where they name none: a session, then."""
    if len(words) != 1:
        return ""
    if app.store.instances.get(words[0]) is not None:
        return words[0]
    try:
        target(app, words)
    except NotFound:
        return app.instances.roster.get(words[0]).id
    return ""


@command(
    "instance restore", "Restore an instance or a session from a backup: shown first, done with --yes.",
    Arg("file", "the backup", "path", nargs="?", default=""),
    Arg("--from-backup", "the same, named; its ending may be left out", "path", default=""),
    Arg("--project", "let the instance work on this directory from now on", "path", default=""),
    Arg("--yes", "do it; what it replaces is kept beside", flag=True),
    aliases=("restore",),
    examples=("instance restore --from-backup 2025-12-11_my-project", "instance restore it.p8-backup.zip --yes"),
)  # fmt: skip
def restore(app: App, args: Namespace) -> Result:
    """Restore one."""
    given = args.from_backup or args.file
    if not given or (args.from_backup and args.file):
        raise UsageError("which backup?", "p8 restore --from-backup FILE")
    path = app.directory / Path(given).expanduser()
    if not path.exists() and path.with_name(path.name + SUFFIX).exists():
        path = path.with_name(path.name + SUFFIX)
    if not path.exists():
        raise NotFound(f"there is no backup {path}", "p8 backup makes one")
    project = (app.directory / Path(args.project).expanduser()).resolve() if args.project else None
    made = _backups(app)
    found = made.preview(path, project, app.progress)
    if not args.yes:
        words = ["instance", "restore", str(path), *(["--project", str(project)] if project else []), "--yes"]
        question = f"Replace {', '.join(found.replaces)}?" if found.replaces else f"Restore {found.manifest.name}?"
        return Result({**_about(found), "done": False}, _shown(found), Confirm(question, shlex.join(words)))
    done = made.restore(found, True, app.progress)
    return Result({**_about(found), **_said(done), "done": True}, (*_shown(found), *_outcome(found, done)))


def _about(found: Preview) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "path": str(found.path), "kind": manifest.kind, "name": manifest.name, "made": from_us(manifest.made_us),
        "sessions": manifest.sessions, "state": manifest.state, "replaces": list(found.replaces),
    }  # fmt: skip


def _said(done: Done) -> dict[str, Any]:
    sessions = done.sessions
    return {
        "name": done.name, "state": done.state, "kept": [str(path) for path in done.kept],
        "added": list(sessions.added) if sessions else [], "known": list(sessions.known) if sessions else [],
        "continued": list(sessions.continued) if sessions else [], "held": list(sessions.held) if sessions else [],
        "copied": dict(sessions.copied) if sessions else {},
    }  # fmt: skip


def _shown(found: Preview) -> tuple[View, ...]:
    """Return what a person must see before agreeing: also what its configuration asks for."""
    manifest, row = found.manifest, found.manifest.instance or {}
    files = [node for node in manifest.nodes if node.kind == "file"]
    fields = [
        (manifest.kind, manifest.name), ("made", f"{from_us(manifest.made_us):%Y-%m-%d %H:%M} UTC, {manifest.by}"),
        ("project", str(found.project or "")), ("mode", str(row.get("mode", ""))),
        ("image", str(row.get("meta", {}).get("image", ""))),
        ("state", f"{len(files):,} files, {sum(f.size for f in files):,} bytes" if manifest.state else "none"),
        ("replaces", ", ".join(found.replaces) or "nothing"),
    ]  # fmt: skip
    views: list[View] = [Card(found.path.name, tuple((name, value) for name, value in fields if value))]
    if found.archive is not None:
        rows = tuple(
            (carried.row.title or "(nothing said)", f"{carried.entries:,}", carried.row.id)
            for carried in found.archive.sessions[:MOST]
        )
        views.append(Table(("SESSION", "ENTRIES", "ID"), rows))
        if len(found.archive.sessions) > MOST:
            views.append(Text(f"… and {len(found.archive.sessions) - MOST} more", "dim"))
    for title, text in (("its configuration", found.config), ("its template", found.template)):
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if lines:
            views.append(Text("\n".join([f"{title}:", *lines[:40]]), "dim"))
    if manifest.changed:
        views.append(Text(f"{_few(manifest.changed)} changed while it was made", "warning"))
    return tuple(views)


def _outcome(found: Preview, done: Done) -> tuple[View, ...]:
    views: list[View] = [Text(f"{done.name} is restored", "good")]
    if done.sessions is not None:
        parts = [(len(done.sessions.added), "new"), (len(done.sessions.continued), "continued"),
                 (len(done.sessions.copied), "as copies"), (len(done.sessions.known), "here already"),
                 (len(done.sessions.held), "open, left as they are")]  # fmt: skip
        views.append(Text(f"sessions: {', '.join(f'{count} {what}' for count, what in parts if count)}"))
    views += [Text(f"what was there is kept as {path}", "dim") for path in done.kept]
    if found.manifest.kind == "instance":
        place = found.project
        mode = (found.manifest.instance or {}).get("mode", "")
        views.append(Text(f"ai-session start {shlex.quote(str(place))} {mode} {done.name} starts it", "dim"))
    return tuple(views)
