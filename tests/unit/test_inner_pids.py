"""Inner pids, cgroup paths and containers out of a root folder that looks like /proc."""

from __future__ import annotations

import os

import pytest

from pidwarden.kernel import namespaces, place
from pidwarden.model.container import Container, Place

A, B = "0a" * 32, "0b" * 32


@pytest.fixture
def root(tmp_path):
    def add(pid, nspid, cgroups):
        (tmp_path / str(pid)).mkdir()
        status = (
            f"Name:\tNSpid:\\n\nUmask:\t0022\nPid:\t{pid}\n" + (f"NSpid:\t{nspid}\n" if nspid else "") + "NSsid:\t1\n"
        )
        (tmp_path / str(pid) / "status").write_text(status)
        (tmp_path / str(pid) / "cgroup").write_text(cgroups, errors="surrogateescape")

    add(7, "7", "0::/user.slice\n")
    add(8, "8\t3\t1", f"4:memory:/docker/{A}\n0::/\n")
    add(9, "9\t2", f"0::/../docker-{B}.scope\n")
    add(10, "", "0::/\n")
    add(11, "11\tx", "0::/\n")
    return str(tmp_path)


@pytest.mark.parametrize(("pid", "pids"), [(7, (7,)), (8, (8, 3, 1)), (9, (9, 2)), (10, ()), (11, ()), (99, ())])
def test_inner_pids(root, pid, pids):
    assert namespaces.inner_pids(pid, root) == pids


@pytest.mark.parametrize(
    ("pid", "number", "inside"),
    [(8, 1, True), (8, 3, False), (8, 8, False), (7, 7, False), (9, 2, True), (99, 1, False)],
)
def test_who_has_a_number_inside(root, pid, number, inside):
    assert namespaces.is_inner(pid, number, root=root) is inside
    assert not namespaces.is_inner(pid, number, 4026531836, root)  # its namespace is not known here


def test_places(root):
    assert place.place_of(7, root) == Place(None, "/user.slice", None)
    assert place.place_of(8, root) == Place(1, f"/docker/{A}", Container("docker", A))
    assert place.place_of(9, root) == Place(2, f"/../docker-{B}.scope", Container("docker", B))
    assert place.place_of(99, root) == Place()


def test_columns(root):
    found = place.columns([7, 8, 0, 99], ["nspid", "cgroup", "container", "pidns"], root)
    assert found == {
        "nspid": [7, 1, None, None],
        "cgroup": ["/user.slice", f"/docker/{A}", None, None],
        "container": [None, f"docker:{A}", None, None],
        "pidns": [None] * 4,
    }


def test_the_containers_there_are(root):
    assert place.all_ids(root) == {A, B}
    assert place.is_in(8, [A], root)
    assert not place.is_in(8, [B], root)
    assert not place.is_in(99, [A], root)


def test_ourselves():
    assert namespaces.inner_pids(os.getpid())[0] == os.getpid()
    assert namespaces.pid_namespace("self") == os.stat("/proc/self/ns/pid").st_ino
