"""The way back from a change, and limits changed by name, on machines made of files."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import V2, Machine

from pidwarden.errors import NoPermission, NotPossible, PidwardenError, UsageError
from pidwarden.rescue import limits, sysfiles
from pidwarden.rescue.ledger import Ledger

PID_MAX = "sys/kernel/pid_max"


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.cgroups([V2], [])
    made.inside(os.getpid(), "0::/own/deep")
    for name in ("cg/a", "cg/own/deep"):
        made.pids(name, 5, 100)
    return made


@pytest.fixture
def ledger():
    return Ledger(now=lambda: 1_500_000_000)


def write(machine, ledger, path, value, **options):
    return sysfiles.write(str(path), value, ledger, str(machine.proc), **options)


def text(path):
    return path.read_text().rstrip("\n")


# -- the way back ------------------------------------------------------------------------------------------------------


def test_changes_are_taken_back_in_reverse(machine, ledger):
    for value in ("40000", "50000"):
        write(machine, ledger, machine.proc / PID_MAX, value)
    ledger.undo()
    assert text(machine.proc / PID_MAX) == "40000"
    ledger.undo()
    assert text(machine.proc / PID_MAX) == "32768"
    with pytest.raises(PidwardenError, match="there is none"):
        ledger.undo()


def test_what_somebody_else_changed_since_is_taken_back_by_force_only(machine, ledger):
    write(machine, ledger, machine.proc / PID_MAX, "40000")
    machine.write(f"proc/{PID_MAX}", "41000\n")
    with pytest.raises(PidwardenError, match=r"it holds 41000 and not, as we left it, 40000: .* `undo --force`"):
        ledger.undo()
    assert text(machine.proc / PID_MAX) == "41000"
    assert ledger.undo(force=True) == [f"{machine.proc / PID_MAX}: 41000 -> 32768, as it was"]


def test_what_is_gone_needs_no_undo(machine, ledger):
    path = machine.root / "cg/a/pids.max"
    write(machine, ledger, path, "7")
    path.unlink()
    assert ledger.undo() == [f"{path} is gone: there is nothing to take back"]
    assert ledger.lines()[0].endswith("(taken back)")


def test_what_cannot_be_undone_is_passed_over(machine, ledger):
    write(machine, ledger, machine.proc / PID_MAX, "40000")
    machine.write("cg/a/cgroup.kill", "")
    write(machine, ledger, machine.root / "cg/a/cgroup.kill", "1", once=True)
    ledger.undo()
    assert text(machine.proc / PID_MAX) == "32768"


class Stubborn:
    """A place that makes something else of what is written, or refuses it."""

    name = "stubborn"

    def __init__(self, makes, refuses=None):
        self.value, self._makes, self._refuses = "1", makes, refuses

    def read(self):
        return self.value

    def write(self, value):
        if self._refuses:
            raise self._refuses
        self.value = self._makes(value)


def test_what_the_kernel_makes_of_a_value_is_said_and_is_what_is_expected_later(ledger):
    place = Stubborn(lambda value: str(int(value) // 4 * 4))
    assert "1 -> 4; the kernel made that of 7" in ledger.put(place, "7")[0]
    assert ledger.undo() == ["stubborn: wrote 1 back, but the kernel made 0 of it"]


def test_a_refused_change_is_not_entered(ledger):
    with pytest.raises(NoPermission):
        ledger.put(Stubborn(str, NoPermission("no")), "7")
    assert ledger.changes == []


def test_a_change_is_entered_before_it_is_made(ledger):
    """Ctrl-C between the two must not lose the way back."""
    with pytest.raises(KeyboardInterrupt):
        ledger.put(Stubborn(str, KeyboardInterrupt()), "7")
    assert [(c.old, c.new) for c in ledger.changes] == [("1", "7")]


def test_values_in_the_ledger_cannot_write_to_the_terminal(ledger):
    ledger.put(Stubborn(str), "\x1b[2J")
    assert all(line.isprintable() for line in ledger.lines())


# -- limits by name ----------------------------------------------------------------------------------------------------


def put(machine, ledger, name, value):
    return limits.put(name, value, ledger, str(machine.proc))


def test_limits_are_changed_by_name(machine, ledger):
    put(machine, ledger, "pid_max", "40000")
    put(machine, ledger, "threads-max", "16000")
    put(machine, ledger, "pids.max:/a", "50")
    put(machine, ledger, "pids.max:/a", "max")
    found = [text(machine.root / n) for n in (f"proc/{PID_MAX}", "proc/sys/kernel/threads-max", "cg/a/pids.max")]
    assert found == ["40000", "16000", "max"]
    for _n in range(4):
        ledger.undo()
    found = [text(machine.root / n) for n in (f"proc/{PID_MAX}", "proc/sys/kernel/threads-max", "cg/a/pids.max")]
    assert found == ["32768", "15000", "100"]


def test_numbers_that_go_together_are_changed_in_order(machine, ledger):
    for n, value in enumerate((128, 512, 1024), 1):
        machine.write(f"proc/sys/net/ipv4/neigh/default/gc_thresh{n}", f"{value}\n")
    said = put(machine, ledger, "arp.gc_thresh", "4096")
    assert [line.partition(":")[0][-1] for line in said] == ["3", "2", "1"]
    for _n in range(3):
        ledger.undo()
    folder = machine.proc / "sys/net/ipv4/neigh/default"
    assert [text(folder / f"gc_thresh{n}") for n in (1, 2, 3)] == ["128", "512", "1024"]


@pytest.mark.parametrize("name", ["nothing", "nproc:", "nproc:x", "nproc:0", "nproc:-1", "nproc:²", "pids.max", ""])
def test_a_limit_that_there_is_not(machine, ledger, name):
    with pytest.raises(UsageError, match="is no limit; type one of pid_max"):
        put(machine, ledger, name, "5")


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "²", "9" * 30])
def test_a_value_that_is_none(machine, ledger, value):
    with pytest.raises(UsageError, match="takes a number"):
        put(machine, ledger, "pid_max", value)


@pytest.mark.parametrize("value", ["345", "1", "max", "4194305"])
def test_the_whole_table_is_not_closed(machine, ledger, value):
    with pytest.raises(UsageError, match="above the 345 tasks there are, and at most 4194304"):
        put(machine, ledger, "pid_max", value)


def test_a_cgroup_may_be_closed(machine, ledger):
    put(machine, ledger, "pids.max:/a", "0")
    assert text(machine.root / "cg/a/pids.max") == "0"


@pytest.mark.parametrize("name", ["pids.max:/nosuch", "pids.max:/../../etc"])
def test_a_cgroup_that_is_not_there(machine, ledger, name):
    with pytest.raises(PidwardenError, match=r"No such file|has no `\.\.`"):
        put(machine, ledger, name, "5")


def test_a_cgroup_without_a_slash(machine, ledger):
    with pytest.raises(UsageError, match="begins with a slash"):
        put(machine, ledger, "pids.max:a", "5")


def test_a_machine_without_cgroups(machine, ledger):
    machine.cgroups([], [])
    with pytest.raises(NotPossible, match="no cgroups are mounted"):
        put(machine, ledger, "pids.max:/a", "5")


def test_a_process_that_is_gone(machine, ledger):
    with pytest.raises(PidwardenError, match="process 4194305: it is gone"):
        put(machine, ledger, "nproc:4194305", "5")


def test_the_limits_of_a_process_by_the_names_that_change_them(machine):
    machine.process(500, uid=1000)
    machine.nproc(500, 100, 200)
    machine.inside(500, "0::/a")
    assert limits.read(500, str(machine.proc)) == [
        "32768  pid_max",
        "15000  threads-max",
        "  100  nproc:500 (at most 200 without CAP_SYS_RESOURCE)",
        "  100  pids.max:/a (5 used)",
    ]


def test_the_limits_of_a_process_that_is_gone(machine):
    with pytest.raises(PidwardenError, match="process 77: it is gone"):
        limits.read(77, str(machine.proc))


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 22))
def test_more_is_more_but_not_more_than_there_can_be(allowed, most):
    assert allowed <= limits.more_tasks(allowed, most) <= max(most, allowed)
    assert limits.more_bytes(allowed) % 4096 == 0
    assert limits.more_bytes(allowed) > allowed
