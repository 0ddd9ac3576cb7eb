from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p8.core.letterbox import Letter, Letterbox, Sent, known
from p8.core.sessions import SessionManager
from p8.core.turns import ask
from p8.errors import Conflict


@pytest.fixture
def sockets(home: Path) -> Path:
    (home / "sockets").mkdir(parents=True)
    return home / "sockets"


@pytest.fixture
def box(home: Path, sockets: Path) -> Iterator[Callable[[Callable[[Letter], None]], Letterbox]]:
    opened: list[Letterbox] = []

    def make(take: Callable[[Letter], None]) -> Letterbox:
        opened.append(Letterbox(home, "abc", take))
        opened[-1].open()
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_a_letter_arrives_and_its_sender_hears_what_becomes_of_it(box, home: Path, sockets: Path) -> None:
    def take(letter: Letter) -> None:
        letter.tell(state="recorded", seq=5, got=[letter.session, letter.text, letter.key])
        letter.tell(state="done")
        letter.close()

    box(take)
    told = list(Sent(home, "abc", "s", "line one\nline two ☃", "k").replies())

    assert told == [{"state": "recorded", "seq": 5, "got": ["s", "line one\nline two ☃", "k"]}, {"state": "done"}]
    assert stat.S_IMODE((sockets / "p8-abc.sock").lstat().st_mode) == 0o600


def test_its_sender_can_stop_the_answer_or_leave(box, home: Path) -> None:
    letters: list[Letter] = []
    arrived, stopped = threading.Event(), threading.Event()

    def take(letter: Letter) -> None:
        letter.stop = stopped.set
        letters.append(letter)
        arrived.set()

    box(take)
    sent = Sent(home, "abc", "s", "x", "")
    assert arrived.wait(5)
    sent.stop()
    assert stopped.wait(5)
    sent.leave()
    assert list(sent.replies()) == []
    deadline = threading.Event()
    for _ in range(100):
        if letters[0].withdrawn:
            break
        deadline.wait(0.05)
    assert letters[0].withdrawn
    letters[0].tell(state="recorded")  # costs nothing


def test_a_process_that_takes_none_is_told_of(home: Path, sockets: Path) -> None:
    with pytest.raises(Conflict, match="takes no messages"):
        Sent(home, "nobody", "s", "x", "")


def test_a_box_that_is_closed_leaves_nothing_and_those_of_dead_processes_are_tidied(
    box, home: Path, sockets: Path
) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(sockets / "p8-dead.sock"))
    dead.close()
    (sockets / "p8-file.sock").write_text("not a socket")
    made = box(lambda letter: letter.close())
    assert not (sockets / "p8-dead.sock").exists()
    made.close()
    assert [p.name for p in sockets.iterdir() if stat.S_ISSOCK(p.lstat().st_mode)] == []


def test_a_home_with_a_long_name_has_one_too(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 40)
    (home / "sockets").mkdir(parents=True)
    made = Letterbox(home, "abc", lambda letter: (letter.tell(state="done"), letter.close()))
    made.open()
    assert list(Sent(home, "abc", "s", "x", "").replies()) == [{"state": "done"}]
    made.close()


@pytest.mark.parametrize("words", [b"\n", b"[]\n", b"{}", b'{"session"', b"\xff\xfe\n", b"x" * 100])
def test_what_is_no_letter_is_not_taken(box, sockets: Path, words: bytes) -> None:
    taken: list[Letter] = []
    box(taken.append)
    sender = socket.socket(socket.AF_UNIX)
    sender.settimeout(5)
    sender.connect(str(sockets / "p8-abc.sock"))
    sender.sendall(words)
    sender.shutdown(socket.SHUT_WR)
    assert sender.recv(10) == b""
    sender.close()
    assert taken == []


def test_a_message_that_comes_again_is_known(manager: SessionManager) -> None:
    manager.start_session("demo")
    assert known(manager, "k") is None
    seq = ask(manager, "hello", letter="k")
    assert known(manager, "k") == (seq, False)
    manager.record_message({"role": "assistant", "content": "hi"})
    assert known(manager, "k") == (seq, True)
    assert known(manager, "other") is None
    assert known(manager, "") is None
