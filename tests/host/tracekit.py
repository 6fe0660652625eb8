"""What the tests of a trace share: plans made by hand, numbers of calls, the command, attached."""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import sys

from pidwarden.trace import abi
from pidwarden.trace.tracer import Settings, Tracer

_NUMBER = re.compile(r"#define __NR_(\w+)\s+(\d+)")
_HEADERS = ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h")
SECONDS = 60
PATH = int.from_bytes(abi.CAPTURE.pack(abi.STRING, abi.AT_ENTRY, abi.BY_NOTHING, 0, 0, 4096), "little")


@functools.cache
def numbers():
    """Numbers by name of this machine's calls, as the C library's headers have them."""
    for path in _HEADERS:
        try:
            with open(path, encoding="ascii") as file:
                return {name: int(number) for name, number in _NUMBER.findall(file.read())}
        except OSError:
            continue
    raise FileNotFoundError(_HEADERS)


def plan(*captures):
    """A ``struct tr_plan``: told and counted, with these captures."""
    words = [*captures, *[0] * (abi.ARGS - len(captures))]
    return abi.PLAN.pack(1, 0, 0, 0, 1, *words)


def tracer(plans, **settings):
    """A tracer of the calls of `plans`, by name."""
    return Tracer(Settings(**settings), {numbers()[name]: made for name, made in plans.items()})


@contextlib.contextmanager
def command(*arguments):
    """`pidwarden trace`, once it traces those who are there. It has to end by itself, when all of them have ended."""
    argv = [sys.executable, "-m", "pidwarden", "trace", *map(str, arguments)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as trace:
        try:
            assert any(" traces " in line for line in iter(trace.stderr.readline, ""))
            yield
            rest = trace.communicate(timeout=SECONDS)[1]
            assert (trace.returncode, "lost" in rest) == (0, False), rest
        finally:
            trace.kill()
