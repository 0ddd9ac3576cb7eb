"""What a program inside a container can find that it should not: looked for from inside, with nothing but a shell."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

Inside = Callable[[str], str]  #: runs a line of shell in the container, returns what it prints

DEVICES = {
    "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
    "tty", "urandom", "zero",
}  # fmt: skip
#: what every engine mounts itself
OWN = re.compile(
    r"/(dev|proc|sys)(/.*)?|/etc/(resolv\.conf|hostname|hosts)|(/usr)?/sbin/docker-init|/tmp|/run/secrets.*|/"
)
CAPABILITIES = ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")
#: each is asked what it is: of one that was mounted, its directory says that it is a plain file
SOCKETS = (
    "find / -path /proc -prune -o -path /sys -prune -o ! -type d ! -type l"
    ' -exec sh -c \'for f; do [ -S "$f" ] && echo "$f"; done\' sh {} + 2>/dev/null'
)
#: cgroup files of version 1 and 2: of memory, processes and processors
LIMITS = (
    ("memory/memory.limit_in_bytes", "memory.max"), ("pids/pids.max", "pids.max"),
    ("cpu/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_quota_us", "cpu.max"),
)  # fmt: skip


def weaknesses(inside: Inside, mounts: Sequence[Path], limits: tuple[int, int, float], networks: set[str]) -> list[str]:
    """
    Return what is wrong, the kind of it first; nothing where all is as it should be.

    Args:
        inside: runs a line in the container.
        mounts: what of this machine may be seen inside.
        limits: of memory in bytes, of processes, of processors.
        networks: names of its network interfaces.
    """
    status = dict(line.split(":\t", 1) for line in inside("cat /proc/self/status").splitlines() if ":\t" in line)
    found = [f"capabilities: {name} {status[name]}" for name in CAPABILITIES if int(status[name], 16)]
    found += [] if status["NoNewPrivs"] == "1" else ["new privileges"]
    found += [] if status["Seccomp"] == "2" else ["system calls: not filtered"]
    uid = inside("id -u").strip()
    found += [] if uid != "0" else ["user: root"]
    found += _filesystem(inside, mounts)
    sockets = inside(SOCKETS).split()
    found += [f"socket: {path}" for path in sockets if path != "/run/p8/ai.sock"]
    found += [f"device: {name}" for name in inside("ls /dev").split() if name not in DEVICES]
    seen = set(inside("ls /sys/class/net").split())
    found += [f"network: {', '.join(sorted(seen))}"] if seen != networks else []
    live = [
        inside(f"cd /sys/fs/cgroup && cat {' '.join(files)} 2>/dev/null | head -1 | cut -d' ' -f1").strip()
        for files in LIMITS
    ]
    wanted = [str(limits[0]), str(limits[1]), str(int(limits[2] * 100_000))]
    found += [f"limit: {a or 'none'}, not {b}" for a, b in zip(live, wanted, strict=True) if a != b]
    return found


def _filesystem(inside: Inside, mounts: Sequence[Path]) -> list[str]:
    found = []
    lines = [line.split() for line in inside("cat /proc/self/mountinfo").splitlines()]
    for fields in lines:
        source, target, options = fields[3], fields[4], fields[5].split(",")
        if target == "/" and "ro" not in options:
            found.append("root: writable")
        if not OWN.fullmatch(target) and not any(str(path).endswith(source) and source != "/" for path in mounts):
            found.append(f"mount: {source} at {target}")
    barred = ("/x", "/usr/x", "/etc/passwd", "/usr/bin/x", "/sys/kernel/x", "/proc/sys/kernel/hostname")
    written = [path for path in barred if inside(f"(echo x >> {path}) 2>/dev/null && echo written").strip()]
    return [*found, *(f"root: {path} can be written to" for path in written)]


def listening(port: int) -> set[str]:
    """Return the addresses of this machine on which anybody listens on a port, as the kernel writes them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address)
    return found
