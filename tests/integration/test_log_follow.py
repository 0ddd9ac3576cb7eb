"""`p8 log --follow --json` from another process: every event once, in order, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from p8.store.manager import PersistenceManager

EVENTS = 10_000
WRITER = """
import sys
from p8 import PersistenceManager
store = PersistenceManager(sys.argv[1], background=sys.argv[4] == "fold")  # else nothing is folded by the writer
who, first, last = sys.argv[5], int(sys.argv[2]), int(sys.argv[3])
out = open(1, "w", buffering=1)
for number in range(first, last):
    stream = f"~{who}-{number * 7 // 3 % 5}"
    seq, _ = store.record(stream, "event", {"n": number, "who": who, "text": "x" * (number % 50)})
    out.write(f"{number}\\n")
    if number % 500 == 0:
        import time; time.sleep(0.02)
store.close()
"""


class Follower:
    """A `p8 log --follow --json` and what it has printed."""

    def __init__(self, home: Path, *words: str) -> None:
        env = {**os.environ, "P8_HOME": str(home)}
        command = [sys.executable, "-m", "p8", "log", "--follow", "--json", *words]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.events: list[dict] = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                self.events.append(json.loads(line))

    def wait(self, count: int, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while len(self.events) < count and time.monotonic() < until:
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.02)
        assert len(self.events) >= count

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.thread.join(10)
        self.process.stdout.close()
        self.process.stderr.close()


def writer(home: Path, first: int, last: int, how: str, who: str = "w") -> subprocess.Popen:
    words = [sys.executable, "-c", WRITER, str(home), str(first), str(last), how, who]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def acknowledged(process: subprocess.Popen) -> int:
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")
    process.wait()
    process.stdout.close()
    return sum(1 for line in lines if line.isdigit())


def check_streams(events: list[dict]) -> None:
    seen: dict[str, int] = {}
    for event in events:
        stream = event["stream"]
        assert event["seq"] == seen.get(stream, 0) + 1, event
        seen[stream] = event["seq"]


@pytest.mark.parametrize("how", ["fold", "journal only"])
def test_every_event_once_and_in_order_across_a_killed_writer(home: Path, how: str) -> None:
    PersistenceManager(home).close()
    follower = Follower(home, "--after", "start")
    killed = writer(home, 0, EVENTS, how, "first")
    for _ in range(EVENTS // 4):
        assert killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    done = acknowledged(killed) + EVENTS // 4
    assert done < EVENTS
    second = writer(home, done + 10_000, done + 10_000 + EVENTS - done, "fold", "second")
    assert acknowledged(second) == EVENTS - done
    follower.wait(EVENTS)
    time.sleep(0.5)
    follower.kill()

    own = [e for e in follower.events if e["data"].get("who")]
    first = [e["data"]["n"] for e in own if e["data"]["who"] == "first"]
    # One more than acknowledged may have been written when the process died; nothing less, nothing twice.
    assert first in (list(range(done)), list(range(done + 1)))
    assert [e["data"]["n"] for e in own if e["data"]["who"] == "second"] == list(range(done + 10_000, EVENTS + 10_000))
    assert len({e["cursor"] for e in follower.events}) == len(follower.events)
    check_streams(follower.events)


def test_a_killed_follower_goes_on_from_its_cursor(home: Path) -> None:
    PersistenceManager(home).close()
    process = writer(home, 0, 4000, "fold")
    seen: list[dict] = []
    cursor = "start"
    for _ in range(4):
        follower = Follower(home, "--after", cursor)
        follower.wait(400)
        follower.kill()
        seen += follower.events
        cursor = seen[-1]["cursor"]
    assert acknowledged(process) == 4000
    follower = Follower(home, "--after", cursor)
    follower.wait(4000 - len(seen))
    follower.kill()
    seen += follower.events

    assert [e["data"]["n"] for e in seen] == list(range(4000))


def test_only_one_session_and_a_bad_cursor(home: Path, tmp_path: Path) -> None:
    from p8.core.sessions import SessionManager

    manager = SessionManager(PersistenceManager(home))
    one = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "hello"})
    two = manager.start_session("demo")
    follower = Follower(home, "--after", "start", "--session", two.session_id)
    manager.record_message({"role": "user", "content": "to two"})
    manager.annotate(one.session_id, pinned=True)
    manager.annotate(title="named")
    follower.wait(3)
    follower.kill()
    manager.close()

    assert {e["stream"] for e in follower.events} == {two.session_id}
    assert follower.events[1]["data"]["content"] == "to two"
    env = {**os.environ, "P8_HOME": str(home)}
    words = [sys.executable, "-m", "p8", "log", "--follow", "--after", "999999.1"]
    bad = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert bad.returncode == 2
    assert "another database" in bad.stderr
    assert "Traceback" not in bad.stderr


def test_metrics_and_errors_are_followed_as_an_observer_in_the_process_hears_them(home: Path, tmp_path: Path) -> None:
    from p8.errors import AssistantError
    from p8.testing import make_app

    (tmp_path / "here").mkdir()
    app = make_app(home, tmp_path / "here")
    heard: list[tuple[str, int]] = []
    wanted = {"metrics", "error"}
    app.bus.subscribe(lambda c: heard.append((c.data["what"], c.seq)) if c.data.get("what") in wanted else None)
    app.ensure_session()
    follower = Follower(home, "--after", "start", "--what", "metrics,error")
    for number in range(20):
        app.sessions.record_message({"role": "user", "content": f"question {number}"})
        app.after_turn()
        if number % 5 == 0:
            app.note_error(AssistantError(f"nobody answered {number}"))
    follower.wait(24)
    follower.kill()
    app.close()

    assert [(e["data"]["what"], e["seq"]) for e in follower.events] == heard[:24]
    assert [e["data"]["messages"] for e in follower.events if e["data"]["what"] == "metrics"] == list(range(1, 21))
    assert {e["data"]["error"] for e in follower.events if e["data"]["what"] == "error"} == {"AssistantError"}
