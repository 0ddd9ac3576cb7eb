"""The house holds: imports go down, vendors stay in their rooms, nothing grows past its ceiling."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "p8"
FILE_LINES, FUNCTION_LINES, PUBLIC_METHODS, CONSTRUCTOR_ARGUMENTS = 600, 60, 15, 7

#: from the ground up; a module may import what stands below it, and its own room
LAYERS = [
    ["p8.errors", "p8.patterns", "p8.records"],
    ["p8.model"],
    ["p8.session"],
    ["p8.events"],
    ["p8.config"],
    ["p8.store", "p8.workspace", "p8.containers", "p8.assistants", "p8.formats"],
    ["p8.core"],
    ["p8.app", "p8.turning", "p8.upkeep", "p8.commands"],
    ["p8.repl", "p8.server"],
    ["p8.cli"],
    ["p8.__main__", "p8.testing"],
]
VENDORS = {
    "prompt_toolkit": "p8.repl", "rich": "p8.repl", "pysqlite3": ("p8.store", "p8.formats.database_process"),
    "sqlite3": ("p8.store", "p8.formats.database_process"), "sqlite_utils": "p8.store",
    "zstandard": ("p8.store", "p8.formats"), "xxhash": "p8.store", "git": "p8.workspace", "llm": "p8.assistants",
    "xllamacpp": "p8.assistants", "msgspec": ("p8.formats", "p8.store"), "acp": ("p8.assistants", "p8.server"),
    "pydantic": ("p8.assistants", "p8.server"), "starlette": "p8.server", "uvicorn": "p8.server", "mcp": "p8.server",
    "websockets": "p8.server",
    "docker": "p8.containers", "watchfiles": "p8.containers", "yaml": "p8.containers",
    "markdown_it": "p8.formats", "pygments": "p8.formats", "detect_secrets": "p8.formats",
    "bpe_openai": "p8.assistants",
}  # fmt: skip
#: importing must wait for first use: neither `import p8` nor `p8 --version` may pay for these
LAZY = {
    "rich", "git", "llm", "xllamacpp", "docker", "yaml", "zstandard", "sqlite_utils", "acp", "pydantic", "markdown_it",
    "pygments", "detect_secrets", "bpe_openai", "starlette", "uvicorn", "mcp", "websockets",
}  # fmt: skip
#: rooms that are themselves imported only when they are used
LATE = "p8.server."


def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def layer_of(name: str) -> int:
    for level, rooms in enumerate(LAYERS):
        if any(name == room or name.startswith(f"{room}.") for room in rooms):
            return level
    return -1


def room_of(name: str) -> str:
    return next((r for rooms in LAYERS for r in rooms if name == r or name.startswith(f"{r}.")), name)


def imports(tree: ast.Module, typing_too: bool = False) -> list[tuple[str, bool]]:
    """Return (imported module, at the top of the file), without those for the type checker only."""
    found: list[tuple[str, bool]] = []

    def walk(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test) and not typing_too:
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                found.append((child.module, top))
                if child.module.startswith("p8"):
                    found.extend((f"{child.module}.{alias.name}", top) for alias in child.names)
            walk(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    walk(tree, True)
    return found


def upward(name: str, tree: ast.Module) -> list[str]:
    level, room = layer_of(name), room_of(name)
    bad = []
    for target, _ in imports(tree):
        if target.startswith("p8.") and layer_of(target) >= 0 and room_of(target) != room:
            same_level_edge = layer_of(target) == level == layer_of("p8.store")
            if layer_of(target) > level or same_level_edge:
                bad.append(f"{name} imports {target}")
    return bad


def oversize(name: str, source: str) -> list[str]:
    tree = ast.parse(source)
    bad = []
    if source.count("\n") > FILE_LINES:
        bad.append(f"{name}: {source.count(chr(10))} lines")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or 0) - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            if lines > FUNCTION_LINES:
                bad.append(f"{name}.{node.name}: {lines} lines")
        if isinstance(node, ast.ClassDef):
            methods = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            properties = [n for n in methods if any("property" in ast.unparse(d) for d in n.decorator_list)]
            public = [n for n in methods if not n.name.startswith("_") and n not in properties]
            if len(public) > PUBLIC_METHODS:
                bad.append(f"{name}.{node.name}: {len(public)} public methods")
            for method in methods:
                count = len(method.args.args) + len(method.args.kwonlyargs) - 1
                if method.name == "__init__" and count > CONSTRUCTOR_ARGUMENTS:
                    bad.append(f"{name}.{node.name}: {count} constructor arguments")
    return bad


def test_every_module_has_a_layer() -> None:
    homeless = [name for name in modules() if layer_of(name) < 0 and name != "p8"]
    assert homeless == []


def test_imports_go_down_only() -> None:
    bad = [line for name, path in modules().items() for line in upward(name, ast.parse(path.read_text("utf-8")))]
    assert bad == []


def test_an_upward_import_is_caught() -> None:
    assert upward("p8.model", ast.parse("from p8.store.manager import PersistenceManager"))
    assert upward("p8.store.fold", ast.parse("def f():\n    import p8.core.sessions"))
    assert upward("p8.store.fold", ast.parse("from p8.workspace import git"))


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = modules()
    graph = {
        name: {t for t, top in imports(ast.parse(path.read_text("utf-8"))) if top and t in known and t != name}
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for target in sorted(graph[name]):
                if not name.startswith(f"{target}."):
                    visit(target, (*trail, name))
            done.add(name)

    for name in known:
        visit(name, ())


def test_vendors_stay_in_their_rooms() -> None:
    bad = []
    for name, path in modules().items():
        for target, _ in imports(ast.parse(path.read_text("utf-8")), typing_too=True):
            vendor = target.split(".")[0]
            if vendor in VENDORS and not name.startswith(VENDORS[vendor]):
                bad.append(f"{name} imports {vendor}")
        for target, top in imports(ast.parse(path.read_text("utf-8"))):
            if target.split(".")[0] in LAZY and top and not name.startswith(LATE):
                bad.append(f"{name} imports {target} before it is used")
    assert bad == []


def test_only_config_reads_the_environment() -> None:
    readers = [
        n for n, p in modules().items() if "os.environ" in p.read_text("utf-8") or "getenv" in p.read_text("utf-8")
    ]
    assert readers == ["p8.config"]


def test_nothing_is_larger_than_its_ceiling() -> None:
    assert [line for name, path in modules().items() for line in oversize(name, path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n" * 601,
        "def f():\n" + "    x = 1\n" * 60,
        "class C:\n" + "".join(f"    def m{n}(self): pass\n" for n in range(16)),
        "class C:\n    def __init__(self, a, b, c, d, e, f, g, h): pass\n",
    ],
)
def test_what_is_too_large_is_caught(source: str) -> None:
    assert oversize("bad", source)


def test_late_rooms_are_imported_only_when_they_are_used() -> None:
    eager = [
        f"{name} imports {target}"
        for name, path in modules().items()
        for target, top in imports(ast.parse(path.read_text("utf-8")))
        if top and target.startswith(LATE.rstrip(".")) and not f"{name}.".startswith(LATE)
    ]
    assert eager == []
