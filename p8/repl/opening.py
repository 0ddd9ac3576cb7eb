"""Which session a run begins with: `-c`, `-r`, or none yet; and what to do when another p8 has it open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.core.reality import last_stood, reality_check
from p8.errors import NotFound, P8Error, StoreError
from p8.model import SessionRow

if TYPE_CHECKING:
    from p8.app import App
    from p8.session import Session


def wanted(app: App, options: dict[str, Any]) -> SessionRow | None:
    """
    Return the session that the command line names; None where it names none, or leaves the choice to a picker.

    Raises:
        NotFound, Conflict: the words fit none, or several.
        StoreError: the database is out of reach.
    """
    if options.get("resume"):
        return app.store.sessions.resolve(options["resume"], app.project.id)
    if options.get("continue"):
        app.sessions.custody.recover()
        try:
            return app.store.sessions.resolve("last", app.project.id)
        except NotFound as error:
            raise NotFound(
                "no session in this project yet", "p8 begins one; p8 -r picks one of another project"
            ) from error
    return None


def open_session(app: App, options: dict[str, Any]) -> Session | None:
    """Resume the session that the command line names, if it names one. Raises as `wanted` and `resume_session` do."""
    row = wanted(app, options)
    return None if row is None else app.sessions.resume_session(row.id, take_over=bool(options.get("take_over")))


def changes_since(app: App, row: SessionRow) -> list[str]:
    """Return what has changed around a session since it was left: files, git, container. Never raises."""
    try:
        recorded = last_stood(app.sessions, row.id)
        lines = reality_check(row, app.directory, recorded.git)
        return [*lines, *_of_container(app, recorded.container)]
    except (P8Error, StoreError):
        return []


def _of_container(app: App, recorded: dict[str, Any]) -> list[str]:
    if not recorded or ("container" in app.__dict__ and app.container.goes_on):
        return []
    from p8.containers.endpoint import Address
    from p8.containers.glance import glance
    from p8.containers.images import of_sessions
    from p8.core.container_reality import container_check

    seen = glance(Address.of(app.config), Path.home(), of_sessions(app.config))
    return container_check(recorded, app.config, seen)
