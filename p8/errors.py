"""Every error P8 raises, and nothing else: this room imports nothing, so that all others may use it.

    P8Error                 message (what and where) + hint (what to do)
    ├── UsageError          the words given do not fit the command                  exit 2
    ├── NotFound            no such session, checkpoint, model, file                exit 3
    ├── InvalidTransition   the session's state does not allow this step            exit 4
    ├── Conflict            somebody else holds it, or it changed meanwhile         exit 5
    │   └── Held            another process has the session open
    ├── ConfigError         a setting cannot be read or makes no sense              exit 6
    ├── StoreError          the journal or the database cannot do it now            exit 7
    │   └── NotSaved        kept in memory, not yet on disk
    ├── WorkspaceError      git or the project's files                              exit 8
    ├── ContainerError      the engine, an image or a container                     exit 9
    ├── AssistantError      a model or agent failed, hung or refused                exit 10
    └── FormatError         a foreign file cannot be read or written                exit 11

Doors turn `exit_status` into a process status, an HTTP status or a red line, once.
"""

from __future__ import annotations


class P8Error(Exception):
    """
    Something went wrong that a person can act on.

    Args:
        message: what was wrong and where, one line, no trailing full stop needed.
        hint: what to do about it; empty where nothing can be done.
    """

    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(P8Error):
    """The words given do not fit the command."""

    exit_status = 2


class NotFound(P8Error):
    """What was named does not exist."""

    exit_status = 3


class InvalidTransition(P8Error):
    """The session's state does not allow this step."""

    exit_status = 4


class Conflict(P8Error):
    """Somebody else holds it, or it changed meanwhile."""

    exit_status = 5


class Held(Conflict):
    """
    Another process has the session open.

    Args:
        session_id: which session.
        message, hint: as `P8Error` has them.
    """

    def __init__(self, session_id: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.session_id = session_id


class ConfigError(P8Error):
    """A setting cannot be read or makes no sense."""

    exit_status = 6


class StoreError(P8Error):
    """The journal or the database cannot do it now."""

    exit_status = 7


class NotSaved(StoreError):
    """The entry is kept in memory and will be written as soon as the disk allows."""


class WorkspaceError(P8Error):
    """Git or the project's files."""

    exit_status = 8


class ContainerError(P8Error):
    """The engine, an image or a container."""

    exit_status = 9


class AssistantError(P8Error):
    """A model or agent failed, hung or refused."""

    exit_status = 10


class FormatError(P8Error):
    """A foreign file cannot be read or written."""

    exit_status = 11
