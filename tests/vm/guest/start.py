"""The first program of the virtual machine: runs the tests it was booted for and tells the host how each one went.

What it says goes to the second serial line, one JSON object a line, so that kernel messages and results do not mix.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import termios
import tty
from pathlib import Path
from typing import Any

HOME = Path("/pidwarden")
_LONGEST = 20_000  # characters of one text; a serial line is slow


class Channel:
    """The way to the host."""

    def __init__(self, path: str = "/dev/ttyS1") -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(self._fd)

    def say(self, event: str, **more: Any) -> None:
        """One event."""
        data = json.dumps({"event": event, **more}).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]
        termios.tcdrain(self._fd)


class Plugin:
    """Sends what pytest finds out."""

    def __init__(self, channel: Channel, wanted: list[str]) -> None:
        self._channel, self._wanted = channel, wanted
        self._reports: list[Any] = []
        self._instead: dict[str, list[str]] = {}
        self._outcomes: dict[str, tuple[str, str]] = {}

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """Keeps what the host asked for. A case that only the host has is stood for by those that only this
        machine has: the cases of some tests are the cgroup hierarchies that there are.
        """
        if not self._wanted:
            return
        here, asked = {item.nodeid for item in items}, set(self._wanted)
        for test in [t for t in self._wanted if t not in here]:
            self._instead[test] = sorted(i for i in here - asked if i.partition("[")[0] == test.partition("[")[0])
        kept = asked.union(*self._instead.values())
        config.hook.pytest_deselected(items=[i for i in items if i.nodeid not in kept])
        items[:] = [i for i in items if i.nodeid in kept]

    def pytest_sessionfinish(self) -> None:
        for test, others in self._instead.items():
            ran = {o: self._outcomes[o] for o in others if o in self._outcomes}
            outcomes = {outcome for outcome, _text in ran.values()} or {"skipped"}
            outcome = next(o for o in ("failed", "passed", "skipped") if o in outcomes)
            text = "".join(f"{o}: {said}\n" for o, (how, said) in ran.items() if how == outcome)
            text = text or "this case depends on the machine, and there is none like it here"
            self._channel.say("result", test=test, outcome=outcome, text=text, seconds=0, figures={})

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._channel.say("broken", where=report.nodeid, text=report.longreprtext[-_LONGEST:])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._reports = []
        self._channel.say("start", test=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._reports.append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        decisive = next((r for r in self._reports if r.failed), None) or next(
            (r for r in self._reports if r.skipped), self._reports[-1]
        )
        text = decisive.longreprtext
        if decisive.skipped:
            text = decisive.longrepr[2] if isinstance(decisive.longrepr, tuple) else getattr(decisive, "wasxfail", "")
        elif decisive.failed:
            text += "".join(f"\n--- {title} ---\n{body}" for title, body in decisive.sections)
        self._outcomes[nodeid] = decisive.outcome, text
        self._channel.say(
            "result",
            test=nodeid,
            outcome=decisive.outcome,
            phase=decisive.when,
            text=text[-_LONGEST:],
            seconds=round(sum(r.duration for r in self._reports), 1),
            figures=dict(decisive.user_properties),
        )


def main() -> None:
    channel = Channel()
    job = json.loads((HOME / "job.json").read_text())
    with open("/proc/uptime", encoding="ascii") as uptime:
        seconds = float(uptime.read().split()[0])
    channel.say("up", kernel=os.uname().release, seconds=seconds)
    # Where tests/host/kit.py keeps compiled props; there is no compiler here.
    shutil.copytree(HOME / "props", f"/tmp/pidwarden-props-{os.getuid()}")
    os.environ.update(job["environment"])
    os.chdir(HOME)
    if job.get("shell"):
        os.system("exec setsid -c bash -i </dev/ttyS0 >/dev/ttyS0 2>&1")
        return
    import pytest  # noqa: PLC0415  (takes seconds here, and the host waits for a sign of life)

    code = pytest.main(["-p", "no:cacheprovider", *job["arguments"]], plugins=[Plugin(channel, job["wanted"])])
    sys.stdout.flush()
    channel.say("end", code=int(code))


if __name__ == "__main__":
    main()
