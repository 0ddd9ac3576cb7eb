"""How this session is looked at: theme, status line, picker, how often things are drawn anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Result, Table, Text, command
from p8.core.ui import FIELDS, may_be, spoken
from p8.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App


@command("view", "Show or change how this session, and the next new one, is looked at.",
         Arg("name", "which setting; all are shown where none is given", "view", nargs="?"),
         Arg("value", "its new value", nargs="?"),
         Arg("--reset", "back to the default; of all settings where none is named", flag=True),
         examples=("view", "view theme light", "view picker_preview below", "view status_s 5",
                   "view theme --reset"))  # fmt: skip
def view(app: App, args: Namespace) -> Result:
    """Show or change the view."""
    if args.reset and args.value is not None:
        raise UsageError("--reset takes no value", f"view {args.name} --reset, or view {args.name} {args.value}")
    names = (args.name,) if args.name else ()
    if args.reset:
        values = app.view.reset(*names)
        said = f"{args.name} is {spoken(values[args.name])} again." if names else "Everything is as it is by default."
        return Result(values, (Text(said),))
    if args.value is not None:
        values = app.view.put(**{args.name: args.value})
        return Result(values, (Text(f"{args.name} is {spoken(values[args.name])} now."),))
    if names:
        found = app.view.get(args.name)
        return Result({args.name: found}, (Text(f"{spoken(found)} ({may_be(args.name)})"),))
    values = app.view.all()
    rows = tuple((name, spoken(values[name]), may_be(name), field.help) for name, field in FIELDS.items())
    return Result(values, (Table(("SETTING", "VALUE", "MAY BE", "WHAT IT IS"), rows),))
