"""The limits that make fork fail, out of a root folder that looks like /proc and the cgroup hierarchies."""

from __future__ import annotations

import pytest
from machines import V1, V2, Machine

from pidwarden.kernel.limits import Limit


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_the_tightest_comes_first_and_tasks_are_counted_once_for_all(machine):
    assert machine.limits() == [Limit("threads-max", 345, 15000), Limit("pid_max", 345, 32768, 300)]


def test_nothing_is_left_when_a_limit_was_lowered_below_what_is_used():
    assert Limit("pid_max", 500, 400).free == 0


def test_low_process_ids_are_given_out_once_only(machine):
    """With 345 tasks, two of them low, 32768 - 343 - 300 are left: a table that is full must not seem to have room."""
    for pid in (1, 299, 300):
        machine.write(f"proc/{pid}/stat", "")
    (limit,) = [found for found in machine.limits() if found.name == "pid_max"]
    assert limit.free == 32768 - (345 - 2) - 300
    machine.write("proc/sys/kernel/pid_max", "643\n")
    assert machine.limits()[0] == Limit("pid_max", 345, 643, 298)
    assert machine.limits()[0].free == 0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_cgroup_above_us_counts(machine, version):
    mount, line = (V1, "8:pids:/a/b") if version == "v1" else (V2, "0::/a/b")
    machine.cgroups([mount], [line])
    machine.pids(mount[0] + "/a/b", 7, 1000)
    machine.pids(mount[0] + "/a", 90, 100)
    assert machine.limits()[:2] == [Limit("pids.max of /a", 90, 100), Limit("pids.max of /a/b", 7, 1000)]


def test_a_cgroup_without_a_limit_is_none(machine):
    machine.cgroups([V2], ["0::/a"])
    machine.pids("cg/a", 7, "max")
    assert machine.names() == ["threads-max", "pid_max"]


def test_only_the_path_in_the_pids_hierarchy_is_ours(machine):
    """A cgroup of the same name as ours in another hierarchy is somebody else's."""
    machine.cgroups([V1, ("/cg/memory", "cgroup", "rw,memory")], ["4:memory:/other", "8:pids:/"])
    machine.pids("cg/pids/other", 1, 10)
    assert machine.names() == ["threads-max", "pid_max"]


def test_in_a_hybrid_layout_the_controller_is_where_it_is(machine):
    machine.cgroups([V2, V1], ["8:cpu,pids:/a", "0::/b"])
    machine.pids("cg/pids/a", 1, 10)
    machine.pids("cg/b", 1, 5)
    assert machine.names()[0] == "pids.max of /a"
    assert "pids.max of /b" not in machine.names()


def test_the_limit_of_a_container_is_at_the_root_of_its_namespace(machine):
    machine.cgroups([V2], ["0::/"])
    machine.pids("cg", 60, 64)
    assert machine.limits()[0] == Limit("pids.max of /", 60, 64)


def test_a_path_that_leads_out_of_our_namespace_is_not_followed(machine):
    machine.cgroups([V2], ["0::/../outside"])
    machine.pids("outside", 1, 2)
    machine.pids("cg", 1, 3)
    assert machine.names() == ["threads-max", "pid_max"]


def test_a_kernel_that_does_not_say(machine):
    (machine.proc / "sys/kernel/threads-max").unlink()
    assert machine.names() == ["pid_max"]
