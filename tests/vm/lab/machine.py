"""One virtual machine: booted for a list of tests, heard until its end, killed if it does not come to one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from lab import image
from lab.errors import LabError, Unavailable
from lab.kernels import cache

if TYPE_CHECKING:
    from types import TracebackType

    from lab.kernels import Kernel

QEMU = "qemu-system-x86_64"
BOOT_SECONDS = 180.0  # seen: 10 alone; a neighbour's tests on the same two processors make it several times that
_TAIL = 30  # lines of the serial log that go into an error
# A processor that has been in one place for two minutes will not leave it.
_COMMAND_LINE = "console=ttyS0 loglevel=5 panic=-1 oops=panic softlockup_panic=1 watchdog_thresh=60 pidwarden.lab=1"
# Without cmpxchg16b: just after one Linux 6.12 died at boot, with EFLAGS c1979e5a beside RAX ff312357c1979e58, and in a
# fork with EFLAGS 857806a6. No processor has such flags. That this instruction is why is likely, not proven.
_CPU = "max,cx16=off"
_LOOK_AGAIN = 0.05
_numbers = itertools.count(1)


class Died(LabError):  # noqa: N818  (what it did)
    """The machine ended, or had to be ended, before it had said everything."""


class Hardware(NamedTuple):
    """What the machine is made of."""

    cpus: int = 2
    memory: int = 1024  # MiB
    append: str = ""  # to the kernel's command line


def emulator() -> str:
    """The path of QEMU.

    Raises:
        Unavailable: it is not installed.
    """
    found = shutil.which(QEMU)
    if not found:
        msg = f"{QEMU} is not on this machine; type `make setup`, or `apt-get install qemu-system-x86`"
        raise Unavailable(msg)
    return found


class Machine:
    """A machine from ``with`` to its end. The serial log stays if :attr:`keep` is set or it did not end by itself."""

    def __init__(  # noqa: PLR0913  (what a boot is, each by name)
        self,
        kernel: Kernel,
        hardware: Hardware,
        arguments: list[str],
        *,
        wanted: list[str] | None = None,
        environment: dict[str, str] | None = None,
        shell: bool = False,
    ) -> None:
        self._emulator = emulator()
        self.kernel, self.hardware, self.keep = kernel, hardware, False
        logs = cache() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        stem = f"{kernel.name.rpartition('/')[2]}-{os.getpid()}-{next(_numbers)}"
        self.log, self._results, self._initrd = (str(logs / f"{stem}.{end}") for end in ("log", "jsonl", "initramfs"))
        self._environment = {"PIDWARDEN_REQUIRE": "root,bpf", "PIDWARDEN_IN_GUEST": "1"} | (environment or {})
        self._job = json.dumps(
            {"arguments": arguments, "wanted": wanted or [], "environment": self._environment, "shell": shell}
        ).encode()
        self._shell = shell
        self._at = 0
        self._ended = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        shutil.copyfile(image.build(), self._initrd)
        with open(self._initrd, "ab") as out:
            out.write(image.job(self._job))
        with open(self._results, "wb"):
            pass
        serial = "mon:stdio" if self._shell else f"file:{self.log}"
        command = [self._emulator, "-accel", "tcg,thread=multi", "-cpu", _CPU, "-smp", str(self.hardware.cpus)]
        command += ["-m", str(self.hardware.memory), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-kernel", str(self.kernel.image), "-initrd", self._initrd, "-serial", serial]
        command += ["-serial", f"file:{self._results}", "-append", f"{_COMMAND_LINE} {self.hardware.append}".strip()]
        out_to = None if self._shell else subprocess.DEVNULL
        in_from = None if self._shell else subprocess.DEVNULL
        err_to = None if self._shell else subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=in_from, stdout=out_to, stderr=err_to)
        return self

    def hear(self, seconds: float) -> dict[str, Any] | None:
        """The next event, None after the last one.

        Raises:
            Died: it ended without a word, or said nothing for so many seconds and was ended.
        """
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while True:
            over = self._process.poll() is not None  # asked before reading: what it said last is not lost
            with open(self._results, "rb") as file:
                file.seek(self._at)
                line = file.readline()
            if line.endswith(b"\n"):
                self._at += len(line)
                event: dict[str, Any] = json.loads(line)
                self._ended = event["event"] == "end"
                return event
            if self._ended:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(20)
                return None
            if over:
                raise Died(self._obituary("ended before its tests did (a panic? out of memory?)"))
            if time.monotonic() > deadline:
                raise Died(self._obituary(f"said nothing for {seconds:.0f} s (it hangs?) and was ended"))
            time.sleep(_LOOK_AGAIN)

    def wait(self) -> None:
        """Until it is turned off; for a shell."""
        assert self._process is not None
        self._process.wait()

    def _obituary(self, what: str) -> str:
        self.keep = True
        said = ""
        assert self._process is not None
        if self._process.poll() and self._process.stderr:
            said = f"\n{QEMU} said: {self._process.stderr.read().decode(errors='replace')}"
        with contextlib.suppress(OSError), open(self.log, encoding="utf-8", errors="backslashreplace") as file:
            said += "\n" + "".join(f"    {line.rstrip()}\n" for line in file.read().splitlines()[-_TAIL:])
        return f"the machine with {self.kernel.release} {what}. Its serial log is {self.log}, and ends:{said}"

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            if self._process.stderr:
                self._process.stderr.close()
        gone = [self._initrd, self._results]
        for path in gone if self.keep or not self._ended else [*gone, self.log]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
