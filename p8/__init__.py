r"""P8: an assistant REPL that never forgets, and the library under it.

      keystrokes        argv           HTTP · WebSocket · MCP
          |              |                  |
      doors      p8/repl/      p8/cli.py       p8/server/       async lives only here
                      \           |            /
      verbs                  p8/commands/                       (app, args) -> Result
                                  |
      wiring             p8/app.py, turning, upkeep             builds everything, closes everything
                                  |
      core                     p8/core/                         P8's rules: no SQL, git, Docker, terminal
                                  |
      edges      p8/store/  p8/workspace/  p8/containers/  p8/assistants/  p8/formats/
                                  |
      ground     config → events → session → model → records, errors         stdlib only

Imports go down only; `tests/unit/test_layers.py` holds them to it. Names below are imported when they are touched.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from p8.app import App, make_app
    from p8.config import Config
    from p8.core.sessions import SessionManager
    from p8.errors import P8Error
    from p8.session import ExecutionHistory, Session
    from p8.store.manager import PersistenceManager

__version__ = "0.1.0"
__all__ = [
    "App", "Config", "ExecutionHistory", "P8Error", "PersistenceManager", "Session", "SessionManager", "__version__",
    "make_app",
]  # fmt: skip

_HOME = {
    "App": "p8.app", "make_app": "p8.app", "Config": "p8.config", "SessionManager": "p8.core.sessions",
    "P8Error": "p8.errors", "ExecutionHistory": "p8.session", "Session": "p8.session",
    "PersistenceManager": "p8.store.manager",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'p8' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
