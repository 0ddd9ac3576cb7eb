"""What is shown of an entry: as data, and as a person reads it."""

from __future__ import annotations

from p8.commands.registry import Markdown, Text
from p8.model import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from p8.commands.registry import View


def entry_data(entry: Entry) -> dict[str, Any]:
    """Return an entry as `--json` prints it."""
    where = {"stream": entry.stream, "seq": entry.seq, "time": entry.time.isoformat(), "kind": entry.kind}
    return {**where, **entry.data, **where, **({"preview": True} if entry.large else {})}


def entry_views(entry: Entry) -> tuple[View, ...]:
    """Return an entry as a person reads it."""
    text = entry.text + (" …" if entry.large else "")
    if entry.kind == "message" and entry.role == "user":
        return (Text(f"› {text}", "user"),)
    if entry.kind == "message":
        fault = entry.data.get("error") or ("cancelled" if entry.data.get("cancelled") else "")
        return (Markdown(text), *((Text(f"({fault})", "dim"),) if fault else ()))
    if entry.kind == "execution":
        output = str(entry.data.get("output", "")).rstrip()
        code = entry.data.get("exit_code")
        return (Text(f"$ {entry.data.get('command', '')}" + (f"  [exit {code}]" if code else ""), "accent"),
                *((Text(output, "dim"),) if output else ()))  # fmt: skip
    if entry.kind == "part":
        return part_views(entry.data)
    if entry.kind == "checkpoint":
        return (Text(f"◆ checkpoint {entry.data.get('name', '')}", "warning"),)
    return ()


def part_views(data: dict[str, Any]) -> tuple[View, ...]:
    """Return what an agent did on the way to an answer, a line each; texts and thoughts stand in the answer."""
    what, title = data.get("part"), " ".join(str(data.get("title") or data.get("id", "")).split())
    if what == "tool":
        return (Text(f"⚙ {title}  {data.get('status', '')}".rstrip(), "dim"),)
    if what == "permission":
        return (Text(f"? {title}  {data.get('answer', '')}, by {data.get('by', '')}", "dim"),)
    if what == "plan":
        marks = {"completed": "✓", "in_progress": "▸"}
        lines = [f"{marks.get(e.get('status'), '·')} {e.get('content', '')}" for e in data.get("entries") or ()]
        return (Text("\n".join(lines), "dim"),) if lines else ()
    return ()
