"""Names and values of limits, and the plans of changing them, by values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.diagnose import persist, resize, setting
from pidwarden.diagnose.resize import Wanted
from pidwarden.model import limit
from pidwarden.model.limit import CATALOGUE, find, parse
from pidwarden.model.undo import Kind, Target

GIB = 1 << 30


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("pid_max", "pid_max"), ("kernel.pid_max", "pid_max"), ("kernel/pid_max", "pid_max"),
        ("/proc/sys/fs/file-max", "file-max"), ("net.ipv4.neigh.default.gc_thresh2", "arp.gc_thresh"),
        ("nproc:12", "nproc:12"), ("nofile:1", "nofile:1"),
        ("pids.max:/a//b/", "pids.max:/a/b"), ("pids.max:/", "pids.max:/"),
    ],
)  # fmt: skip
def test_names(typed, name):
    assert find(typed).name == name


@pytest.mark.parametrize(
    "typed", ["", "nproc:", "nproc:0", "nproc:x", "nproc:²", "pids.max:", "pids.max:a", "pids.max:/a/../b"]
)
def test_no_names(typed):
    with pytest.raises(ValueError, match=r"is no limit; type one of pid_max|names no cgroup"):
        find(typed)


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("pid_max", "65536", "65536"), ("arp.gc_thresh", "8192", "1024 4096 8192"),
        ("arp.gc_thresh", "1,2,3", "1 2 3"), ("arp.gc_thresh", "1", "1 1 1"),
        ("ip_local_port_range", "16384-60999", "16384 60999"), ("ip_local_port_range", "5 9", "5 9"),
        ("nproc:5", "unlimited", "unlimited unlimited"), ("nproc:5", "100:200", "100 200"),
        ("pids.max:/a", "max", "max"),
    ],
)  # fmt: skip
def test_values(name, typed, value):
    assert parse(find(name).setting, typed) == value


def test_a_soft_limit_alone_keeps_the_hard_one_unless_that_is_lower():
    nofile = find("nofile:5").setting
    assert parse(nofile, "2000", "1024 4096") == "2000 4096"
    assert parse(nofile, "9000", "1024 4096") == "9000 9000"
    assert parse(nofile, "9000", "1024 unlimited") == "9000 unlimited"


def test_thresholds_that_are_higher_than_the_kernels_proportions_are_not_lowered():
    neighbours = find("net.ipv4.neigh.default.gc_thresh3").setting
    assert parse(neighbours, "8000", "2000 3000 4000") == "2000 4000 8000"
    assert parse(neighbours, "800", "2000 3000 4000") == "100 400 800"


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("pid_max", "300"), ("pid_max", "4194305"), ("pid_max", ""), ("pid_max", "-5"), ("pid_max", "1e5"),
        ("pid_max", "²"),
        ("pid_max", "max"), ("pid_max", "9" * 40), ("pid_max", "1 2"), ("arp.gc_thresh", "3,2,1"),
        ("arp.gc_thresh", "1,2"),
        ("ip_local_port_range", "9-5"), ("ip_local_port_range", "0-5"), ("ip_local_port_range", "1-65536"),
        ("nproc:5", "200:100"), ("nproc:5", "1:2:3"),
    ],
)  # fmt: skip
def test_no_values(name, typed):
    with pytest.raises(ValueError, match=r"takes|low to high|above the hard"):
        parse(find(name).setting, typed)


_THREE = st.lists(st.integers(1, 9), min_size=3, max_size=3).map(sorted)


@given(_THREE, _THREE)
def test_numbers_that_go_from_low_to_high_never_cross_on_the_way(old, new):
    now = list(old)
    for n in setting.ordered([*map(str, old)], [*map(str, new)]):
        now[n] = new[n]
        assert now == sorted(now)
    assert now == new


def facts(name, value, **more):
    named = find(name)
    targets = tuple(Target(Kind.KERNEL, f"/proc/sys/{limit.path(key)}") for key in named.setting.keys)
    values = tuple(value.split()) if len(targets) > 1 else (value,)
    return setting.Facts(named, targets or (Target(Kind.KERNEL, "/x"),), values, **more)


def test_raising_asks_nothing_and_says_what_it_costs():
    plan = setting.plan(facts("pid_max", "32768", used=300, each=8000, available=GIB), "65536")
    assert [(s.old, s.new) for s in plan.steps] == [("32768", "65536")]
    assert not plan.questions
    assert not plan.refusals
    assert "8000 bytes each at least, 250 MiB for 32768 more, of 1.0 GiB available" in plan.notes[0]


def test_lowering_asks():
    plan = setting.plan(facts("pid_max", "32768", used=300), "4000")
    assert plan.questions == ("this lowers pid_max from 32768 to 4000",)


@pytest.mark.parametrize(("old", "new", "asks"), [("32768 60999", "32768 61000", False), ("1 9", "2 99", True)])
def test_a_range_of_ports_is_lowered_if_it_loses_one(old, new, asks):
    assert limit.lowers(CATALOGUE["ip_local_port_range"], old, new) is asks


def test_below_what_is_in_use_takes_a_word_of_its_own():
    plan = setting.plan(facts("pid_max", "32768", used=5000), "4000")
    assert "5000 are in use and 4000 would allow fewer: nobody could fork" in plan.refusals[0]
    assert "--below-use" in plan.refusals[0]
    assert not setting.plan(facts("pid_max", "32768", used=5000), "4000", below_use=True).refusals


def test_what_is_raised_and_still_not_enough_is_not_refused():
    plan = setting.plan(facts("pids.max:/a", "50", used=90), "60")
    assert not plan.refusals
    assert "90 are in use: this is more than before and still not enough" in plan.notes


def test_what_binds_first_is_said():
    plan = setting.plan(facts("pid_max", "32768", used=1, others={"threads-max": 20000, "pid_max": 32768}), "40000")
    assert any(n.startswith("threads-max of the machine is 20000: it is reached first") for n in plan.notes)


def test_of_limits_on_the_same_tasks_the_first_to_be_reached_is_named():
    assert setting.relations({"pid_max": 10, "threads-max": 20, "pids.max:/a": 5, "pids.max:/": 50, "nr_open": 1}) == [
        "pid_max (10) is reached before threads-max (20): to have more, raise both",
        "pids.max:/a (5) is reached before those of the machine",
    ]
    assert setting.relations({"pid_max": 10, "threads-max": 10}) == []


def test_more_files_than_the_kernel_allows_any_process():
    plan = setting.plan(facts("nofile:5", "10 10", others={"nr_open": 1000}), "1001 1001")
    assert "no process may have more than nr_open, 1000" in plan.refusals[0]


def test_ports_of_services_are_not_given_away():
    plan = setting.plan(
        facts("ip_local_port_range", "32768 60999", others={"ip_unprivileged_port_start": 1024}), "80 90"
    )
    assert "ports below 1024 are for services" in plan.refusals[0]


def test_memory_that_is_not_there_is_asked_about():
    assert setting.plan(facts("tcp_max_tw_buckets", "10", used=1, each=256, available=1000), "12").questions[-1:]


def test_what_is_so_already_has_no_steps():
    assert not setting.plan(facts("arp.gc_thresh", "1 2 3"), "1 2 3").steps


def test_files_say_who_wrote_them_and_the_way_back():
    file = persist.sysctl("pid_max", "limits set pid_max 5 --persist", [("kernel.pid_max", "5")], "/tree/")
    assert file.path == "/tree/etc/sysctl.d/99-zz-pidwarden-pid_max.conf"
    assert file.text.splitlines() == [
        "# Written by pidwarden: `pidwarden limits set pid_max 5 --persist`",
        "# The way back: `pidwarden undo pid_max`; it removes this file and sets what was before.",
        "kernel.pid_max = 5",
    ]
    loaded = persist.module("conntrack", "conntrack resize --max 5", "nf_conntrack")
    assert loaded.path == "/etc/modules-load.d/pidwarden-conntrack.conf"
    assert [line for line in loaded.text.splitlines() if not line.startswith("#")] == ["nf_conntrack"]


def test_what_is_built_in_needs_no_loading():
    assert "built into this kernel" in persist.module_note("", systemd=True)
    assert "loaded before sysctl.d" in persist.module_note("/x", systemd=True)
    assert "this init may not read /x" in persist.module_note("/x", systemd=False)


# -- connection tracking -----------------------------------------------------------------------------------------------


def table(most=65536, buckets=65536, used=1000, each=384, available=8 * GIB):
    return resize.Facts(most, buckets, used, each, available)


def steps(plan):
    return [(s.target.path.rpartition("_")[2], s.old, s.new) for s in plan.steps]


def test_it_grows_the_buckets_first():
    assert steps(resize.plan(table(), Wanted(131072, None), "/f")) == [
        ("buckets", "65536", "131072"), ("max", "65536", "131072"),
    ]  # fmt: skip


def test_it_shrinks_max_first_and_asks():
    plan = resize.plan(table(), Wanted(32768, 32768), "/f")
    assert steps(plan) == [("max", "65536", "32768"), ("buckets", "65536", "32768")]
    assert len(plan.questions) == 2


def test_fewer_buckets_for_more_entries_come_last():
    plan = resize.plan(table(), Wanted(131072, 32768), "/f")
    assert [name for name, _old, _new in steps(plan)] == ["max", "buckets"]


@given(st.integers(1, 1 << 22), st.integers(1, 1 << 22), st.integers(1, 1 << 22), st.none() | st.integers(1, 1 << 22))
def test_no_moment_is_worse_than_before_and_after(most, buckets, new_most, new_buckets):
    before = table(most, buckets)
    _most, then_buckets = resize.sizes(before, Wanted(new_most, new_buckets))
    chains = [most / buckets]
    for name, _old, new in steps(resize.plan(before, Wanted(new_most, new_buckets), "/f")):
        most, buckets = (int(new), buckets) if name == "max" else (most, int(new))
        chains.append(most / buckets)
    assert max(chains) <= max(chains[0], chains[-1])
    assert (most, buckets) == (new_most, then_buckets)


def test_buckets_are_rounded_as_the_kernel_does():
    assert resize.sizes(table(), Wanted(None, 70000)) == (65536, 70144)
    assert "70144" in " ".join(resize.plan(table(), Wanted(None, 70000), "/f").notes)


def test_its_memory_is_that_of_entries_and_buckets_and_both_arrays_at_once():
    assert resize.cost(table(), 131072, 131072) == (131072 * 384, 1 << 20, (1 << 20) + (1 << 19))


def test_what_does_not_fit_is_refused_with_what_does():
    plan = resize.plan(table(available=100 << 20), Wanted(1 << 20, None), "/f")
    assert "133746 entries fit" in plan.refusals[0]
    assert resize.plan(table(available=600 << 20), Wanted(1 << 20, None), "/f").questions


def test_entries_in_use_are_not_shut_in():
    assert "1000 entries are in use, more than 500" in resize.plan(table(), Wanted(500, None), "/f").refusals[0]


def test_chains_that_the_kernel_would_cut_are_refused():
    assert "chains longer than the kernel allows" in resize.plan(table(), Wanted(None, 512), "/f").refusals[0]


def test_a_cost_that_is_not_known_is_said():
    assert "what an entry takes is not known" in resize.plan(table(each=None), Wanted(70000, None), "/f").notes[0]


def test_the_proposal_has_room_for_twice_of_what_there_is():
    assert resize.proposal(table(used=60000)) == Wanted(131072, 131072)
    assert resize.proposal(table(used=10)) == Wanted(65536, 65536)
