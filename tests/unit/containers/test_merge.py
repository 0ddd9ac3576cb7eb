"""Merging two trees: nothing that was changed on either side is lost, and both come out the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p8.containers.merge import Node, conflict_name, merge

NAMES = st.sampled_from(["a", "b", "a/x", "a/y", "b/x", "a/x/deep", "c"])
NODES = st.one_of(
    st.builds(Node, st.just("file"), st.sampled_from("123"), st.booleans()),
    st.just(Node("folder")),
    st.builds(Node, st.just("link"), st.sampled_from(["t", "u"])),
)


def whole(tree: dict[str, Node]) -> dict[str, Node]:
    """Make a tree of names: what lies in something that is no folder is not there."""
    kept: dict[str, Node] = {}
    for path in sorted(tree, key=lambda one: one.count("/")):
        parents = [path[:n] for n, letter in enumerate(path) if letter == "/"]
        if all(kept.get(one, Node("folder")).kind == "folder" for one in parents):
            for one in parents:
                kept[one] = Node("folder")
            kept[path] = tree[path]
    return kept


TREES = st.dictionaries(NAMES, NODES).map(whole)


@given(TREES, TREES, TREES)
@settings(max_examples=300)
def test_what_was_changed_is_never_lost(base: dict, here: dict, there: dict) -> None:
    merged = merge(base, here, there)
    contents = {want.node[:2] for want in merged.tree.values()}
    for side in (here, there):
        for path, node in side.items():
            if node.kind != "folder" and node != base.get(path):
                assert node[:2] in contents, (path, node)


@given(TREES, TREES, TREES)
@settings(max_examples=300)
def test_the_outcome_is_a_tree_whose_content_can_be_had(base: dict, here: dict, there: dict) -> None:
    merged = merge(base, here, there)
    for path, want in merged.tree.items():
        parents = [path[:n] for n, letter in enumerate(path) if letter == "/"]
        assert all(merged.tree[one].node.kind == "folder" for one in parents)
        if want.node.kind != "folder":
            source = (here if want.side == "here" else there)[want.path]
            assert source[:2] == want.node[:2]


@given(TREES, TREES, TREES)
def test_both_sides_decide_alike_and_again_the_same(base: dict, here: dict, there: dict) -> None:
    merged = {path: want.node for path, want in merge(base, here, there).tree.items()}
    assert {path: want.node for path, want in merge(merged, merged, merged).tree.items()} == merged
    half = merge(base, merged, there)  # cut after this side was done
    assert {path: want.node for path, want in half.tree.items() if want.node.kind != "folder"}.keys() >= {
        path for path, node in merged.items() if node.kind != "folder" and node != base.get(path)
    }


@given(TREES, TREES)
def test_one_sided_changes_come_over_as_they_are(base: dict, side: dict) -> None:
    assert {p: w.node for p, w in merge(base, side, base).tree.items()} == side
    assert {p: w.node for p, w in merge(base, base, side).tree.items()} == side
    assert merge(base, side, base).conflicts == merge(base, base, side).conflicts == {}


def test_both_of_two_changes_are_kept() -> None:
    one, two, was = Node("file", "1"), Node("file", "2"), Node("file", "0")
    name = conflict_name("a.txt", two)
    merged = merge({"a.txt": was}, {"a.txt": one}, {"a.txt": two})
    assert {path: want.node for path, want in merged.tree.items()} == {"a.txt": one, name: two}
    assert merged.conflicts == {name: "a.txt"}
    assert name.startswith("a.txt.conflict-")


def test_a_deletion_loses_against_a_change() -> None:
    was, new = Node("file", "0"), Node("file", "1")
    assert merge({"a": was}, {}, {"a": new}).tree["a"].node == new
    assert merge({"a": was}, {"a": new}, {}).tree["a"].node == new
    assert merge({"a": was}, {}, {"a": was}).tree == {}
