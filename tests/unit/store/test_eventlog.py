"""The event log: lines of all processes, old days gone, rubbish passed over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from p8.model import to_us
from p8.store.eventlog import EventLog

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_lines_are_read_in_order_and_since_a_time(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    for hours in (30, 20, 1):
        log.write(to_us(NOW - timedelta(hours=hours)), "warning", "instances", f"{hours} h ago", {"alert": "HIGH_CPU"})

    assert [line["message"] for line in log.read()] == ["30 h ago", "20 h ago", "1 h ago"]
    assert [line["message"] for line in log.read(NOW - timedelta(hours=21))] == ["20 h ago", "1 h ago"]
    line = next(log.read())
    assert line.keys() == {"timestamp", "level", "component", "message", "metadata"}
    assert line["level"] == "WARNING"


def test_days_past_their_time_are_deleted_and_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "other.log").touch()
    log = EventLog(tmp_path, retention_s=7 * 86400)
    for days in range(20, -1, -1):
        log.write(to_us(NOW - timedelta(days=days)), "info", "x", str(days), {})

    assert [line["message"] for line in log.read()] == [str(days) for days in range(7, -1, -1)]
    assert (tmp_path / "other.log").exists()


def test_what_is_no_line_is_passed_over_and_half_a_line_is_waited_for(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    follower = log.follow()
    log.write(to_us(NOW), "info", "x", "one", {})
    file = next(tmp_path.iterdir())
    with file.open("ab") as more:
        more.write(b'rubbish\n[1]\n{}\n{"timestamp": "20')

    assert [line["message"] for line in log.read()] == ["one"]
    assert [line["message"] for line in follower.new()] == ["one"]
    with file.open("ab") as more:
        more.write(b"x\n")
    log.write(to_us(NOW), "info", "x", "two", {})
    assert [line["message"] for line in follower.new()] == ["two"]


def test_a_disk_that_refuses_costs_the_line_and_nothing_else(tmp_path: Path) -> None:
    EventLog(tmp_path / "nowhere").write(to_us(NOW), "info", "x", "lost", {})
