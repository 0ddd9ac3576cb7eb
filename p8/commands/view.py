"""How this session is looked at: layout, theme, the picker's scope and order, how often things are drawn anew."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Result, Table, Text, command
from p8.core.ui import FIELDS
from p8.errors import UsageError

if TYPE_CHECKING:
    from p8.app import App


@command("view", "Show or change how this session is looked at.", Arg("name", "which setting", nargs="?"),
         Arg("value", "its new value", nargs="?"),
         examples=("view", "view picker_scope all", "view status_s 5"))  # fmt: skip
def view(app: App, args: Namespace) -> Result:
    """Show or change the view."""
    if args.name and args.value is None:
        return Result({args.name: app.view.get(args.name)}, (Text(str(app.view.get(args.name))),))
    if args.name:
        if args.name not in FIELDS:
            raise UsageError(f"no view setting is called {args.name!r}", ", ".join(sorted(FIELDS)))
        values = app.view.put(**{args.name: args.value})
        return Result(values, (Text(f"{args.name} is {values[args.name]} now."),))
    values = app.view.all()
    rows = tuple((name, str(values[name]), _may_be(name)) for name in FIELDS)
    return Result(values, (Table(("SETTING", "VALUE", "MAY BE"), rows),))


def _may_be(name: str) -> str:
    field = FIELDS[name]
    if field.choices:
        return ", ".join(str(choice) for choice in field.choices)
    return f"{field.low:g} to {field.high:g} seconds"
