"""The order of a ladder and its bounds; how a unit is restarted, and when it is not; what is said of what was taken."""

from __future__ import annotations

import os

import pytest
from kit import stat_of

from pidwarden.act import reap, unit
from pidwarden.act.inject import Injection, Taken
from pidwarden.cli import reaptext
from pidwarden.diagnose.cause import Cause
from pidwarden.diagnose.fixes import fix
from pidwarden.diagnose.remedies import Rung, Step
from pidwarden.kernel.dbus import DbusError
from pidwarden.model.key import TICK_NS, ProcessKey


def rung(step, target=7):
    return Rung(step, f"do {step}", "none", target)


def test_the_gentle_steps_come_first_and_each_once():
    mixed = [rung(Step.KILL), rung(Step.INJECT), rung(Step.NOTIFY), rung(Step.KILL), rung(Step.THAW, "/a")]
    found = reap.ordered([*mixed, rung(Step.INSPECT), rung(Step.CONTINUE)])
    assert [r.step for r in found] == ["inspect", "thaw", "sigcont", "sigchld", "inject", "sigkill"]


def test_every_step_that_is_taken_has_a_name_in_the_diagnosis():
    assert set(reap.STEPS) <= {str(s) for s in Step}
    assert set(reap.STEPS) > reap.ASKED


@pytest.mark.parametrize(
    ("bounds", "allowed"),
    [
        (reap.Bounds(), {"thaw", "sigcont", "sigchld"}),
        (reap.Bounds("thaw"), {"thaw"}),
        (reap.Bounds(inject=True), {"thaw", "sigcont", "sigchld", "inject"}),
        (reap.Bounds("sigterm"), {"thaw", "sigcont", "sigchld", "restart", "sigterm"}),
    ],
)
def test_bounds(bounds, allowed):
    assert {step for step in reap.STEPS if not bounds.why_not(step)} == allowed
    assert bounds.why_not("inspect") == "yours to do"


def test_what_to_fix_is_known_of_what_a_program_does():
    silent = {c for c in Cause if not fix(c)}
    assert silent == {
        Cause.TRANSIENT, Cause.DEAD_LEADER, Cause.STOPPED, Cause.FROZEN, Cause.NAMESPACE_DYING, Cause.UNKNOWN
    }  # fmt: skip


def taken(status, adopted=None):
    return Taken(ProcessKey(5, TICK_NS), b"a\n", status, adopted)


def test_what_was_taken_is_told():
    lines = reaptext._taken_lines(Injection(ProcessKey(1, 1), (taken(3 << 8), taken(9), taken(None)), ns=2_000_000))
    assert "0.002 s" in lines[0]
    assert "3 ends (exit 3, SIGKILL, how is not known)" in lines[1]
    assert lines[2] == "      a\\n (5): exit 3"
    assert "no guard saw them begin" in lines[-1]
    lines = reaptext._taken_lines(Injection(ProcessKey(1, 1), (taken(0, adopted=True), taken(0, adopted=False))))
    assert "1 of them it had adopted" in lines[-1]
    assert reaptext._ended(60) == "signal 60"


class Manager:
    """systemd, as far as it is asked."""

    unit = "/org/freedesktop/systemd1/unit/web_2eservice"
    restarted: list[str]

    def __init__(self, _sockets):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        pass

    def unit_of(self, _pid):
        return self.unit

    def restart(self, name):
        self.restarted.append(name)


@pytest.fixture
def in_service(monkeypatch):
    """Makes this process, and its parent, seem to be in a cgroup each; its key."""

    def place(path, ours="/user.slice/session-1.scope"):
        Manager.restarted = []
        monkeypatch.setattr(
            unit.cgroup, "path_in", lambda pid, hierarchy: (ours if pid == os.getpid() else path) if hierarchy else None
        )
        monkeypatch.setattr(unit, "Systemd", Manager)
        parent = os.getppid()
        return ProcessKey(parent, stat_of(parent).start_ticks * TICK_NS)

    return place


def test_the_service_is_restarted_that_systemd_has_it_in(in_service):
    key = in_service("/system.slice/web.service/inner")
    assert unit.restart(key, "web.service") == "systemd restarts web.service"
    assert Manager.restarted == ["web.service"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/user.slice/user-7.slice/user@7.service/app.slice/web.service", "in no service of the system's"),
        ("/machine.slice/box.scope/web.service", "in no service of the system's"),
        ("/system.slice/other.service/web.service", "it is in other.service, though its cgroup is called web.service"),
        ("/", "in no service"),
    ],
)
def test_what_only_looks_like_it_is_not_restarted(in_service, path, why):
    key = in_service(path)
    with pytest.raises(unit.NotRestartedError, match=why):
        unit.restart(key, "web.service")
    assert not Manager.restarted


def test_systemd_has_the_last_word(in_service, monkeypatch):
    monkeypatch.setattr(Manager, "unit", "/org/freedesktop/systemd1/unit/other_2eservice")
    with pytest.raises(unit.NotRestartedError, match="but systemd has it in other_2eservice"):
        unit.restart(in_service("/system.slice/web.service"), "web.service")
    assert not Manager.restarted


def test_a_container_is_restarted_by_whoever_has_it():
    rungs = [Rung(Step.RESTART, do, "", 7) for do in ("recreate the container", "systemctl --user restart web.service")]
    assert not [r for r in map(reaptext._for_whom, rungs) if r.step in reap.STEPS]
    ours = Rung(Step.RESTART, "systemctl restart web.service", "", 7)
    assert reaptext._for_whom(ours) == ours


def test_the_unit_we_run_in_is_not_restarted(in_service):
    with pytest.raises(unit.NotRestartedError, match=r"this program runs in web\.service as well"):
        unit.restart(in_service("/system.slice/web.service", "/system.slice/web.service"), "web.service")


def test_a_process_that_became_another_has_no_unit(in_service):
    key = in_service("/system.slice/web.service")
    with pytest.raises(unit.NotRestartedError):
        unit.restart(key._replace(start_ns=key.start_ns + TICK_NS), "web.service")


def test_without_systemd_it_says_what_to_type(in_service, monkeypatch):
    key = in_service("/system.slice/web.service")

    def none(_sockets):
        raise DbusError("/run/systemd/private: No such file or directory")

    monkeypatch.setattr(unit, "Systemd", none)
    with pytest.raises(unit.NotRestartedError, match=r"type `systemctl restart web\.service`"):
        unit.restart(key, "web.service")
