"""Cgroups in every layout, out of a root folder that looks like /proc."""

from __future__ import annotations

import os

import pytest

from pidwarden.kernel import cgroup

V2_ONLY = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"
V1 = (
    "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n"
    "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0\n"
    "cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n"
)
HYBRID = V1 + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"


def root(tmp_path, mounts, pid=7, lines=""):
    for name, text in (("self/mounts", mounts), (f"{pid}/cgroup", lines)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("mounts", "v2", "pids"),
    [
        (V2_ONLY, "/sys/fs/cgroup", None),
        (V1, None, "/sys/fs/cgroup/pids"),
        (HYBRID, "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"),
        ("proc /proc proc rw 0 0\n", None, None),
    ],
    ids=["v2", "v1", "hybrid", "none"],
)
def test_layouts(tmp_path, mounts, v2, pids):
    found = cgroup.mounts(root(tmp_path, mounts))
    assert (found.v2, found.v1.get("pids")) == (v2, pids)


def test_controllers_mounted_together_share_a_root(tmp_path):
    found = cgroup.mounts(root(tmp_path, V1))
    assert found.v1["cpu"] == found.v1["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"


def test_the_first_v2_mount_counts(tmp_path):
    again = V2_ONLY + "cgroup2 /elsewhere cgroup2 rw 0 0\n"
    assert cgroup.mounts(root(tmp_path, again)).v2 == "/sys/fs/cgroup"


def test_paths_keep_colons_and_stand_in_order(tmp_path):
    where = root(tmp_path, HYBRID, lines="8:pids:/a:b\n1:name=systemd:/user.slice\n0::/c\n")
    assert cgroup.paths(7, where) == ["/a:b", "/user.slice", "/c"]


def test_a_process_that_is_gone_has_none(tmp_path):
    assert cgroup.paths(8, root(tmp_path, HYBRID)) == []


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/sys/fs/cgroup/pids/app", "/app"),
        ("/sys/fs/cgroup/pids", "/"),
        ("/sys/fs/cgroup/unified/app/web", "/app/web"),
        ("/sys/fs/cgroup/pidsx/app", "/sys/fs/cgroup/pidsx/app"),
        ("/app", "/app"),
    ],
)
def test_a_path_below_a_mount_is_what_proc_shows(tmp_path, path, shown):
    assert cgroup.relative(path, cgroup.mounts(root(tmp_path, HYBRID))) == shown


def test_within_is_by_whole_names(monkeypatch):
    monkeypatch.setattr(cgroup, "paths", lambda _pid: ["/app/web", "/"])
    assert cgroup.within(1, "/app/web")
    assert cgroup.within(1, "/app")
    assert cgroup.within(1, "/app/")
    assert not cgroup.within(1, "/ap")
    assert not cgroup.within(1, "/app/web/deeper")


def test_everything_is_within_the_root(monkeypatch):
    monkeypatch.setattr(cgroup, "paths", lambda _pid: ["/app/web"])
    assert cgroup.within(1, "/")


def test_our_own_paths_are_those_of_proc():
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        assert cgroup.paths(os.getpid()) == [line.rstrip("\n").split(":", 2)[2] for line in file]
