"""Instances: assistants and shells in containers of their own. `ai-session VERB` is `p8 instance VERB`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Attach, Card, Confirm, Live, Result, Stream, Table, Text, View, command
from p8.commands.session import age
from p8.errors import ConfigError, ContainerError, NotFound, P8Error, UsageError
from p8.model import now_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.containers.base import Sample
    from p8.containers.watch import Verdict
    from p8.core.roster import Instance

WHICH = Arg("instance", "its id, or a part of it that no other has", "instance")
STATUSES = ("all", "up", "initializing", "running", "paused", "stopped", "error", "health")
SAMPLE_WITHIN_S = 4.0
LOG_LINES = 50


def uptime(instance: Instance) -> str:
    """Return for how long an instance has been up, or "-"."""
    return age(instance.started_us) if instance.status in {"running", "paused"} and instance.started_us else "-"


def listing(instances: Sequence[Instance], detailed: bool = False) -> Table:
    """Return instances as a table."""
    columns = ("ID", "PROJECT", "MODE", "PORT", "STATUS", "HEALTH", "RESOURCES", "UPTIME")
    more = ("RESTARTS", "IMAGE", "CONTAINER", "DIRECTORY") if detailed else ()
    rows = []
    for one in instances:
        meta = one.meta
        used = f"{meta.get('cpu_usage') or '-'} / {meta.get('memory_usage') or '-'}"
        health = str(meta.get("error") or meta.get("health") or "-")
        row = (one.id, one.project_name, one.mode, str(one.port or "-"), str(one.status), health, used, uptime(one))
        extra = (
            str(meta.get("restarts", 0)),
            str(meta.get("image", "")),
            one.container[:12] or "-",
            str(one.project_path),
        )
        rows.append(row + (extra if detailed else ()))
    return Table((*columns, *more), tuple(rows), "No instances. ai-session start PROJECT MODE starts one.")


# life


@command(
    "instance start", "Start an instance: an assistant or a shell in a container of its own.",
    Arg("project", "a project's name or directory; `.` for this one", nargs="?", default="."),
    Arg("mode", "shell, claude, gemini, codex, qwen, opencode", nargs="?", default="shell"),
    Arg("instance", "its id; PROJECT-MODE where none is given", nargs="?", default=""),
    Arg("--template", "settings by name: built in, in configs/templates, or the project's", default=""),
    Arg("--attach", "attach to it once it is up, also where it is already", flag=True),
    Arg("--no-wait", "do not wait until it is well", flag=True),
    examples=("instance start . shell", "instance start my-project claude", "instance start . shell --template dev"),
)  # fmt: skip
def start(app: App, args: Namespace) -> Result:
    """Start one."""
    from p8.core.roster import InstanceStatus, slug

    name, path = project_of(app, args.project)
    app.progress(0.1, f"starting {args.instance or slug(name, args.mode)}")
    standing = app.store.instances.get(args.instance or slug(name, args.mode))
    try:
        if args.attach and standing is not None and standing["status"] == InstanceStatus.RUNNING:
            return attached(app, standing["id"], ())
        wait_s = 0.0 if args.no_wait else 30.0
        made = app.instances.start(name, path, args.mode, args.instance, args.template, wait_s)
    finally:
        app.progress(1.0, "")
    one = made.instance
    views: list[View] = [
        Text(f"{one.id} is up", "good"),
        _card(one),
        *(Text(said, "warning") for said in made.warnings),
    ]
    if made.verdict is not None and not made.verdict.healthy:
        views.append(Text(f"but {', '.join(made.verdict.reasons)}", "warning"))
    if args.door == "repl":
        app.upkeep.instances()
    elif one.meta.get("remote"):
        views.append(_kept_in_sync(app))
    if args.attach:
        return attached(app, one.id, ())._replace(views=tuple(views))
    return Result({**one.to_dict(), "warnings": list(made.warnings)}, tuple(views))


def _kept_in_sync(app: App) -> View:
    """See that a process keeps instances elsewhere in sync once this one has ended."""
    from p8.commands.engine import watch_in_background
    from p8.core.supervisor import daemon_pid

    try:
        pid = daemon_pid(app.config.home) or watch_in_background(app)
    except ContainerError as error:
        pid = daemon_pid(app.config.home)  # two were started at once
        if not pid:
            return Text(f"nobody keeps it in sync: {error.message}; p8 watch does", "warning")
    return Text(f"process {pid} keeps it in sync; p8 watch --stop ends that", "dim")


def project_of(app: App, words: str) -> tuple[str, Path]:
    """Return name and directory of a project: a path, this one, a known one, or this directory under that name."""
    if words in {".", ""} or "/" in words or words == "~":
        path = Path(words or ".").expanduser()
        path = (path if path.is_absolute() else app.directory / path).resolve()
        if not path.is_dir():
            raise NotFound(f"there is no directory {path}", "name a project, or a directory")
        if path == app.directory.resolve():
            return app.project.name, Path(app.project.root or path)
        return path.name or "project", path
    if words == app.project.name:
        return words, Path(app.project.root or app.directory)
    known = [row for row in app.store.projects.all() if row["name"] == words and Path(row["root"]).is_dir()]
    return words, Path(known[0]["root"]) if known else app.directory


@command("instance stop", "Stop an instance; its state and configuration stay.",
         Arg("instance", "its id", "instance", "*"), Arg("--all", "all that are up", flag=True),
         Arg("--force", "kill it at once", flag=True),
         examples=("instance stop my-project-claude", "instance stop --all"))  # fmt: skip
def stop(app: App, args: Namespace) -> Result:
    """Stop some."""
    names = [one.id for one in app.instances.roster.all("up")] if args.all else args.instance
    if not names and not args.all:
        raise UsageError("which instance?", "ai-session list shows them; --all stops all")
    done = _each(names, lambda name: app.instances.stop(name, args.force))
    said = tuple(Text(f"{one.id} is stopped") for one in done) or (Text("No instance is up.", "dim"),)
    lacking = tuple(Text(f"{one.id}: {one.meta['unsynced']}", "warning") for one in done if one.meta.get("unsynced"))
    return Result([one.to_dict() for one in done], (*said, *lacking))


def _each(names: Sequence[str], work: Callable[[str], Instance]) -> list[Instance]:
    """Do something to several at once; the first error is raised when all have been done."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(work, name) for name in names]
    return [one.result() for one in waiting]


