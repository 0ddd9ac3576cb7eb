"""What two trees that were one are to become: every change of either side, and both of two that collide.

Pure: no files, no engine. A deletion loses against a change; a file loses its name, never its content, where the other
side changed it too, or made a folder of it. Names of such files are made of their content, so that deciding again after
a cut makes the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

Tree = Mapping[str, "Node"]


class Node(NamedTuple):
    """One thing in a tree."""

    kind: str  #: "file", "folder" or "link"
    content: str = ""  #: a file's SHA-256, a link's target
    executable: bool = False


class Want(NamedTuple):
    """What is to be at a path on both sides."""

    node: Node
    side: str  #: "here" or "there": where its content is now
    path: str  #: and under which path


class Merged(NamedTuple):
    """What both trees are to become."""

    tree: dict[str, Want]
    conflicts: dict[str, str]  #: paths of what was kept beside, and whose double each is


def conflict_name(path: str, node: Node) -> str:
    """Return the name under which one of two is kept."""
    mark = hashlib.sha256(f"{node.kind} {node.content} {node.executable}".encode("utf-8", "surrogateescape"))
    folder, slash, name = path.rpartition("/")
    while len(name.encode("utf-8", "surrogateescape")) > 230:
        name = name[:-1]
    return f"{folder}{slash}{name}.conflict-{mark.hexdigest()[:12]}"


def merge(base: Tree, here: Tree, there: Tree) -> Merged:
    """
    Decide.

    Args:
        base: as both were when they were last one.
        here: as it is on this side.
        there: as it is on the other.
    """
    tree: dict[str, Want] = {}
    aside: list[tuple[str, Want]] = []
    for path in {*here, *there}:
        mine, yours, was = here.get(path), there.get(path), base.get(path)
        wants = [Want(n, s, path) for n, s in ((mine, "here"), (yours, "there")) if n is not None]
        if yours in (mine, was):
            chosen = wants[0] if mine is not None else None
        elif mine == was:
            chosen = wants[-1] if yours is not None else None
        elif len(wants) == 1:
            chosen = wants[0]
        elif mine is not None and yours is not None and mine[:2] == yours[:2]:
            chosen = Want(mine._replace(executable=not (was.executable if was else False)), "here", path)
        else:
            folder = next((want for want in wants if want.node.kind == "folder"), None)
            chosen = folder or wants[0]
            aside.append((path, wants[1] if chosen is wants[0] else wants[0]))
        if chosen is not None:
            tree[path] = chosen
    _uphold(tree, aside, here)
    merged = Merged(tree, {})
    for path, want in aside:
        name = conflict_name(path, want.node)
        while name in tree and tree[name].node != want.node:
            name = conflict_name(name, want.node)
        tree[name] = want
        merged.conflicts[name] = path
    return merged


def _uphold(tree: dict[str, Want], aside: list[tuple[str, Want]], here: Tree) -> None:
    """Give everything a folder to lie in."""
    for path in list(tree):
        parent = path.rpartition("/")[0]
        while parent:
            standing = tree.get(parent)
            if standing is not None and standing.node.kind == "folder":
                break
            if standing is not None:
                aside.append((parent, standing))
            side = "here" if here.get(parent, Node("")).kind == "folder" else "there"
            tree[parent] = Want(Node("folder"), side, parent)
            parent = parent.rpartition("/")[0]
    for path, _ in aside:
        parent = path.rpartition("/")[0]
        while parent and parent not in tree:
            tree[parent] = Want(Node("folder"), "here", parent)
            parent = parent.rpartition("/")[0]


def deletions(tree: Mapping[str, Want], now: Tree) -> list[str]:
    """Return what must go from a side, the deepest first: what is not wanted, or not as that kind."""
    odd = [path for path, node in now.items() if path not in tree or _differs_in_kind(tree[path].node, node)]
    return sorted(odd, key=lambda path: (-path.count("/"), path))


def _differs_in_kind(wanted: Node, node: Node) -> bool:
    return (wanted.kind == "folder") != (node.kind == "folder")
