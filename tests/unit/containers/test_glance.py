"""A glance at an engine: a real socket that answers, hangs, talks nonsense, or is not there."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p8.containers.endpoint import Address
from p8.containers.glance import WITHIN_S, Glance, endpoint_of, glance

Serve = Callable[[Callable[[str], bytes]], Address]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answers each request, given its path, on a socket whose name is short."""
    folder = Path(tempfile.mkdtemp(prefix="p8-"))
    opened: list[socket.socket] = []

    def begin(answer: Callable[[str], bytes]) -> Address:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(folder / "d.sock"))
        listening.listen()
        opened.append(listening)

        def work() -> None:
            while True:
                try:
                    talk, _ = listening.accept()
                except OSError:
                    return
                with talk, contextlib.suppress(OSError):  # nobody waits any more
                    talk.sendall(answer(talk.recv(4096).decode().split()[1]))

        threading.Thread(target=work, daemon=True).start()
        return Address(f"unix://{folder / 'd.sock'}")

    yield begin
    for one in opened:
        one.shutdown(socket.SHUT_RDWR)
        one.close()
    shutil.rmtree(folder)


def engine(path: str) -> bytes:
    if path != "/images/p8-session%3Abase/json":
        return b"HTTP/1.0 404 Not Found\r\n\r\n{}"
    body = json.dumps({"Id": "sha256:abc", "More": "x" * 100_000}).encode()
    return b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body


def test_what_is_there_is_seen(serve: Serve) -> None:
    address = serve(engine)

    assert glance(address, Path("/nowhere"), ["p8-session:base", "none:1"]) == Glance(
        address.host, True, True, {"p8-session:base": "sha256:abc"}
    )


def test_one_that_hangs_costs_half_a_second(serve: Serve) -> None:
    def hang(_path: str) -> bytes:
        time.sleep(5)
        return b""

    begun = time.monotonic()
    assert not glance(serve(hang), Path("/nowhere"), ["p8-session:base"]).up
    assert time.monotonic() - begun < WITHIN_S + 0.5


@pytest.mark.parametrize("nonsense", [b"", b"SSH-2.0\r\n", b"HTTP/1.0 200 OK\r\n\r\n[]", b"HTTP/1.0 200 OK\r\n\r\nx"])
def test_one_that_talks_nonsense_is_not_up(serve: Serve, nonsense: bytes) -> None:
    assert not glance(serve(lambda _path: nonsense), Path("/nowhere"), ["p8-session:base"]).up


def test_one_that_is_not_there_is_not_up_and_one_far_away_is_not_asked() -> None:
    away, far = Address("unix:///nowhere/d.sock"), Address("tcp://192.0.2.1:2376")

    assert glance(away, Path("/nowhere"), ["x"]) == Glance(away.host, True, False, {})
    assert glance(far, Path("/nowhere"), ["x"]) == Glance(far.host, False, False, {})


def test_one_that_could_not_be_used_is_not_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    address = serve(engine)
    monkeypatch.setitem(sys.modules, "docker", None)

    assert glance(address, Path("/nowhere"), ["p8-session:base"]) == Glance(address.host, False, False, {})


def test_where_only_the_library_can_tell_nothing_is_said(tmp_path: Path) -> None:
    assert endpoint_of(Address(), tmp_path) == "unix:///var/run/docker.sock"
    assert endpoint_of(Address(context="far"), tmp_path) == ""
    (tmp_path / ".docker").mkdir()
    for text, found in (
        ('{"currentContext": "far"}', ""), ('{"currentContext": "default"}', "unix:///var/run/docker.sock"),
        ("{}", "unix:///var/run/docker.sock"), ("no json", "unix:///var/run/docker.sock"),
    ):  # fmt: skip
        (tmp_path / ".docker" / "config.json").write_text(text)
        assert endpoint_of(Address(), tmp_path) == found
