"""What an attached container may do to the terminal."""

from __future__ import annotations

import pytest

from p8.repl.live import Passing

BARRED = [
    b"\x1b]52;c;cm0gLXJm\x07", b"\x1b]52;c;cm0gLXJm\x1b\\", b"\x1b]8;;http://x\x1b\\", b"\x1b]9;hello\x07",
    b"\x1b]777;notify;a;b\x07", b"\x1b]50;font\x07", b"\x1bP+q544e\x1b\\", b"\x1b_Gi=1;AAAA\x1b\\",
]  # fmt: skip
ALLOWED = [b"plain", b"\x1b[31mred\x1b[0m", b"\x1b]0;title\x07", b"\x1b[?1049h", "grün".encode(), b"\x1b]11;?\x07"]


@pytest.mark.parametrize("barred", BARRED)
def test_what_reaches_past_the_terminal_is_taken_out_wherever_it_is_cut(barred: bytes) -> None:
    whole = b"before " + barred + b" after"
    for cut in range(len(whole) + 1):
        passing = Passing()
        shown = passing.take(whole[:cut]) + passing.take(whole[cut:])
        assert shown == b"before  after", cut


@pytest.mark.parametrize("allowed", ALLOWED)
def test_everything_else_passes_wherever_it_is_cut(allowed: bytes) -> None:
    for cut in range(len(allowed) + 1):
        passing = Passing()
        assert passing.take(allowed[:cut]) + passing.take(allowed[cut:] + b".") == allowed + b"."


def test_an_endless_one_is_not_kept_for_ever() -> None:
    passing = Passing()
    for _ in range(100):
        assert b"x" * 10 not in passing.take(b"\x1b]52;" + b"x" * 5000)
    assert len(passing._held) < 100_000
