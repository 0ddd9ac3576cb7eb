"""Models: which there are, which one answers, and fetching the offline one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Choose, Result, Table, Text, command
from p8.errors import P8Error, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.model import SessionRow


@command("model", "Show or switch who answers, also in the middle of a session.", Arg("name", "its name", "model", "?"),
         examples=("model", "model local", "model gpt-4o-mini"))  # fmt: skip
def model(app: App, args: Namespace) -> Result:
    """Show or switch the model."""
    if args.name:
        before = app.model
        name = app.switch_model(args.name)
        note = next((m.note for m in app.catalog.models() if m.name == name), "")
        said = f"{name} answers from now on" + (f"; it was {before}" if before and before != name else "") + "."
        return Result({"model": name, "before": before}, (Text(said), *((Text(note, "dim"),) if note else ())))
    known = app.catalog.models()
    options = tuple((m.name, f"{'●' if m.ready else '○'} {m.name}", f"{m.title}  {m.note}".strip()) for m in known)
    views = (Text(f"{app.model or 'No model'} answers." if app.model else "No model is set."),)
    return Result({"model": app.model}, views, Choose("Who answers?", options, "model"))


def answer_as_before(app: App, row: SessionRow) -> None:
    """Have a session that is gone on with answered by who answered it last, unless the settings name somebody."""
    if row.model and row.model != app.model and not app.config.model:
        with contextlib.suppress(P8Error):
            app.switch_model(row.model)


@command("model list", "List the models; ● can answer now.", Arg("--ready", "only those", flag=True))
def model_list(app: App, args: Namespace) -> Result:
    """List models."""
    known = [m for m in app.catalog.models() if m.ready or not args.ready]
    rows = tuple(("●" if m.ready else "○", m.name, m.provider, m.note) for m in known)
    data = [{"name": m.name, "provider": m.provider, "title": m.title, "ready": m.ready, "note": m.note} for m in known]
    return Result(data, (Table(("", "MODEL", "FROM", "NOTE"), rows),))


@command("model install", "Fetch the offline demonstration model (about 95 MB).",
         Arg("name", "local", choices=("local",), default="local", nargs="?"),
         examples=("model install local",))  # fmt: skip
def model_install(app: App, args: Namespace) -> Result:
    """Fetch the local model."""
    if args.name != "local":
        raise UsageError("only `local` can be installed", "other models come with plugins of llm: llm install NAME")
    if not app.catalog.installed_local():
        app.catalog.install_local(app.progress)
    app.switch_model("local")
    note = "It is a demonstration model of 135M parameters: fluent, and often wrong."
    return Result(
        {"model": "local", "installed": True}, (Text("The offline model is ready.", "good"), Text(note, "dim"))
    )
