"""All of it in a process that cannot fork, execute or start a thread, has two descriptors left, and may load nothing.

A cap of one task refuses the forks, seccomp kills whoever tries, and an audit hook ends it at the first import.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from guardkit import pen, start

import pidwarden

pytestmark = pytest.mark.root

SCRIPT = r"""
import ctypes, os, resource, struct, sys
from pidwarden.errors import PidwardenError
from pidwarden.rescue import limits, log, reboot, sysfiles, why
from pidwarden.rescue.ledger import Ledger
from pidwarden.kernel import kmsg

def tried(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except PidwardenError as why:
        said.append(str(why))

def everything():
    for _twice in range(2):
        said.extend(why.lines(why.look(os.getuid(), os.getpid())))
        ledger = Ledger()
        said.extend(limits.read(os.getpid()))
        pid_max = sysfiles.cat("/proc/sys/kernel/pid_max")[0]
        said.extend(sysfiles.write("/proc/sys/kernel/pid_max", pid_max, ledger))
        said.extend(limits.put(f"nproc:{os.getpid()}", str(resource.getrlimit(resource.RLIMIT_NPROC)[0]), ledger))
        said.extend(ledger.lines() + ledger.undo() + ledger.undo() + ledger.lines())
        for path in "/proc/self/status /proc/self/mounts /proc/1/environ /proc/1/root /dev/null /no x".split():
            said.extend(tried(sysfiles.cat, path) or ())
        tried(sysfiles.write, "/proc/sys/kernel/pid_max", "x\x1b\udcff", ledger)
        tried(sysfiles.write, "/etc/passwd", "x", ledger)
        tried(limits.put, "no\x1b\udcff", "5", ledger)
        tried(ledger.undo)
        said.extend(log.lines(tried(log.last, 20) or ()))
        said.extend(log.lines(tried(log.last, 20, device="/nosuch") or ()))
        answer = reboot.ask(reboot.Asked(), "", 1, reboot.lost())
        said.extend(answer.lines + reboot.sysrq())
        tried(reboot.reboot, lambda: 1, lambda: None)

def forbid():
    code = []
    for number in map(int, sys.argv[1].split(",")):
        code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x80000000)]  # equal: kill the process
    code = [(0x20, 0, 0, 0), *code, (0x06, 0, 0, 0x7FFF0000)]
    program = b"".join(struct.pack("HBBI", *step) for step in code)
    buffer = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("HP", len(code), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    assert libc.prctl(22, 2, ctypes.addressof(header), 0, 0) == 0, ctypes.get_errno()

def hook(event, arguments):
    if event in FORBIDDEN:
        os.write(2, f"{event} {arguments}\n".encode())
        os._exit(1)

FORBIDDEN = {"import", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen",
             "ctypes.dlopen", "_thread.start_new_thread", "socket.getaddrinfo"}
said = []
try:
    os.fork()
except BlockingIOError:
    pass
else:
    raise SystemExit("the fork was not refused")
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1 + int(sys.argv[2]), 4096))
before = set(sys.modules)
forbid()
sys.addaudithook(hook)
try:
    everything()
finally:
    grown = set(sys.modules) - before
    os.write(1, f"{len(said)} lines, {sorted(grown)}\n".encode())
    os.write(1, "\n".join(said).encode())
"""
# clone, fork, vfork, execve, execveat, clone3, by machine
CALLS = {"x86_64": "56,57,58,59,322,435", "aarch64": "220,221,281,435"}


@pytest.mark.parametrize("descriptors", [1, 2])
def test_nothing_is_forked_executed_or_loaded(descriptors):
    if platform.machine() not in CALLS:
        pytest.skip("the numbers of the calls are not known here")
    argv = [sys.executable, "-S", "-c", SCRIPT, CALLS[platform.machine()], str(descriptors)]
    environment = {"PYTHONPATH": str(Path(pidwarden.__file__).parent.parent)}
    with pen(1) as made:
        process = start(argv, made.enter, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    first, answer, *_rest = out.split("\n")
    assert first.endswith(" lines, []")
    assert answer == f"fork fails (EAGAIN) because pids.max of /{made.name} is reached, 1 of 1 used"
