"""Ports: leased over a real database, by several processes at once, with listeners in the way."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from p8.containers.ports import Ports, is_free
from p8.errors import Conflict
from p8.store.manager import PersistenceManager

ALLOCATE = """
import sys
from p8.containers.ports import Ports
from p8.store.manager import PersistenceManager
home, name, low, high, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
store = PersistenceManager(home, background=False)
ports = Ports(store.ports)
print(*(ports.allocate(f"{name}-{n}", low, high) for n in range(count)))
store.close()
"""


def listener(port: int = 0) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server does
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def free_block(size: int) -> int:
    """The first of `size` ports in a row on which nothing listens."""
    for low in range(20000, 32000, size):
        if all(is_free(port) for port in range(low, low + size)):
            return low
    raise AssertionError("no free block")


def test_two_hundred_from_four_processes_with_listeners_in_the_way(home: Path) -> None:
    low = free_block(207)
    listeners = [listener(low + n * 29) for n in range(7)]
    PersistenceManager(home, background=False).drain()
    try:
        words = [str(low), str(low + 206), "50"]
        running = [
            subprocess.Popen(
                [sys.executable, "-c", ALLOCATE, str(home), f"p{n}", *words], stdout=subprocess.PIPE, text=True
            )
            for n in range(4)
        ]
        said = [one.communicate(timeout=120)[0] for one in running]
        store = PersistenceManager(home, background=False)
        with pytest.raises(Conflict) as refused:
            Ports(store.ports).allocate("one-more", low, low + 206)
    finally:
        taken = {one.getsockname()[1] for one in listeners}
        for one in listeners:
            one.close()

    assert [one.returncode for one in running] == [0, 0, 0, 0]
    got = [int(port) for line in said for port in line.split()]
    assert len(got) == 200
    assert set(got) == set(range(low, low + 207)) - taken
    assert f"{low} to {low + 206}" in refused.value.message
    assert len(store.ports.all()) == 200
    store.close()


@pytest.fixture
def ports(store: PersistenceManager) -> Ports:
    store.start()
    return Ports(store.ports)


def test_the_preferred_port_comes_first_and_a_taken_one_gives_way(ports: Ports) -> None:
    low = free_block(4)

    assert ports.allocate("a", low, low + 3, preferred=low + 2) == low + 2
    assert ports.allocate("b", low, low + 3, preferred=low + 2) == low
    with listener(low + 1):
        assert ports.allocate("c", low, low + 3) == low + 3


def test_a_holder_keeps_its_port_and_has_one_only(ports: Ports, store: PersistenceManager) -> None:
    low = free_block(4)
    first = ports.allocate("a", low, low + 3)

    assert ports.allocate("a", low, low + 3) == first
    assert ports.allocate("a", low, low + 3, avoid={first}) == low + 1
    assert store.ports.all() == {low + 1: "a"}


def test_a_released_port_is_given_out_again(ports: Ports) -> None:
    low = free_block(1)
    ports.allocate("a", low, low)
    with pytest.raises(Conflict):
        ports.allocate("b", low, low)
    ports.release("a")

    assert ports.allocate("b", low, low) == low


def test_a_lease_of_what_never_came_to_be_runs_out(home: Path) -> None:
    now = 1_795_000_000_000_000
    store = PersistenceManager(home, background=False, clock=lambda: now)
    store.start()
    low = free_block(1)
    ports = Ports(store.ports)
    ports.allocate("never-started", low, low)
    now += 601_000_000

    assert ports.allocate("b", low, low) == low
    store.close()


def test_a_connection_closed_a_moment_ago_takes_no_port() -> None:
    server = listener()
    port = server.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    other, _ = server.accept()
    other.close()  # this side is in TIME_WAIT now
    client.close()
    server.close()

    assert is_free(port)
