"""The generated tables say what the kernel's headers on this machine say."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

from pidwarden.trace import constants, ioctls, sockconstants
from pidwarden.trace.numbers import CALLS

_HEADERS = {
    "/usr/include/x86_64-linux-gnu/asm/unistd_64.h": CALLS["x86_64"][0],
    "/usr/include/x86_64-linux-gnu/asm/unistd_32.h": CALLS["x86_64"][1],
}


@pytest.mark.parametrize("path", _HEADERS)
def test_numbers_are_those_of_the_headers(path):
    if not Path(path).exists():
        pytest.skip("other headers")
    pairs = re.findall(r"^#define __NR_(\w+) (\d+)$", Path(path).read_text(), re.MULTILINE)
    header = {int(number): name for name, number in pairs}
    assert len(header) > 300
    assert {n: _HEADERS[path][n] for n in header} == header


def test_numbers_of_other_machines():
    header = Path("/usr/include/asm-generic/unistd.h")
    if not header.exists():
        pytest.skip("no headers")
    pairs = re.findall(r"^#define __NR_(\w+) (\d+)$", header.read_text(), re.MULTILINE)
    generic = {int(number): name for name, number in pairs if name != "syscalls"}
    for machine in ("aarch64", "riscv64"):
        own = CALLS[machine][0]
        assert {n: own[n] for n in generic.keys() & own.keys()} == {n: generic[n] for n in generic.keys() & own.keys()}


def test_x32_has_calls_of_its_own():
    assert CALLS["x86_64"][2][520] == "execve"
    assert CALLS["x86_64"][2][0] == "read"
    assert 520 not in CALLS["x86_64"][0]
    assert CALLS["aarch64"][1][3] == "read"


def test_constants_are_those_of_the_headers():
    if platform.machine() != "x86_64":
        pytest.skip("generated on x86_64")
    source = "#include <linux/sched.h>\n#include <linux/futex.h>\n#include <asm/ioctls.h>\n#include <asm/socket.h>\n"
    wanted = {
        "CLONE_PARENT_SETTID": constants.CLONE,
        "FUTEX_WAIT_BITSET_PRIVATE": constants.FUTEX,
        "TIOCGWINSZ": ioctls.IOCTL,
        "SO_PEERCRED": sockconstants.SOCKET_OPTION,
    }
    source += "".join(f"{name} = {name};\n".replace(name, f'"{name}"', 1) for name in wanted)
    done = subprocess.run(["gcc", "-E", "-P", "-"], input=source, capture_output=True, text=True, check=True)
    for name, table in wanted.items():
        expression = re.search(rf'"{name}" = (.*);', done.stdout)
        assert expression
        assert table[eval(expression[1])] == name