@command("instance restart", "Stop an instance and start it with its configuration as it is now.", WHICH)
def restart(app: App, args: Namespace) -> Result:
    """Restart one."""
    one = app.instances.restart(args.instance).instance
    return Result(one.to_dict(), (Text(f"{one.id} is up again, port {one.port or '-'}", "good"),))


@command("instance pause", "Freeze an instance: it keeps its memory and uses no processor.", WHICH)
def pause(app: App, args: Namespace) -> Result:
    """Freeze one."""
    one = app.instances.pause(args.instance)
    return Result(one.to_dict(), (Text(f"{one.id} is paused"),))


@command("instance resume", "Let a paused instance go on.", WHICH)
def resume(app: App, args: Namespace) -> Result:
    """Let one go on."""
    one = app.instances.pause(args.instance, paused=False)
    return Result(one.to_dict(), (Text(f"{one.id} goes on", "good"),))


@command("instance remove", "Stop an instance and forget it; its state folder and configuration stay.", WHICH,
         Arg("--yes", "without asking", flag=True),
         Arg("--discard", "also what is only on an engine elsewhere, and never brought here", flag=True))  # fmt: skip
def remove(app: App, args: Namespace) -> Result:
    """Forget one."""
    one = app.instances.roster.get(args.instance)
    if not args.yes:
        more = " --discard" if args.discard else ""
        return Result(None, (), Confirm(f"Stop and forget {one.id}?", f"instance remove {one.id} --yes{more}"))
    app.instances.remove(one.id, args.discard)
    return Result({"removed": one.id}, (Text(f"{one.id} is forgotten; its files stay"),))


@command("instance attach", "Give the terminal to an instance: its assistant, or a shell.", WHICH,
         Arg("command", "run this instead", nargs="*"),
         examples=("instance attach my-project-claude", "instance attach my-project-shell htop"))  # fmt: skip
def attach(app: App, args: Namespace) -> Result:
    """Attach."""
    return attached(app, args.instance, tuple(args.command))


def attached(app: App, instance: str, words: tuple[str, ...]) -> Result:
    """Return the effect that attaches to an instance."""
    one = app.instances.roster.get(instance)
    return Result(one.to_dict(), (), Attach(one.id, lambda size: app.instances.open(one.id, words, size)))


# looking


@command("instance", "List the instances.", doors=("repl", "cli"))
def instance(app: App, args: Namespace) -> Result:
    """List them."""
    return _listed(app, "all", False)


@command("instance list", "List the instances: project, mode, port, status, health, resources, uptime.",
         Arg("--status", f"only of this status: {', '.join(STATUSES)}", default="all", choices=STATUSES),
         Arg("--detailed", "with image, container and directory", flag=True),
         examples=("instance list --status running",))  # fmt: skip
def list_(app: App, args: Namespace) -> Result:
    """List them."""
    return _listed(app, args.status, args.detailed)


