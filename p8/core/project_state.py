"""What was done in a project, as files for its `.ai-sessions/state/`: commands that ran, and checkpoints (row M14).

Redacted as exports are, paths of the project relative. Refuses: to pass on what commands printed, or what was said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from p8.core.export import redactor_for
from p8.model import Checkpoint, Kind, from_us
from p8.store.manager import PersistenceManager

SCHEMA = 1
MOST_SESSIONS = 200
MOST_COMMANDS = 1000  #: of one session, the newest
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def files(
    store: PersistenceManager, project: str, checkpoints: Iterable[Checkpoint], home: Path, known: Mapping[str, str]
) -> dict[str, bytes]:
    """
    Return `state/…` -> content: `session-history.json`, and `checkpoints/<id>.json` for each checkpoint.

    Args:
        store: where they are.
        project: id of the project; sessions in the trash are left out.
        checkpoints: of all sessions; those of other projects are left out.
        home: the person's home directory, which becomes ~.
        known: secrets by value, each with its name.

    Raises:
        StoreError: they cannot be read now.
    """
    store.drain()
    rows = store.sessions.page(project=project, sort="created", limit=MOST_SESSIONS)
    redactor = redactor_for(store, rows, home, known)
    sessions = []
    for row in rows:
        entries = store.sessions.entries(row.id, kinds=(Kind.EXECUTION,), limit=MOST_COMMANDS, newest=True)
        sessions.append({
            "id": row.id, "title": row.title, "status": str(row.status), "branch": row.branch,
            "began": from_us(row.created_us).isoformat(), "messages": row.messages,
            "commands": [
                {"at": entry.time.isoformat(), "command": entry.data.get("command"),
                 "exit_code": entry.data.get("exit_code")}
                for entry in entries if entry.stream == row.id  # a fork's parent has its own
            ],
        })  # fmt: skip
    found = {"state/session-history.json": _json(redactor.data({"schema": SCHEMA, "sessions": sessions}))}
    ours = {row.id for row in rows}
    for one in checkpoints:
        if one.session_id in ours and NAME.fullmatch(one.id):
            found[f"state/checkpoints/{one.id}.json"] = _json(redactor.data(_plain(one)))
    return found


def _plain(one: Checkpoint) -> dict[str, Any]:
    return {
        "schema": SCHEMA, "id": one.id, "session": one.session_id, "entry": one.seq, "name": one.name,
        "created": from_us(one.created_us).isoformat(), "branch": one.git.branch, "commit": one.git.commit,
        "changed": sorted({*one.git.staged, *one.git.modified, *one.git.conflicted}), "untracked": [*one.git.untracked],
    }  # fmt: skip


def _json(data: Any) -> bytes:
    from p8.workspace.git import shown

    def readable(value: Any) -> Any:
        if isinstance(value, str):
            return shown(value)
        if isinstance(value, dict):
            return {key: readable(inner) for key, inner in value.items()}
        return [readable(inner) for inner in value] if isinstance(value, list) else value

    return orjson.dumps(readable(data), default=str, option=orjson.OPT_INDENT_2) + b"\n"
