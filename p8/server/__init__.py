"""The third door: REST, a live stream and a dashboard (`web`), MCP for other assistants, ACP for editors.

Async lives only here, and crosses over to the commands once, through a worker thread. Refuses: to know anything that a
command does not tell; to listen anywhere but on this machine; to answer anybody who does not show the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p8.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from p8.commands.registry import Serve
    from p8.config import Config


def serve(config: Config, directory: Path, wanted: Serve) -> int:
    """
    Become a server until told to stop; return the process status.

    Raises:
        ConfigError: what it needs is not installed.
    """
    try:
        if wanted.what == "mcp":
            from p8.server import mcp_server

            return mcp_server.serve(config, directory)
        if wanted.what == "acp":
            from p8.server import acp_agent

            return acp_agent.serve(config, directory)
        from p8.server import run

        return run.serve(config, directory, **wanted.options)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed", "pip install 'p8[server]'") from error
