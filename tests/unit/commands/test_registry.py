from __future__ import annotations

from p8.commands.registry import Registry


def test_no_words_give_what_argparse_gives() -> None:
    registry = Registry()
    registry.load()
    compared = 0
    for one in registry.commands.values():
        if all(arg.name.startswith("-") or arg.nargs in {"*", "?"} for arg in one.args):
            assert vars(one.parse([])) == {"door": "repl", **vars(one.parser("repl").parse_args([]))}, one.path
            compared += 1
    assert compared > 20
