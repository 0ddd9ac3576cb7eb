"""What goes with instances: the image, the watch, the event log, the short forms for a shell."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from p8.commands.instance import alerts
from p8.commands.registry import Arg, Result, Stream, Text, command
from p8.errors import Conflict, ContainerError, UsageError
from p8.model import from_us, now_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.supervisor import Lookout
    from p8.events import Change

DAEMON_WITHIN_S = 10.0

SHORT_FORMS = """\
# P8's short forms: eval "$(p8 shell-init SHELL)"
ai-list() { ai-session list "$@"; }
ai-status() { ai-session list "$@"; }
ai-start() { ai-session start "$@"; }
ai-stop() { ai-session stop "$@"; }
ai-stop-all() { ai-session stop --all "$@"; }
ai-restart() { ai-session restart "$@"; }
ai-attach() { ai-session attach "$@"; }
ai-show() { ai-session show "$@"; }
ai-logs() { ai-session logs "$@"; }
ai-stats() { ai-session stats "$@"; }
ai-top() { ai-session top "$@"; }
ai-health() { ai-session health "$@"; }
ai-heal() { ai-session heal "$@"; }
ai-backup() { ai-session backup "$@"; }
ai-restore() { ai-session restore "$@"; }
# The assistant of this directory's project, in its instance: started where it is not up. `command claude` is the other.
claude() { ai-session start . claude --attach "$@"; }
gemini() { ai-session start . gemini --attach "$@"; }
"""


@command(
    "image build", "Build the image that sessions and instances run in.",
    Arg("--base", "the image to begin with; one of Debian's family", default=""),
    Arg("--variant", "base: git, python, node; agents: also the assistants' programs", default="base",
        choices=("base", "agents")),
    Arg("--network", "of the build's steps: host, or the engine's own choice", default=""),
    Arg("--arg", "build arguments, NAME=VALUE", nargs="+", default=()),
    examples=("image build", "image build --variant agents", "image build --base debian:bookworm"),
)  # fmt: skip
def image_build(app: App, args: Namespace) -> Result:
    """Build it."""
    from p8.containers.build import build_image
    from p8.containers.images import tag_of

    given = dict(word.split("=", 1) for word in args.arg if "=" in word)
    if len(given) != len(args.arg):
        raise UsageError("build arguments are NAME=VALUE", "--arg HTTP_PROXY=http://…")
    begun = time.monotonic()
    made = build_image(app.runtime, args.variant, args.base, given, args.network, app.progress)
    took = time.monotonic() - begun
    data = {"image": tag_of(args.variant), "id": made, "seconds": round(took, 1)}
    return Result(data, (Text(f"{tag_of(args.variant)} is ready, {took:.0f} s", "good"),))


@command("image", "Show the images that sessions and instances can run in.")
def image(app: App, args: Namespace) -> Result:
    """Show them."""
    from p8.containers.build import VARIANTS
    from p8.containers.images import tag_of

    names = [*([app.config.container_image] if app.config.container_image else []), *map(tag_of, VARIANTS)]
    engine = app.runtime.engine()
    found = {name: app.runtime.has_image(name) for name in names}
    lines = [
        f"engine {engine.version} at {engine.endpoint}",
        *(f"{n}: {i[7:19] or 'not built'}" for n, i in found.items()),
    ]
    return Result({"engine": engine._asdict(), "images": found}, (Text("\n".join(lines)),))


@command(
    "watch", "Look after all instances: alerts, health checks, recovery. Until Ctrl-C, or in the background.",
    Arg("--daemon", "in the background", flag=True), Arg("--stop", "end the one in the background", flag=True),
    doors=("cli",), examples=("watch", "watch --daemon"),
)  # fmt: skip
def watch(app: App, args: Namespace) -> Result:
    """Look after them."""
    from p8.core.supervisor import Lookout, daemon

    app.store.start()
    running, name = daemon(app.config.home)
    if args.stop:
        if not running:
            return Result({"running": False}, (Text("No watch is running.", "dim"),))
        if name == "serve":
            raise Conflict(
                f"process {running} serves too", "p8 serve --no-watch serves without looking after instances"
            )
        os.kill(running, signal.SIGTERM)
        return Result({"stopped": running}, (Text(f"the watch, process {running}, was told to end"),))
    if running:
        hint = "it is p8 serve" if name == "serve" else "p8 watch --stop ends it"
        raise Conflict(f"process {running} looks after the instances already", hint)
    if args.daemon:
        pid = watch_in_background(app)
        return Result({"pid": pid}, (Text(f"process {pid} looks after the instances", "good"),))
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    lookout = Lookout(app.instances, "watch", lambda text: said.put(f"{text}\n".encode()))
    silent = app.bus.subscribe(_telling(said))
    if not lookout.begin():
        raise Conflict("another process looks after the instances already", "p8 watch --stop ends it")
    count = len(app.instances.roster.all("up"))
    watching = Stream(_watching(said, lookout, silent))
    return Result(None, (Text(f"looking after {count} instances; Ctrl-C ends it", "dim"),), watching)


def watch_in_background(app: App) -> int:
    """Start the process that looks after all instances; return its id. Raises ContainerError."""
    from p8.core.supervisor import daemon_pid

    path = app.config.home / "logs" / "watch.log"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "a") as log:
        made = subprocess.Popen(
            [sys.executable, "-m", "p8", "watch"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=app.config.home, start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + DAEMON_WITHIN_S
    while daemon_pid(app.config.home) != made.pid:
        if made.poll() is not None or time.monotonic() > until:
            raise ContainerError("the watch did not begin", f"{path} says why")
        time.sleep(0.05)
    return made.pid


def _telling(said: queue.SimpleQueue[bytes | None]) -> Callable[[Change], None]:
    """Return a subscriber that puts each alert down as a line."""

    def heard(change: Change) -> None:
        if change.kind == "notice" and change.data.get("text"):
            level = str(change.data["level"])
            at = f"{from_us(change.time_us or now_us()):%Y-%m-%d %H:%M:%S}"
            said.put(f"{at} {level.upper():<7} {change.data['text']}\n".encode())

    return heard


def _watching(said: queue.SimpleQueue[bytes | None], lookout: Lookout, silent: Callable[[], None]) -> Iterator[bytes]:
    """Give what is said as it comes, until told to stop."""
    before = signal.signal(signal.SIGTERM, lambda *_: said.put(None))
    try:
        while (line_ := said.get()) is not None:
            yield line_
    finally:
        signal.signal(signal.SIGTERM, before)
        silent()
        lookout.end()


@command("instance events", "Show what happened to instances: starts, alerts, recoveries.",
         Arg("words", "only lines with these words", nargs="*"),
         Arg("--since", "such as 30m, 6h, 7d", default="1d"), Arg("--alerts", "only alerts", flag=True),
         examples=("instance events --since 1h", "instance events HIGH_CPU"))  # fmt: skip
def events(app: App, args: Namespace) -> Result:
    """Show the event log."""
    from p8.containers.quantities import duration

    try:
        since = from_us(now_us()) - timedelta(seconds=duration(args.since))
    except ValueError as error:
        raise UsageError(str(error), "--since 6h") from error
    words = [word.lower() for word in args.words]
    found = [
        line for line in app.instances.files.log.read(since)
        if (not args.alerts or (line.get("metadata") or {}).get("alert"))
        and all(word in f"{line['message']} {line.get('metadata')}".lower() for word in words)
    ]  # fmt: skip
    return Result(found, (alerts(iter(found)),))


@command("shell-init", "Print the short forms for a shell: ai-list, ai-start, claude, gemini and the like.",
         Arg("shell", "bash or zsh", choices=("bash", "zsh")), doors=("cli",),
         examples=("shell-init bash",))  # fmt: skip
def shell_init(app: App, args: Namespace) -> Result:
    """Print them."""
    text = SHORT_FORMS.replace("SHELL", args.shell)
    return Result({"shell": args.shell, "text": text}, (Text(text.rstrip("\n")),))