def _listed(app: App, status: str, detailed: bool) -> Result:
    said = _reconciled(app)
    found = app.instances.roster.all("all" if status == "health" else status)
    return Result([one.to_dict() for one in found], (*said, listing(found, detailed)))


def _reconciled(app: App) -> tuple[View, ...]:
    """Bring the registry up to the engine; where that is away, say so."""
    if not app.instances.roster.all():
        return ()
    try:
        return tuple(Text(said, "dim") for said in app.instances.reconcile())
    except ContainerError as error:
        return (Text(f"as last recorded: {error.message}", "warning"),)


@command("instance show", "Show an instance.", WHICH)
def show(app: App, args: Namespace) -> Result:
    """Show one."""
    said = _reconciled(app)
    one = app.instances.roster.get(args.instance)
    return Result(one.to_dict(), (*said, _card(one)))


def _card(one: Instance) -> Card:
    meta = one.meta
    used = " / ".join(str(meta.get(n)) for n in ("cpu_usage", "memory_usage") if meta.get(n))
    fields = (
        ("status", f"{one.status}{', ' + str(meta['error']) if meta.get('error') else ''}"),
        ("health", str(meta.get("health", ""))), ("directory", str(one.project_path)), ("mode", one.mode),
        ("template", str(meta.get("template", "")) if meta.get("template") != one.mode else ""),
        ("port", f"127.0.0.1:{one.port}" if one.port else ""), ("socket", str(meta.get("socket", ""))),
        ("image", str(meta.get("image", ""))), ("container", one.container[:12]),
        ("limits", f"{meta.get('cpu_limit', '')} CPU, {meta.get('memory_limit', '')} memory"), ("used", used),
        ("engine", str(meta.get("remote") or "")), ("not brought here", str(meta.get("unsynced") or "")),
        ("up for", uptime(one)), ("restarts", str(meta.get("restarts") or "")),
    )  # fmt: skip
    return Card(one.id, tuple((name, value) for name, value in fields if value))


@command("instance find", "Find the instances of a project.", Arg("project", "its name, a part of it, or a directory"),
         Arg("mode", "only of this mode", nargs="?", default=""))  # fmt: skip
def find(app: App, args: Namespace) -> Result:
    """Find some."""
    project = str(app.directory) if args.project == "." else args.project
    found = app.instances.roster.find(project, args.mode)
    return Result([one.to_dict() for one in found], (listing(found),))


@command("instance logs", "Show what an instance has printed.", WHICH,
         Arg("--follow", "and what it will print, until Ctrl-C", flag=True),
         Arg("--tail", "so many lines", default=LOG_LINES, type=int),
         examples=("instance logs my-project-claude --follow --tail 10",))  # fmt: skip
def logs(app: App, args: Namespace) -> Result:
    """Show its log."""
    if args.tail < 0:
        raise UsageError("--tail must be 0 or more", "--tail 50")
    pieces = app.instances.logs(args.instance, args.tail, args.follow)
    if args.follow:
        return Result(None, (), Stream(pieces))
    text = b"".join(pieces).decode("utf-8", "replace").rstrip("\n")
    return Result({"log": text.splitlines()}, (Text(text) if text else Text("Nothing yet.", "dim"),))


# resources

USAGE = ("ID", "STATUS", "CPU", "LIMIT", "MEMORY", "LIMIT", "MEM%", "PIDS", "NET I/O", "BLOCK I/O")


def usage_rows(instances: Sequence[Instance], samples: Any) -> tuple[tuple[str, ...], ...]:
    """Return what instances use, one a row."""
    from p8.containers.quantities import show_memory

    rows = []
    for one in instances:
        meta = one.meta
        limits = str(meta.get("cpu_limit", "")), str(meta.get("memory_limit", ""))
        sample: Sample | None = samples.get(one.container)
        if sample is None:
            rows.append((one.id, str(one.status), "-", limits[0], "-", limits[1], "-", "-", "-", "-"))
            continue
        net = f"{show_memory(sample.net_in)} / {show_memory(sample.net_out)}"
        block = f"{show_memory(sample.block_in)} / {show_memory(sample.block_out)}"
        rows.append((
            one.id, str(one.status), f"{sample.cpu_percent:.1f}%", limits[0], show_memory(sample.memory_bytes),
            limits[1], f"{sample.memory_percent:.1f}%", str(sample.pids), net, block,
        ))  # fmt: skip
    return tuple(rows)


