"""When a limit is full at the rate seen, by values; and what raises it, in the words of the shell."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import Machine

from pidwarden.diagnose import change
from pidwarden.diagnose.limits import MIB, Binding, Kind, Seen, grown, nearest, soonest
from pidwarden.kernel import pamlimits, subjects, tasks

SYSTEMD, OTHER = change.Machine(systemd=True, user="ann"), change.Machine(systemd=False)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def table(used, allowed, **more):
    return Binding("pid_max", used, allowed, allowed - used, kind=Kind.PID_MAX, **more)


def seen(used, allowed, more, seconds, **options):
    """A limit that has grown by so many in so many seconds."""
    return table(used, allowed, seen=Seen(more / seconds, seconds), **options)


# -- time to full ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "allowed", "more", "seconds", "full"),
    [
        (1000, 2000, 100, 0.5, 5.0),  # a bomb
        (1000, 2000, 0, 0.5, None),
        (1000, 2000, -100, 0.5, None),
        (1000, 2000, 7, 0.5, None),  # as many come and go
        (15, 20, 1, 0.5, 2.5),  # but of five left, one is much
        (1000, 31_000, 8, 0.5, None),  # half an hour: half a second does not tell of that
        (1000, 31_000, 800, 50.0, 1875.0),  # a minute does
        (1000, 31_000, 10, 700.0, 2_100_000.0),  # and ten minutes tell of weeks
        (2000, 2000, 100, 0.5, 0.0),
    ],
)
def test_when_it_is_full(used, allowed, more, seconds, full):
    assert seen(used, allowed, more, seconds).fills_in == (None if full is None else pytest.approx(full))


def test_memory_goes_up_and_down_by_some():
    def memory(more):
        free = 1024 * MIB
        return Binding("memory", 0, free, free, unit="bytes", seen=Seen(more / 0.5, 0.5)).fills_in

    assert memory(15 * MIB) is None
    assert memory(64 * MIB) == pytest.approx(8.0)
    assert memory(16 * MIB) is None, "32 s: half a second does not tell of that"


def test_what_binds_or_is_not_seen_does_not_fill():
    assert seen(2000, 2000, 100, 0.5, binds=True).fills_in is None
    assert table(1, 2).fills_in is None
    assert Binding("?", 0, None, 0, seen=Seen(100, 0.5)).fills_in is None


@given(st.integers(0, 1 << 22), st.integers(1, 1 << 22), st.integers(-1000, 1000), st.floats(0.01, 1e6))
def test_the_time_is_what_is_free_by_the_rate(used, allowed, more, seconds):
    found = seen(min(used, allowed), allowed, more, seconds)
    if found.fills_in is not None:
        assert more > 0
        assert found.fills_in * more / seconds == pytest.approx(found.free)


def test_the_first_to_fill_need_not_be_the_nearest():
    near, far = seen(90, 100, 0, 0.5), seen(1000, 2000, 100, 0.5)._replace(name="other")
    exempt = far._replace(exempt="root", free=1)
    assert nearest([near, far]) is near
    assert soonest([exempt, near, far]) is far
    assert soonest([near]) is None


def test_two_looks_are_compared_by_name():
    before = [table(100, 200, refused=3), Binding("gone", 1, 2, 1)]
    after = [table(150, 200, refused=10), Binding("new", 1, 2, 1)]
    same, new = grown(before, after, 2.0)
    assert same.seen == (25.0, 2.0, 7, "two looks")
    assert new.seen is None


def test_near_is_a_tenth():
    assert table(90, 100).near
    assert not table(89, 100).near
    assert not table(99, 100, exempt="root").near
    assert not Binding("?", 0, None, 0).near


# -- what raises it ----------------------------------------------------------------------------------------------------


def pids(cgroup, **more):
    path = f"/sys/fs/cgroup{cgroup}/pids.max"
    return Binding("x", 100, 100, 0, kind=Kind.PIDS, cgroup=cgroup, path=path, better=356, **more)


def test_a_sysctl_is_written_taken_back_and_kept():
    limit = table(100, 100, path="/proc/sys/kernel/pid_max", better=356)
    done = change.of(limit, OTHER)
    assert (done.do, done.undo) == ("sysctl -w kernel.pid_max=356", "sysctl -w kernel.pid_max=100")
    assert done.lasting.startswith("kernel.pid_max = 356 in /etc/sysctl.d/")
    highest = change.of(limit._replace(better=100), OTHER)
    assert (highest.do, highest.note) == ("", "it is as high as it can be: end who fills it")


def test_a_limit_of_a_process_keeps_its_hard_one_if_it_can():
    limit = Binding("x", 9, 10, 1, kind=Kind.NPROC, pid=7, hard=1000, better=266, cgroup="/user.slice/session-1.scope")
    done = change.of(limit, SYSTEMD)
    assert (done.do, done.undo) == ("prlimit --pid 7 --nproc=266:1000", "prlimit --pid 7 --nproc=10:1000")
    assert done.lasting.startswith("ann - nproc 266 in /etc/security/limits.d/")
    above = change.of(limit._replace(hard=10), SYSTEMD)
    assert above.do == "prlimit --pid 7 --nproc=266:266"
    assert "CAP_SYS_RESOURCE" in above.note
    unit = change.of(limit._replace(hard=None, cgroup="/system.slice/web.service"), SYSTEMD)
    assert unit.do == "prlimit --pid 7 --nproc=266:unlimited"
    assert unit.lasting.startswith("LimitNPROC=266 below [Service]: `systemctl edit web.service`")


def test_a_unit_is_asked_for_through_its_manager():
    done = change.of(pids("/system.slice/web.service"), SYSTEMD)
    assert done.do == "systemctl set-property --runtime web.service TasksMax=356"
    assert done.undo == "systemctl set-property --runtime web.service TasksMax=100"
    assert "system.control/web.service.d/50-TasksMax.conf" in done.lasting
    users = change.of(pids("/user.slice/user-7.slice/user@7.service/app.slice/x.service"), SYSTEMD)
    assert users.do == "systemctl --user --machine=7@ set-property --runtime x.service TasksMax=356"
    assert change.of(pids("/user.slice/session-1.scope"), SYSTEMD).lasting.startswith("a scope goes with its session")
    assert change.of(pids("/system.slice/web.service"), OTHER).do.startswith("echo 356 > ")


def test_a_container_is_asked_for_through_its_engine():
    identity = "ab" * 32
    done = change.of(pids(f"/system.slice/docker-{identity}.scope"), SYSTEMD)
    assert done.do == "docker update --pids-limit=356 abababababab"
    assert done.undo == "docker update --pids-limit=100 abababababab"
    inner = change.of(pids(f"/system.slice/docker-{identity}.scope/web.service"), SYSTEMD)
    assert inner.do.startswith("echo 356 > "), "a unit of a systemd inside is not one of ours"
    pod = f"/kubepods.slice/kubepods-pod{'1' * 32}.slice/cri-containerd-{identity}.scope"
    assert "podPidsLimit" in change.of(pids(pod), SYSTEMD).note


def test_no_name_is_run_by_the_shell():
    hostile = "/a b;$(rm x)'`"
    done = change.of(pids(hostile), OTHER)
    assert shlex.split(done.do) == ["echo", "356", ">", f"/sys/fs/cgroup{hostile}/pids.max"]
    unit = change.of(pids("/system.slice/a$(x).service"), SYSTEMD)
    assert shlex.split(unit.do)[3] == "a$(x).service"


def test_what_cannot_be_changed_says_why():
    unseen = Binding("x", 0, None, 0, kind=Kind.PIDS, unseen="on the host")
    assert change.of(unseen, SYSTEMD) == change.Change(note="on the host")
    assert change.of(Binding("x", 1, 2, 1, kind=Kind.DEAD_INIT), OTHER).do.startswith("exec nsenter")
    assert change.of(Binding("x", 1, 2, 1, kind=Kind.COMMIT), OTHER).undo == "sysctl -w vm.overcommit_memory=2"
    assert change.of(Binding("x", 1, 2, 1, kind=Kind.MEMORY), OTHER).undo.startswith("swapoff ")


# -- a login's, and who stands for whom --------------------------------------------------------------------------------


def test_what_a_login_gets_is_the_line_that_is_meant_most_closely(tmp_path):
    (tmp_path / "limits.d").mkdir()
    (tmp_path / "limits.conf").write_text("# * hard nproc 1\n* soft nproc 4096\n@staff - nproc 5000 # all\n")
    (tmp_path / "limits.d/90-ann.conf").write_text("ann hard nproc 77\nann hard nofile 3\n500:600 soft nproc 9\nx\n")

    def values(*who):
        return [(e.kind, e.value) for e in pamlimits.nproc(*who, str(tmp_path))]

    assert values("ann", 1000, {"staff"}) == [("hard", "77")]
    assert values("bob", 1001, {"staff"}) == [("-", "5000")]
    assert values("eve", 1002, set()) == [("soft", "4096")]
    assert values("old", 555, set()) == [("soft", "9")]
    assert values("root", 0, {"staff"}) == []
    assert pamlimits.nproc("ann", 1000, set(), str(tmp_path))[0].where.endswith("90-ann.conf line 1")
    assert pamlimits.nproc("ann", 1000, set(), str(tmp_path / "none")) == []


def test_processes_under_the_same_limits_are_looked_at_once(machine):
    for pid in range(10, 15):
        machine.process(pid, uid=7)
        machine.nproc(pid, 50 if pid < 13 else 60)
    found = subjects.apart(range(10, 16), tasks.count(str(machine.proc)), str(machine.proc))
    assert found == (((10, 7, 2), (13, 7, 1)), 0)


def test_zombies_are_counted_by_who_has_not_waited_for_them(machine):
    machine.process(10, uid=7)
    for pid, threads in ((11, 1), (12, 1), (13, 2)):
        machine.process(pid, uid=7, threads=threads)
        status = machine.proc / f"{pid}/status"
        status.write_text(
            status.read_text().replace("State:\tS", "State:\tZ").replace("Pid:\t", "PPid:\t10\nPid:\t", 1)
        )
    counted = tasks.count(str(machine.proc))
    assert counted.reapers() == {10: 2}, "a dead leader whose threads live is no zombie yet"
    assert counted.reapers(uid=8) == counted.reapers(among={11}) == {}
    assert counted.reapers(uid=7, among={10}) == {10: 2}
