"""Every kernel there is: whether the kernel side loads, which gate is used, and what is missing."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

from lab import kernels
from lab.errors import LabError
from lab.machine import BOOT_SECONDS, Hardware, Machine

_TEST_SECONDS = 200.0
_BOOTS = 2  # an emulated machine now and then fails to boot; twice in a row is the kernel's
_WIDTH = 110


class Row(NamedTuple):
    """One kernel."""

    suite: str
    kernel: str
    loads: str
    contained: str
    gate: str
    missing: tuple[str, ...]


def show() -> int:
    """Boots each kernel in turn and prints the table; 1 if one that loads the kernel side does not contain a bomb."""
    rows = []
    for suite in kernels.SUITES:
        for _boot in range(_BOOTS):
            try:
                found = _row(suite)
                break
            except LabError as why:
                found = Row(suite, "-", "?", "?", "-", (str(why),))
        rows.append(found)
        row = rows[-1]
        print(f"{row.suite:19} {row.kernel:30} loads {row.loads:4} bombs contained {row.contained:6} {row.gate}")
        for text in row.missing:
            print(textwrap.fill(text, _WIDTH, initial_indent="    - ", subsequent_indent="      "))
    return int(any(r.loads == "yes" and len(set(r.contained.split("/"))) > 1 for r in rows))


def _row(suite: str) -> Row:
    events = []
    arguments = ["-o", f"timeout={_TEST_SECONDS}", "tests/vm/guest/test_smoke.py"]
    with Machine(kernels.find(suite), Hardware(), arguments) as machine:
        while (event := machine.hear(BOOT_SECONDS + _TEST_SECONDS)) is not None:
            events.append(event)
    return row(suite, machine.kernel.release, [e for e in events if e["event"] == "result"])


def row(suite: str, release: str, results: list[dict[str, Any]]) -> Row:
    """A line out of what the tests of test_smoke.py said."""
    figures = {name: value for r in results for name, value in r["figures"].items()}
    bombs = [r["outcome"] == "passed" for r in results if "bomb" in r["test"]]
    loads = any(r["outcome"] == "passed" for r in results if "loads" in r["test"])
    missing = [f"{name}: {value}" for name, value in figures.items() if name.startswith("not ")]
    if not loads:
        missing += [f"libbpf: {_decisive(figures.get('libbpf', []))}"]
    return Row(
        suite,
        release,
        "yes" if loads else "no",
        f"{sum(bombs)}/{len(bombs)}" if loads else "-",
        figures.get("gate", "-"),
        tuple(missing),
    )


def _decisive(lines: list[str]) -> str:
    """The lines of libbpf's that say why: what the verifier refused, or which step of loading failed."""
    wanted = ("unknown func", "invalid", "failed", "not supported", "unreachable", "R0", "cannot", "not allowed")
    found = [line.strip() for line in lines if any(word in line for word in wanted)]
    return " | ".join(found[:6] or lines[-3:] or ["nothing"])
