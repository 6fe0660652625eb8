"""Every test that a virtual machine runs is an item of pytest on the host: it fails here with the text it has there."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lab import kernels
from lab.errors import LabError, Unavailable
from lab.kernels import ROOT
from lab.machine import BOOT_SECONDS, Died, Machine
from lab.plan import NOT_IN_GUEST, RUNS, Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PLAN = "plan.py"
GUEST_SECONDS = 300.0  # for one test in the guest; an emulated processor takes ten times as long
_SLACK = 60.0  # for pytest in the guest to import, or to notice and report its own timeout
_NO_PROCESSOR = re.compile(r"EFLAGS: (?!00)[0-9a-f]{8}")  # bits 24 to 31 are always 0
# What a stalled processor was at, and the byte of its code that it stood before.
_STALLED = re.compile(r"RIP: 0010:(\S+)\n(?:.*\n)?.*Code: [0-9a-f ]*<([0-9a-f]{2})> ([0-9a-f]{2})")
_NOPS = (
    ("66", "90"),
    ("0f", "1f"),
    ("90", "90"),
)  # they do nothing: jump labels, which the kernel patches
_STALLS = 3  # reports, a minute from each other
_BOOTS_WITHOUT_A_RESULT = 2  # then the machine is broken and nothing else of it is tried


class Failed(Exception):  # noqa: N818  (as pytest says it)
    """What a test said in the guest, or what became of the machine."""


class Runner:
    """The machine of one run: booted when the first of its tests is due, and again if one of them takes it down."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.tests: list[str] = []
        self._results: dict[str, dict[str, Any]] = {}
        self._machine: Machine | None = None
        self._started: str | None = None
        self._progress, self._idle_boots = False, 0
        self._broken = self._failed_boot = ""
        self._lost_at: dict[str, str] = {}

    def result(self, test: str) -> dict[str, Any]:
        """What became of a test; waits until it has run.

        Raises:
            LabError: no machine could be booted for it.
        """
        while test not in self._results:
            if self._machine is None:
                self._boot()
            self._listen(test)
        if self._machine is not None and self._results.keys() >= set(self.tests):
            self._hear_the_end()
        return self._results[test]

    def _boot(self) -> None:
        waiting = [t for t in self.tests if t not in self._results]
        files = dict.fromkeys(t.partition("::")[0] for t in waiting)
        arguments = ["-o", f"timeout={GUEST_SECONDS}", *files]
        machine = Machine(kernels.find(self.run.kernel), self.run.hardware, arguments, wanted=waiting)
        self._machine = machine.__enter__()
        self._started, self._progress = None, False

    def _listen(self, wanted: str) -> None:
        """Takes one event in; a machine that died fails the test it was at."""
        assert self._machine is not None
        try:
            event = self._machine.hear(BOOT_SECONDS if self._started is None else GUEST_SECONDS + _SLACK)
        except Died as why:
            self._lost(self._started, str(why)) if self._started else self._not_up(str(why))
            return
        match event:
            case None:
                self._lost(wanted, f"the guest did not run it. {self._broken}The serial log is {self._machine.log}")
            case {"event": "start", "test": name}:
                self._started = name
            case {"event": "broken", "where": where, "text": text}:
                self._machine.keep = True
                self._broken += f"It could not collect {where}:\n{text}\n"
            case {"event": "result", "test": name}:
                self._progress, self._idle_boots = True, 0
                if event["outcome"] == "failed":
                    self._machine.keep = True
                    kernel, log = self._machine.kernel.release, self._machine.log
                    event["text"] += f"\n--- in the machine {self.run.name}: {kernel}; its serial log is {log} ---"
                if self._failed_boot:
                    event["figures"]["a boot that failed before"], self._failed_boot = self._failed_boot, ""
                if name in self._lost_at:
                    event["figures"]["a machine that was lost at it before"] = self._lost_at[name]
                self._results[name] = event

    def _lost(self, test: str, why: str) -> None:
        """A test that has no result of its own; the others get another boot, unless booting is what does not work.

        So does it, once, and that is told, if the emulated processor failed: it shows flags that no processor can have,
        or stood for minutes before an instruction that does nothing.
        """
        if not self._progress:
            self._idle_boots += 1
        hopeless = self._idle_boots >= _BOOTS_WITHOUT_A_RESULT
        if self._emulator_failed(why) and test not in self._lost_at and not hopeless:
            self._lost_at[test] = why.partition("\n")[0]
            self.close()
            return
        for name in [t for t in self.tests if t not in self._results] if hopeless else [test]:
            self._results[name] = {"outcome": "failed", "text": why, "figures": {}}
        self.close()

    def _emulator_failed(self, why: str) -> bool:
        if _NO_PROCESSOR.search(why):
            return True
        assert self._machine is not None
        with contextlib.suppress(OSError), open(self._machine.log, encoding="utf-8", errors="replace") as log:
            return stands_still(log.read())
        return False

    def _not_up(self, why: str) -> None:
        """A boot that came to no test says nothing about one: tried again, and told with the next result."""
        if self._idle_boots + 1 >= _BOOTS_WITHOUT_A_RESULT:
            self._lost(self.tests[0], why)
            return
        self._idle_boots += 1
        self._failed_boot = why.partition("\n")[0]
        self.close()

    def _hear_the_end(self) -> None:
        assert self._machine is not None
        try:
            while self._machine.hear(_SLACK) is not None:
                pass
        except Died:
            pass  # it has said all we wanted to know
        self.close()

    def close(self) -> None:
        """Ends the machine, if there is one."""
        if self._machine is not None:
            self._machine.__exit__(None, None, None)
            self._machine = None


