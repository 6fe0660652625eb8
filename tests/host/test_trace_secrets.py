"""What a trace shows of secrets: nothing, unless it is asked for, and then all of it."""

from __future__ import annotations

import re
import stat
import sys

import pytest
from cli_kit import pidwarden_cli

pytestmark = [pytest.mark.root, pytest.mark.bpf]

# Each place has a secret of its own, which is put together in the program: else a trace would find it in the program.
_PROGRAM = """
import ctypes, os, socket, sys
from pathlib import Path
folder = Path(sys.argv[1])
def secret(where): return "Zq7" + where.upper() + "9k"
def tried(call, *arguments):
    try: return call(*arguments)
    except OSError: return None
libc = ctypes.CDLL(None)
tried(os.open, f"/tmp/password={secret('path')}", os.O_RDONLY)
tried(os.stat, f"/var/lib/token_{secret('stat')}/x")
named = folder / f"secret_{secret('old')}"
named.mkdir(); named = named.rename(folder / f"token-{secret('new')}"); os.chdir(named); os.getcwd(); os.chdir("/")
os.symlink(f"/srv/api-key-{secret('target')}", folder / "link"); os.readlink(folder / "link")
opened = os.open(folder / f"passwd={secret('opened')}", os.O_RDWR | os.O_CREAT); os.fstat(opened); os.close(opened)
libc.prctl(15, f"pw={secret('comm')}".encode())
if not os.fork():
    os.execve("/bin/true", ["true", "--password", secret("argv"), f"--token={secret('option')}", "-ujoe",
              f"https://joe:{secret('url')}@host/"], {"DB_PASSWORD": secret("env"), "PLAIN": secret("plainenv")})
os.wait()
out, into = os.pipe()
os.write(into, f"user=joe&password={secret('write')}&x=1\\n".encode()); os.read(out, 99)
os.write(into, b"API_KEY="); os.write(into, f"{secret('split')}\\n".encode()); os.read(out, 99)
os.writev(into, [b"Authorization: Bear", f"er {secret('vector')}\\r\\n".encode()])
os.readv(out, [bytearray(5), bytearray(90)])
os.write(into, f"{secret('bare')}\\n".encode()); os.read(out, 99)
one, two = socket.socketpair()
one.sendmsg([f'{{"token": "{secret("message")}"}}'.encode()]); two.recvmsg(99)
two.send(b"331 Password: "); one.recv(99); one.send(f"{secret('answer')}\\r\\n".encode()); two.recv(99)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.sendto(f"Cookie: session={secret('sendto')}\\r\\n".encode(), ("127.0.0.1", 9))
local = socket.socket(socket.AF_UNIX); tried(local.connect, f"/run/token_{secret('connect')}.sock")
tried(local.bind, f"{folder}/secret_{secret('bind')}")
tried(os.setxattr, folder, "user.password", secret("xattr").encode())
os.close(os.memfd_create(f"token={secret('memfd')}"))
"""
_NAMED = (
    "path", "stat", "old", "new", "target", "opened", "comm", "argv", "option", "url", "connect", "bind", "memfd",
)  # fmt: skip
_CARRIED = ("write", "split", "vector", "message", "answer", "sendto")
_WITHOUT_DATA = ("bare", "xattr")  # nothing says that they are secrets: shown if data is asked for

_FILE = ("-o", "out")
_MODES = {
    "text": (), "file": _FILE, "json": ("--json",), "counts": ("-c", "--by-process"), "both": ("-C",),
    "paths": (*_FILE, "-y", "-T", "-tt"), "data": ("--data",), "data-json": ("--data", "--json", *_FILE),
}  # fmt: skip


def traced(folder, *options):
    """All that a trace of the program says, and what it wrote into its file."""
    program, out = folder / "program.py", folder / "out"
    program.write_text(_PROGRAM)
    (folder / "place").mkdir()
    command = [sys.executable, "-S", program, folder / "place"]
    done = pidwarden_cli("trace", "-s", "200", *options, "--", *command, cwd=folder)
    assert done.returncode == 0, done.stderr
    if "-o" in options:
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        return done.stdout + done.stderr + out.read_text()
    return done.stdout + done.stderr


def secrets_in(text):
    """The places whose secrets are in there, or a part of them."""
    return {found.lower() for found in re.findall(r"Zq7([A-Z]+)", text)}


@pytest.mark.parametrize("mode", _MODES)
def test_no_secret_is_shown(mode, tmp_path):
    said = traced(tmp_path, *_MODES[mode])
    assert "execve" in said
    assert "sendto" in said
    assert secrets_in(said) == (set(_WITHOUT_DATA) if "--data" in _MODES[mode] else set())
    if mode == "data":
        assert re.search(r"user=joe&password=(<redacted>|\*+)&x=1", said)


def test_all_is_shown_if_that_is_asked_for(tmp_path):
    said = traced(tmp_path, "--data", "--no-redact", *_FILE)
    assert secrets_in(said) == {*_NAMED, *_CARRIED, *_WITHOUT_DATA}  # what the environment holds is never read
    assert "--no-redact: " in said


def test_data_is_not_shown_without_being_asked_for(tmp_path):
    assert secrets_in(traced(tmp_path, "--no-redact")) == set(_NAMED)
