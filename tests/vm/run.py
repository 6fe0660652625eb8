#!/usr/bin/env python3
"""Runs tests in a virtual machine: ``tests/vm/run.py [--kernel 6.1] [--append lsm=…] -- PYTEST ARGUMENTS``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

_PYTHON = Path(__file__).resolve().parents[2] / ".venv/bin/python"
if __name__ == "__main__" and _PYTHON.exists() and Path(sys.prefix) != _PYTHON.parents[1]:
    os.execv(_PYTHON, [_PYTHON, *sys.argv])  # the guest gets the interpreter and the packages that run this

sys.path.insert(0, str(Path(__file__).parent))
from lab import kernels, table  # noqa: E402
from lab.errors import LabError  # noqa: E402
from lab.machine import BOOT_SECONDS, Hardware, Machine  # noqa: E402

_SILENCE = 600.0


def main(argv: list[str]) -> int:
    """The exit code: 0 all passed, 1 something failed, 4 the lab cannot run here."""
    parser = argparse.ArgumentParser(prog="tests/vm/run.py", description=__doc__)
    known = ", ".join(f"{s} ({v})" if v else s for s, v in kernels.SUITES.items())
    parser.add_argument("--kernel", default=kernels.DEFAULT, help=f"{known}, or an image's path (%(default)s)")
    parser.add_argument("--append", default="", help="more for the kernel's command line, such as lsm=landlock,bpf")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=1024, help="MiB (%(default)s)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one test in the guest (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the serial log of a run that went well, too")
    parser.add_argument("--shell", action="store_true", help="a shell instead of tests; `exit` turns the machine off")
    parser.add_argument("--every-kernel", action="store_true", help="boot each kernel there is, and print a table")
    parser.add_argument("tests", nargs="*", help="pytest's arguments, after --; paths as in this tree")
    given = parser.parse_args(argv)
    if given.every_kernel:
        return table.show()
    hardware = Hardware(given.cpus, given.memory, given.append)
    arguments = ["-o", f"timeout={given.timeout}", *(given.tests or ["tests/host/test_gate.py"])]
    try:
        with Machine(kernels.find(given.kernel), hardware, arguments, shell=given.shell) as machine:
            if given.shell:
                machine.wait()
                return 0
            machine.keep = given.keep
            return _follow(machine, given.timeout)
    except LabError as why:
        print(f"tests/vm/run.py: {why}", file=sys.stderr)
        return 4


def _follow(machine: Machine, timeout: float) -> int:
    """Shows what the machine says."""
    bad = 0
    seconds = BOOT_SECONDS
    while (event := machine.hear(seconds)) is not None:
        seconds = timeout + 60
        match event["event"]:
            case "up":
                print(f"kernel {event['kernel']}, up after {event['seconds']} s", flush=True)
            case "result":
                print(f"{event['outcome']:7} {event['seconds']:6.1f} s  {event['test']}", flush=True)
                for name, value in event["figures"].items():
                    print(f"                  {name}: {value}")
                if event["outcome"] != "passed":
                    print("    " + event["text"].replace("\n", "\n    "), flush=True)
                bad += event["outcome"] == "failed"
            case "broken":
                print(f"cannot collect {event['where']}:\n{event['text']}")
                bad += 1
            case "end":
                bad = bad or event["code"]
    if bad:
        machine.keep = True
    if machine.keep:
        print(f"the serial log is {machine.log}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