def _metered(app: App, watch: bool, order: Callable[[Instance, Any], float]) -> Result:
    meter, roster = app.meter, app.instances.roster

    def measure(wait_s: float) -> tuple[list[Instance], Any]:
        found = roster.all("up")
        meter.follow({one.container for one in found if one.container and one.status == "running"})
        samples = meter.latest(wait_s)
        return sorted(found, key=lambda one: order(one, samples.get(one.container))), samples

    def draw() -> tuple[View, ...]:
        return (Table(USAGE, usage_rows(*measure(0.0)), "No instance is up."),)

    found, samples = measure(SAMPLE_WITHIN_S)
    data = [{"id": one.id, **(samples[one.container]._asdict() if one.container in samples else {})} for one in found]
    if watch:
        return Result(data, (), Live(draw, app.view.get("watch_s")))
    return Result(data, (Table(USAGE, usage_rows(found, samples), "No instance is up."),))


@command("instance stats", "Show what the instances use: processor, memory, network, disk.",
         Arg("--watch", "drawn anew every second, until Ctrl-C", flag=True))  # fmt: skip
def stats(app: App, args: Namespace) -> Result:
    """Show what they use."""
    return _metered(app, args.watch, lambda _one, _sample: 0.0)


@command("instance top", "Show what the instances use, the busiest first, until Ctrl-C.",
         Arg("--once", "once, and leave", flag=True))  # fmt: skip
def top(app: App, args: Namespace) -> Result:
    """Show the busiest."""
    return _metered(app, not args.once, lambda _one, sample: -(sample.cpu_percent if sample is not None else -1.0))


# configuration


@command(
    "instance config", "Show, read, set or edit what an instance is to be like.",
    Arg("words", "INSTANCE | get INSTANCE KEY | set INSTANCE KEY VALUE", "instance", "+"),
    Arg("--edit", "in $VISUAL or $EDITOR", flag=True),
    examples=("instance config my-project-claude", "instance config my-project-claude --edit",
              "instance config set my-project-claude resources.memory.limit 1Gi",
              "instance config get my-project-claude resources.memory.limit"),
)  # fmt: skip
def config(app: App, args: Namespace) -> Result:
    """Read or change it."""
    verb = args.words[0] if args.words[0] in {"get", "set"} else "show"
    words = args.words[1:] if verb != "show" else args.words
    if len(words) != {"show": 1, "get": 2, "set": 3}[verb]:
        raise UsageError("these words do not fit", "config ID · config get ID KEY · config set ID KEY VALUE")
    manager, one = app.instances, app.instances.roster.get(words[0])
    if verb == "get":
        value = manager.files.value(manager.roster.settings_of(one), words[1])
        shown = value if isinstance(value, str) else _yaml(value).removesuffix("...\n").strip()
        return Result(value, (Text(shown),))
    template = str(one.meta.get("template") or one.mode)
    if verb == "set":
        settings = manager.files.set(one, template, words[1], words[2])
        value = manager.files.value(settings, words[1])
        hint = "; ai-session restart makes it so" if one.status in {"running", "paused"} else ""
        return Result({words[1]: value}, (Text(f"{one.id}: {words[1]} is {value}{hint}", "good"),))
    if args.edit:
        return _edit(app, one, template)
    from p8.containers.settings import tree

    effective = tree(manager.roster.settings_of(one))
    return Result(effective, (Text(_yaml(effective).rstrip()), Text(f"its file: {manager.files.path(one.id)}", "dim")))


def _yaml(value: Any) -> str:
    from p8.containers.yamlfile import written

    return written(value)


def _edit(app: App, one: Instance, template: str) -> Result:
    from p8.config import inherited

    path = app.instances.files.path(one.id)
    draft = path.with_name(f"{path.stem}.edited.yml")
    chosen = inherited(("VISUAL", "EDITOR"))
    editor = chosen.get("VISUAL") or chosen.get("EDITOR") or "vi"
    before = path.read_text("utf-8") if path.exists() else ""
    if not draft.exists():
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(before)
    done = subprocess.run([*app.registry.split(editor), str(draft)], check=False)
    if done.returncode:
        raise P8Error(f"{editor} ended with status {done.returncode}", f"the draft is {draft}")
    text = draft.read_text("utf-8")
    try:
        if text != before:
            app.instances.files.replace(one, template, text)
    except ConfigError as error:
        raise ConfigError(error.message, f"nothing was changed; --edit again goes on with {draft}") from error
    draft.unlink()
    said = "saved; ai-session restart makes it so" if text != before else "nothing was changed"
    return Result({"changed": text != before}, (Text(f"{one.id}: {said}", "good" if text != before else "dim"),))


# health


def _verdicts(app: App, instances: Sequence[Instance]) -> list[Verdict]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda one: app.instances.check(one.id), instances))