def stands_still(log: str) -> bool:
    """Whether a processor stood before one and the same instruction that does nothing whenever the kernel looked."""
    found = _STALLED.findall(log)
    return len(found) >= _STALLS and len(set(found)) == 1 and found[0][1:] in _NOPS


class PlanFile(pytest.File):
    """lab/plan.py as a file of tests."""

    def collect(self) -> Iterator[pytest.Item]:
        known = _collected(["tests/contract", "tests/host", "tests/vm/guest"])
        for run in RUNS:
            runner = Runner(run)
            for test in known:
                if run.wants(test):
                    yield GuestItem.from_parent(self, name=f"{run.name}[{test}]", runner=runner, test=test)
        for path, reason in NOT_IN_GUEST.items():
            yield Elsewhere.from_parent(self, name=f"not-in-a-guest[{path}]", reason=reason)


def _collected(paths: list[str]) -> list[str]:
    """The ids of the tests in some files of this tree, as pytest in the guest will know them."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        *paths,
    ]
    environment = os.environ | {"PIDWARDEN_IN_GUEST": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}"
        raise pytest.UsageError(msg)
    return [line for line in done.stdout.splitlines() if "::" in line]


class GuestItem(pytest.Item):
    """One test in one machine."""

    def __init__(self, *, runner: Runner, test: str, **more: Any) -> None:
        super().__init__(**more)
        self._runner, self._test = runner, test
        self.add_marker(pytest.mark.vm)
        self.add_marker(pytest.mark.timeout(0))  # the guest has its own, and its silence is bounded by `hear`

    def setup(self) -> None:
        if not self._runner.tests:
            items = (i for i in self.session.items if isinstance(i, GuestItem) and i._runner is self._runner)
            self._runner.tests = [i._test for i in items]

    def runtest(self) -> None:
        try:
            result = self._runner.result(self._test)
        except Unavailable as why:
            if "vm" in os.environ.get("PIDWARDEN_REQUIRE", "").split(","):
                raise Failed(f"PIDWARDEN_REQUIRE=vm, but: {why}") from why
            pytest.skip(str(why))
        except LabError as why:
            raise Failed(str(why)) from why
        self.user_properties += [(f"{self._runner.run.name}: {k}", v) for k, v in result["figures"].items()]
        if result["outcome"] == "failed":
            raise Failed(result["text"])
        if result["outcome"] == "skipped":
            pytest.skip(f"in the guest: {result['text']}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, Failed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name


class Elsewhere(pytest.Item):
    """A test of the host that no machine runs: named, with the reason."""

    def __init__(self, *, reason: str, **more: Any) -> None:
        super().__init__(**more)
        self._reason = reason

    def runtest(self) -> None:
        pytest.skip(self._reason)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> PlanFile | None:
    return PlanFile.from_parent(parent, path=file_path) if file_path.name == _PLAN else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    for item in session.items:
        if isinstance(item, GuestItem):
            item._runner.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures that tests in the machines recorded."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, []) if r.when == "call"]
    lines = [f"{r.nodeid.rpartition('::')[2]}  {name} = {value}" for r in reports for name, value in r.user_properties]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join([*lines, ""]))
