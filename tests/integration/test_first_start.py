"""The first start a person has: an empty home, no model, no key; the offline model is offered, fetched and answers."""

from __future__ import annotations

from pathlib import Path

from support.recorded import entries
from support.terminal import P8, Terminal


def test_an_empty_home_ends_in_an_answer_from_the_offline_model(home: Path, directory: Path) -> None:
    one = Terminal(home, directory, program=P8)
    try:
        one.wait("Fetch it now?")
        assert "95 MB, no key, no account" in one.text
        assert "demonstration" in one.text
        one.send("\r")
        one.wait("ready", 180)
        one.line("What is a git branch?")
        one.wait("tokens", 60)
        one.pump(0.5)
        assert "branch" in one.text.replace("What is a git branch?", "")
        assert "local" in one.text.splitlines()[-1]
        one.line("/quit", "Saved")
        assert one.end() == 0
    finally:
        one.close()
    said = entries(home, "message")
    assert [d["role"] for d in said] == ["user", "assistant"]
    assert said[1]["tokens_out"] > 3


def test_who_declines_is_told_how_to_get_it_later_and_not_asked_again(home: Path, tmp_path: Path) -> None:
    one = Terminal(home, tmp_path, program=P8)
    two = None
    try:
        one.wait("Fetch it now?")
        one.send("n\r")
        one.wait("/model install local fetches it any time")
        one.line("hello", "no model to answer with")
        one.line("/quit", "Saved")
        one.end()
        two = Terminal(home, tmp_path, program=P8)
        two.wait("No model is set")
    finally:
        one.close()
        if two is not None:
            two.close()
