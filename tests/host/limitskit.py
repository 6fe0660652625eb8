"""What tests that change the kernel's own limits share: they come back even if the test is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from pathlib import Path

# Reads pairs of a path and a value, waits until whoever holds the other end of its input is gone, and sets them.
_DEADMAN = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
os.setsid()
print("ready", flush=True)
sys.stdin.read()
pairs = list(zip(sys.argv[1::2], sys.argv[2::2]))
for _again in range(2):  # numbers that may not cross each other
    for path, value in pairs:
        if open(path).read().split() != value.split():
            try:
                with open(path, "w") as file:
                    file.write(value)
            except OSError:
                pass
"""
_LOCK = "/tmp/conntrack.lock"  # of all who change the size of connection tracking


def values(*paths):
    return {path: Path(path).read_text().strip() for path in paths}


@contextlib.contextmanager
def restored(*paths):
    """The values that these files have now: at the end they must be there again; if the test dies, they are set."""
    with open(_LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = values(*paths)
        argv = [sys.executable, "-I", "-S", "-c", _DEADMAN, *(word for pair in before.items() for word in pair)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as deadman:
            assert deadman.stdout.readline() == b"ready\n"
            try:
                yield before
                assert values(*paths) == before
            finally:
                deadman.stdin.close()
                deadman.wait(20)


@contextlib.contextmanager
def namespace_of_its_own(kind="--net"):
    """A process that sleeps in a new namespace; its pid."""
    with subprocess.Popen(
        ["unshare", kind, "sh", "-c", "echo ready; exec sleep 300"], stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout.readline() == b"ready\n"
            yield holder.pid
        finally:
            holder.kill()


def within(pid):
    """The words that run a command in the network namespace of a process."""
    return ("nsenter", f"--net=/proc/{pid}/ns/net")


def enter_flows(pid, number, folder):
    """Enters connections into the tracking of a network namespace, in bulk."""
    lines = (
        f"-A -s 10.0.{n >> 8}.{n & 255} -d 10.9.0.1 -p tcp --sport {1024 + n} --dport 80 -t 600 --state ESTABLISHED "
        "-u ASSURED\n"
        for n in range(number)
    )
    path = Path(folder) / "flows"
    path.write_text("".join(lines))
    subprocess.run([*within(pid), "conntrack", "-R", str(path)], check=True, capture_output=True)


def flows(pid):
    """The connections that are tracked there."""
    done = subprocess.run([*within(pid), "conntrack", "-L", "-o", "save"], check=True, capture_output=True, text=True)
    return {
        tuple(w for w in line.split() if w.count(".") == 3 or w.isdecimal())[1:] for line in done.stdout.splitlines()
    }


def tracking():
    """Whether this kernel tracks connections and the tool to enter some is here."""
    return os.path.exists("/proc/sys/net/netfilter/nf_conntrack_max") and any(
        os.path.exists(f"{folder}/conntrack") for folder in os.environ["PATH"].split(":")
    )
