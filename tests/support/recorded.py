"""What a home holds of its sessions, read as the next P8 would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager


def recorded(home: Path, *kinds: str) -> list[list[dict[str, Any]]]:
    """Return the entries of every session in full, of all kinds where none is named; the newest session first."""
    store = PersistenceManager(home, background=False)
    try:
        return [
            [entry.data for entry in store.sessions.entries(row.id, kinds=kinds, whole=True)]
            for row in store.sessions.page()
        ]
    finally:
        store.close()


def entries(home: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the entries of the only session there is."""
    (only,) = recorded(home, *kinds)
    return only


def parts(home: Path, part: str) -> list[dict[str, Any]]:
    """Return what agents told of one kind: "text", "tool", "permission"."""
    return [data for data in entries(home, "part") if data["part"] == part]


def recovered(home: Path) -> dict[str, str]:
    """Do what the next start does about processes that died; return every session's status by its title."""
    manager = SessionManager(PersistenceManager(home, background=False))
    try:
        manager.custody.recover()
        return {row.title: str(row.status) for row in manager.store.sessions.page()}
    finally:
        manager.close()
