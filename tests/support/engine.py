"""A real container engine for tests: the image they run in, homes tidied up after, and an engine of their own."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from p8.app import App, make_app
from p8.config import Config
from p8.containers.build import build_image
from p8.containers.docker import Docker
from p8.containers.endpoint import Address
from p8.containers.glance import glance
from p8.core.supervisor import Supervisor

BASE, IMAGE, TINY = "p8-test-base:1", "p8-test-session:1", "p8-test-tiny:1"
PACKAGES = "python3,git,nodejs,tini,procps,ca-certificates"


def missing(what: str) -> None:
    """Skip, or in CI, where nothing may be missing, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} in CI")
    pytest.skip(what)


def client(address: str = ""):
    """The SDK's own client, to do to containers what other people would."""
    try:
        import docker

        made = docker.DockerClient(base_url=address, timeout=60) if address else docker.from_env(timeout=30)
        made.ping()
    except Exception as error:
        missing(f"no container engine: {type(error).__name__}")
    return made


def session_image(tmp: Path) -> str:
    """Build P8's image from a base made of Debian's packages, once an engine; return its name."""
    engine = client()
    names = {tag for image in engine.images.list() for tag in image.tags}
    if BASE not in names:
        if shutil.which("mmdebstrap") is None:
            missing("mmdebstrap is missing, and there is no base image")
        tar = tmp / "base.tar"
        subprocess.run(["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(tar)], check=True)
        engine.api.import_image_from_file(str(tar), *BASE.split(":"))
        tar.unlink()
    build_image(Docker("build", tmp / "home", tmp / "person"), "base", BASE, network="none", tag=IMAGE)
    return IMAGE


def tiny_image(engine) -> str:
    """Import an image of busybox alone; return its name."""
    busybox = shutil.which("busybox")
    if busybox is None or b"statically linked" not in subprocess.run(["file", busybox], capture_output=True).stdout:
        missing("busybox-static is missing")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(busybox, "bin/busybox", filter=lambda member: member)
        for name in ("sh", "sleep", "cat", "grep", "kill", "nc", "stty", "id", "ls", "true", "false", "touch", "rm"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name in ("tmp", "etc", "proc", "sys", "dev", "app"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    engine.api.import_image_from_data(packed.getvalue(), *TINY.split(":"))
    return TINY


@contextmanager
def tidy_app(home: Path, directory: Path, **settings) -> Iterator[App]:
    """A P8 in a home of its own, whose containers and network are gone afterwards."""
    directory.mkdir(parents=True, exist_ok=True)
    app = make_app(Config(home=home, **{"container_image": IMAGE, **settings}), directory, background=False)
    try:
        yield app
    finally:
        remove_all(app.runtime.installation, settings.get("engine", ""))
        app.close()


def remove_all(installation: str, engine: str = "") -> None:
    """Remove what an installation has made."""
    import docker

    made = docker.DockerClient(base_url=engine) if engine else docker.from_env()
    chosen = {"label": f"p8.installation={installation}"}
    for one in made.containers.list(all=True, filters=chosen, ignore_removed=True):
        try:
            one.remove(force=True, v=True)
        except docker.errors.NotFound:
            continue
    for network in made.networks.list(filters=chosen):
        network.remove()
    for volume in made.volumes.list(filters=chosen):
        volume.remove()
    made.close()


@contextmanager
def supervised(app: App) -> Iterator[Supervisor]:
    """Look after an app's instances meanwhile."""
    supervisor = Supervisor(app.instances)
    work = threading.Thread(target=supervisor.run)
    work.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        work.join(30)
        assert not work.is_alive()


def until(true: Callable[[], object], seconds: float = 20.0, what: str = "") -> float:
    """Wait for something; return how long it took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begun


def inside(app: App, instance: str, *command: str) -> tuple[str, int]:
    """Run a program in an instance; return its output and status."""
    channel = app.instances.open(instance, command)
    channel.close_input()
    said = b""
    while (piece := channel.read()) is not None:
        said += piece[1]
    while (code := channel.exit_code()) is None:
        time.sleep(0.01)
    channel.end()
    return said.decode("utf-8", "replace"), code


def alerts(app: App) -> list[str]:
    """The alerts told so far, as `KIND instance`."""
    lines = app.instances.files.log.read()
    return [
        f"{line['metadata']['alert']} {line['metadata']['instance']}" for line in lines
        if line["metadata"].get("alert") and not line["metadata"].get("over")
    ]  # fmt: skip


#: run a program in a network of its own, where nothing is up yet
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""


class OwnEngine:
    """
    An engine of a test's own, to be stopped and started: containers without networks, away from all others.

    Args:
        folder: for its data and socket.
    """

    def __init__(self, folder: Path) -> None:
        if os.getuid() != 0 or shutil.which("dockerd") is None:
            missing("an engine of one's own needs root and dockerd")
        self.folder = folder
        self.address = f"unix://{folder}/d.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        folder = self.folder
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [  # in a network of its own: without a bridge it would take the other engine's away
                    "unshare", "--net", sys.executable, "-c", LOOPBACK_UP, "dockerd", "-H", self.address,
                    "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
                    "--pidfile", str(folder / "pid"), "--bridge=none",
                    "--iptables=false", "--ip6tables=false", "--cgroup-parent=/p8-test",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip

        where = Address(self.address)
        until(lambda: glance(where, folder, ["none:1"]).up, 60, f"an engine of one's own, see {folder / 'log'}")

    def load(self, image: str) -> None:
        """Give it an image of the usual engine."""
        saved = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "-H", self.address, "load", "-q"], stdin=saved.stdout, check=True, capture_output=True
        )
        assert saved.stdout is not None
        saved.stdout.close()
        assert saved.wait() == 0

    def stop(self) -> None:
        """Stop it, and its containers with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None


class Second(NamedTuple):
    """An engine beside the one everybody uses, to stand in for one on another machine."""

    address: str
    image: str

    def client(self):
        """The SDK's own client, to do to its containers what other people would."""
        return client(self.address)


@contextmanager
def second_engine(image: str) -> Iterator[Second]:
    """Run an engine with an image carried over from the other."""
    memory = Path("/dev/shm")  # an image has thousands of files, which a disk takes long to remove
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30
    folder = (memory if roomy else Path("/tmp")) / f"p8s{os.getpid()}"  # a socket's path is short
    folder.mkdir(mode=0o700)
    own = OwnEngine(folder)
    try:
        own.start()
        own.load(image)
        yield Second(own.address, image)
    finally:
        own.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Line:
    """
    A way to an engine that can be cut.

    Args:
        path: the socket to make.
        engine: the engine's.

    Attributes:
        closed: when set, nobody gets through.
    """

    def __init__(self, path: Path, engine: str) -> None:
        self._engine = engine.removeprefix("unix://")
        self.address = f"unix://{path}"
        self.passed, self.limit, self.closed = 0, 0, False
        self._open: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(32)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._server.accept()
            except OSError:
                return
            if self.closed:
                one.close()
                continue
            other = socket.socket(socket.AF_UNIX)
            other.connect(self._engine)
            self._open += [one, other]
            for a, b in ((one, other), (other, one)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    def _pass(self, a: socket.socket, b: socket.socket) -> None:
        try:
            while data := a.recv(16384):
                self.passed += len(data)
                if self.limit and self.passed > self.limit:
                    self.cut()
                    return
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self) -> None:
        """Break off all connections; new ones can be made."""
        self.limit = 0
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open = []

    def close(self) -> None:
        """Make an end of it."""
        self._server.close()
        self.cut()
