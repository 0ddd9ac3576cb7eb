"""The third door: P8 as a server for a browser and for programs, for other assistants (MCP), for editors (ACP)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Result, Serve, command
from p8.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App


@command(
    "serve", "Serve sessions and instances: REST, a live stream, and a dashboard for the browser.",
    Arg("--port", "on 127.0.0.1 at this port (0: any) besides the socket in the home", type=int),
    Arg("--link", "print a new login link of the server that is running, and leave", flag=True),
    Arg("--no-watch", "do not look after instances besides, as p8 watch does", flag=True),
    Arg("--no-supervise", "end when the server ends, instead of starting it again", flag=True),
    doors=("cli",), examples=("serve", "serve --port 8008", "serve --link"),
)  # fmt: skip
def serve(app: App, args: Namespace) -> Result:
    """Serve."""
    if args.port is not None and not 0 <= args.port <= 65535:
        raise UsageError(f"no port is numbered {args.port}", "0 to 65535")
    options = {"port": args.port, "link": args.link, "supervise": not args.no_supervise,
               "watch": not args.no_watch}  # fmt: skip
    return Result(None, (), Serve("web", options))


@command("mcp", "Let other assistants keep their work here: an MCP server on stdin and stdout.", doors=("cli",))
def mcp(app: App, args: Namespace) -> Result:
    """Speak MCP."""
    return Result(None, (), Serve("mcp", {}))


@command("acp", "Let an editor use P8 as its agent, over the Agent Client Protocol on stdin and stdout.",
         doors=("cli",))  # fmt: skip
def acp(app: App, args: Namespace) -> Result:
    """Speak ACP."""
    return Result(None, (), Serve("acp", {}))
