"""Sessions with a plan: start with a scope, go from phase to phase, complete (row C1)."""

from __future__ import annotations

from p8.commands.context import views_of
from p8.commands.registry import Arg, Result, Switched, Text, command
from p8.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App


@command(
    "session start", "Begin a session with a plan of what it may cost.", Arg("title", "its title", nargs="*"),
    Arg("--scope", "lines to write: lines=700,tests=200,docs=50", default=""),
    Arg("--phases", "phases with their shares: build=60,test=30,docs=10", default=""),
    doors=("repl",), aliases=("sess start",),
    examples=("session start --scope lines=700,tests=200,docs=50 The parser",),
)  # fmt: skip
def session_start(app: App, args: Namespace) -> Result:
    """Begin a planned session, with a first checkpoint to measure from."""
    from p8.core.metrics import baseline
    from p8.core.plan import PHASES, Scope, parse_phases

    scope = Scope.parse(args.scope) if args.scope else None
    phases = parse_phases(args.phases) if args.phases else PHASES
    if scope is None and args.phases:
        raise UsageError("phases are shares of a scope", "add --scope lines=700,tests=200,docs=50")
    if app.sessions.current is not None:
        app.note_place()
        app.sessions.pause_session()
    made = app.ensure_session()
    if args.title:
        app.sessions.annotate(title=" ".join(args.title))
    app.note_place()
    data = {"session": made.session_id, "plan": None}
    if scope is None:
        return Result(data, (Text("New session, without a plan."),), Switched(made.session_id, "new"))
    plan = app.planner.make(scope, phases)
    app.sessions.annotate(baseline=baseline(app.directory))
    app.checkpoints.create("start of the plan", plan=plan.id)
    said = Text(f"Planned: {plan.estimate:,} tokens, {plan.total_budget:,} with the buffer.", "good")
    return Result(data | {"plan": plan.to_dict(), "budget": plan.total_budget},
                  (said, *views_of(app.planner.gauge())), Switched(made.session_id, "new"))  # fmt: skip


@command(
    "session phase", "Finish the current phase, or go to another one.",
    Arg("phase", "its name; `done` finishes the current one; shows them where none is given", nargs="?"),
    doors=("repl",), aliases=("sess phase",), examples=("session phase done", "session phase test"),
)  # fmt: skip
def session_phase(app: App, args: Namespace) -> Result:
    """Finish or change the phase."""
    app.planner.required()
    if args.phase == "done":
        made = app.planner.finish_phase()
        said = tuple(Text(f"◆ {checkpoint.name}", "good") for checkpoint in made)
    elif args.phase:
        app.planner.enter(args.phase)
        said = (Text(f"Now: {args.phase}."),)
    else:
        said = ()
    found = app.planner.gauge()
    data = {"phase": app.planner.usage.phase, "done": app.planner.usage.done}
    return Result(data, (*said, *views_of(found)))


@command("session complete", "Finish the plan, write a last checkpoint and handoff, and end the session.",
         doors=("repl",), aliases=("sess complete",), examples=("session complete",))  # fmt: skip
def session_complete(app: App, args: Namespace) -> Result:
    """Complete the session, and show what came of it."""
    from p8.commands.session import target
    from p8.commands.stats import session_stats

    current = app.sessions.current
    if current is None:
        raise UsageError("no session is active", "/resume one to complete it")
    app.planner.settle()
    if app.planner.plan is not None:
        while app.planner.usage.phase not in app.planner.usage.done:
            app.planner.finish_phase()
    checkpoint = app.checkpoints.create("completed")
    note = app.handoff.write(reason="completed")
    shown = session_stats(app, target(app, []), completed=True)
    app.note_place()
    app.say_metrics("completed", measured=shown.data)
    app.sessions.end_session()
    said = Text(f"Completed. ◆ {checkpoint.name}; handoff in {note.path}", "good")
    data = {"session": current.session_id, "status": "completed", "handoff": str(note.path), "metrics": shown.data}
    return Result(data, (*shown.views, said), Switched("", "new"))