def _health_table(verdicts: Sequence[Verdict]) -> Table:
    rows = tuple(
        (v.id, "healthy" if v.healthy else "unhealthy", str(v.state or "gone"), ", ".join(v.reasons) or "-")
        for v in verdicts
    )
    return Table(("ID", "HEALTH", "CONTAINER", "WHAT IS WRONG"), rows, "No instance is up.")


@command("instance health", "Check whether instances are well: container, port, socket, health command.",
         Arg("words", "check [INSTANCE] | watch", "instance", "*"),
         examples=("instance health check", "instance health check my-project-claude",
                   "instance health watch"))  # fmt: skip
def health(app: App, args: Namespace) -> Result:
    """Check some."""
    words = list(args.words) or ["check"]
    verb = words.pop(0) if words[0] in {"check", "watch"} else "check"
    roster = app.instances.roster
    if len(words) > 1:
        raise UsageError("one instance, or none for all", "health check INSTANCE")

    def chosen() -> list[Instance]:
        return [roster.get(words[0])] if words else [one for one in roster.all() if one.status in {"running", "error"}]

    if verb == "watch":
        return Result(None, (), Live(lambda: (_health_table(_verdicts(app, chosen())),), app.view.get("watch_s")))
    found = _verdicts(app, chosen())
    data = [{**v._asdict(), "state": str(v.state or "gone")} for v in found]
    status = 0 if all(v.healthy for v in found) else ContainerError.exit_status
    return Result(data, (_health_table(found),), status=status)


@command("instance heal", "Make an instance well again that is not: go on, start, restart or make anew.", WHICH)
def heal(app: App, args: Namespace) -> Result:
    """Heal one."""
    from p8.containers.watch import wait_until_well

    manager = app.instances
    one = manager.roster.get(args.instance)
    verdict = manager.check(one.id)
    if verdict.healthy and one.status == "running":
        return Result({"id": one.id, "healthy": True, "done": False}, (Text(f"{one.id} is well", "good"),))
    begun = now_us()
    one = manager.recover(one.id, verdict.state)
    verdict = wait_until_well(app.runtime, manager.roster.target(one, manager.roster.settings_of(one)), 30.0)
    manager.roster.note(verdict)
    if not verdict.healthy:
        raise ContainerError(f"{one.id} is not well yet: {', '.join(verdict.reasons)}", "ai-session logs shows more")
    took = (now_us() - begun) / 1e6
    data = {"id": one.id, "healthy": True, "done": True, "seconds": round(took, 2)}
    return Result(data, (Text(f"{one.id} is well again after {took:.1f} s", "good"),))


# on an engine elsewhere

SYNC = ("ID", "SYNC", "FILES", "TO COME", "CONFLICTS", "LAST", "KEPT BY", "WHAT IS WRONG")


@command("instance sync", "Bring what has changed over now, between here and instances on an engine elsewhere.",
         Arg("instance", "its id; all where none is given", "instance", "?", default=""),
         Arg("--status", "only show how it stands", flag=True),
         examples=("instance sync my-project-claude", "instance sync --status"))  # fmt: skip
def sync(app: App, args: Namespace) -> Result:
    """Force it, or show it."""
    roster, remotes = app.instances.roster, app.instances.remotes
    chosen = [roster.get(args.instance)] if args.instance else [one for one in roster.all() if one.meta.get("remote")]
    failed = False
    for one in chosen if not args.status else ():
        try:
            remotes.sync(one)
        except ContainerError:
            failed = True
            if args.instance:
                raise
    found = [remotes.describe(one) for one in chosen]
    rows = tuple(
        (
            one["id"], one["sync"], f"{one.get('files', 0):,}", f"{one.get('pending', 0):,}",
            f"{len(one.get('conflicts', ()))}", age(int(one["at"] * 1e6)) if one.get("at") else "-",
            f"process {one['kept_by']}" if one.get("kept_by") else "-", str(one.get("problem") or "-"),
        ) for one in found
    )  # fmt: skip
    doubles = [f"{one['id']}: both are kept: {path}" for one in found for path in one.get("conflicts", ())]
    table = Table(SYNC, rows, "No instance is on an engine elsewhere.")
    views: tuple[View, ...] = (table, *(Text(said, "warning") for said in doubles))
    return Result(found, views, status=ContainerError.exit_status if failed else 0)


def alerts(lines: Iterator[dict[str, Any]]) -> Table:
    """Return lines of the event log as a table."""
    rows = tuple((str(line["timestamp"])[:19], str(line["level"]), str(line["message"])) for line in lines)
    return Table(("TIME", "LEVEL", "WHAT"), rows, "Nothing has happened.")
