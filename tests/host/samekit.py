"""One run of a program, traced by strace and by us at once; what both wrote, thread by thread, made comparable."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import tracekit

# Says who it is, waits until it is told that it is traced, and becomes the program.
_GATE = 'echo $$ >"$1"; read -r _ <"$2"; shift 2; exec "$@"'
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_UNFINISHED = " <unfinished ...>"
_SUPERSEDED = re.compile(r"\+\+\+ superseded by execve in pid (\d+) \+\+\+")
_COLUMN = re.compile(r" +(= (?:\?|-?\d|0x))")


def run_of_both(argv, folder):
    """Runs it in a new folder; the process id that it began with, what strace wrote, what we wrote."""
    ready, go, theirs, ours, place = (folder / name for name in ("ready", "go", "strace", "pidwarden", "place"))
    for fifo in (ready, go):
        os.mkfifo(fifo)
    place.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(place), "TZ": "UTC"}
    begin = ["strace", "-f", "-s", "32", "-o", theirs, "--", "/bin/sh", "-c", _GATE, "gate", ready, go, *argv]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(begin, cwd=place, env=environment, **quiet) as strace:
        pid = int(ready.read_text())
        try:
            with tracekit.command("-f", "-s", "32", "--data", "--no-redact", "-o", ours, pid):
                go.write_text("\n")
                strace.wait(tracekit.SECONDS)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
    return pid, theirs.read_text(errors="replace"), ours.read_text(errors="replace")


def threads(text, pid):
    """Lines by thread, each call in one, without the column of results; from the first execve of `pid` on."""
    found, begun = {}, {}
    for line in text.splitlines():
        tid, _space, rest = line.partition(" ")
        tid, rest = int(tid), rest.lstrip()
        if resumed := _RESUMED.match(rest):
            rest = begun.pop(tid, resumed[0]) + rest[resumed.end() :]
        if rest.endswith(_UNFINISHED):
            begun[tid] = rest.removesuffix(_UNFINISHED)
            continue
        if (superseded := _SUPERSEDED.fullmatch(rest)) and int(superseded[1]) in begun:
            begun[tid] = begun.pop(int(superseded[1]))
        found.setdefault(tid, []).append(_COLUMN.sub(r" \1", rest))
    gate = [n for n, line in enumerate(found[pid]) if '"/bin/sh", "-c", "echo $$ >' in line]
    ready = [n for n, line in enumerate(found[pid]) if line.startswith("execve(") and n not in gate]
    found[pid] = found[pid][ready[0] :]
    return found
