"""Container ids out of cgroup paths: each engine's two drivers, nested, through a cgroup namespace, and hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.model.container import Container, Place, container_of, containers, is_id, meant, short_name

A, B = "0a" * 32, "1b" * 32
POD = "3c5d0f6e-12ab-4c3d-8e9f-0123456789ab"
POD_ = POD.replace("-", "_")

PATHS = {
    f"/system.slice/docker-{A}.scope": ("docker", A, ""),
    f"/docker/{A}": ("docker", A, ""),
    f"/docker/{A}/sub/group": ("docker", A, ""),
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope": ("docker", A, ""),
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice/cri-containerd-{A}.scope": (
        "containerd", A, POD,
    ),
    f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-{A}.scope": ("cri-o", A, POD),
    f"/kubepods/besteffort/pod{POD}/{A}": ("kubernetes", A, POD),
    f"/kubepods/pod{POD.replace('-', '')}/{A}": ("kubernetes", A, POD.replace("-", "")),
    f"/system.slice/containerd.service/kubepods-besteffort-pod{POD_}.slice:cri-containerd:{A}": ("containerd", A, POD),
    f"/system.slice:docker:{A}": ("docker", A, ""),
    f"/machine.slice/libpod-{A}.scope": ("podman", A, ""),
    f"/machine.slice/libpod-{A}.scope/container": ("podman", A, ""),
    f"/libpod_parent/libpod-{A}": ("podman", A, ""),
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container": ("podman", A, ""),
    f"/system.slice/nerdctl-{A}.scope": ("containerd", A, ""),
    f"/default/{A}": ("unknown", A, ""),
    f"/ecs/7f/{A}": ("ecs", A, ""),
    "/lxc/web": ("lxc", "web", ""),
    "/lxc.payload.web-1/init.scope": ("lxc", "web-1", ""),
    "/lxc.payload/web": ("lxc", "web", ""),
    "/machine.slice/machine-deb\\x2dtest.scope/payload": ("systemd-nspawn", "deb-test", ""),
    "/machine.slice/systemd-nspawn@deb.service": ("systemd-nspawn", "deb", ""),
    "/machine.slice/machine-lxc\\x2d42\\x2dbox.scope": ("lxc", "lxc-42-box", ""),
    f"/../../docker-{A}.scope": ("docker", A, ""),
    f"/../{A}": ("unknown", A, ""),
    f"/docker/{A} (deleted)": ("docker", A, ""),
}  # fmt: skip
NONE = [
    "/", "", "/..", "/user.slice/user-0.slice/session-3.scope", "/system.slice/docker.service", "/lxc", "/lxc.payload",
    f"/system.slice/docker-{A[:-1]}.scope", f"/docker-{A.upper()}.scope", f"/docker-{A}.slice", f"/x-docker-{A}.scope",
    f"/machine.slice/libpod-conmon-{A}.scope", f"/crio-conmon-{A}.scope", "/lxc.monitor.web", f"/{A}0",
    f"/docker-{A}.scope\n",
    "/machine.slice/machine-qemu\\x2d1\\x2ddebian.scope", "/lxc/we b", "/lxc/../", f"/docker/{A[:12]}", "/lxc/\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_each_engine_and_driver(path):
    assert container_of([path]) == Container(*PATHS[path])


@pytest.mark.parametrize("path", NONE)
def test_what_is_no_container(path):
    assert container_of([path]) is None


def test_a_container_in_a_container_is_found_below_the_one_it_is_in():
    path = f"/docker/{A}/system.slice/docker-{B}.scope"
    assert [c.id for c in containers(path)] == [A, B]
    assert container_of([path]) == Container("docker", B)
    deep = f"/kubepods/pod{POD}/{A}/docker/{B}/lxc.payload.in"
    assert [(c.engine, c.id) for c in containers(deep)] == [("kubernetes", A), ("docker", B), ("lxc", "in")]


def test_the_hierarchy_that_has_seen_most_decides():
    assert container_of(["/", f"/docker/{A}", "/user.slice"]) == Container("docker", A)
    assert container_of([f"/docker/{A}", f"/docker/{A}/docker/{B}"]) == Container("docker", B)
    assert container_of([]) is None


def test_shown_as_engines_show_it():
    assert str(Container("docker", A)) == f"docker:{A[:12]}"
    assert str(Container("lxc", "a-long-name-of-a-container")) == "lxc:a-long-name-of-a-container"
    assert short_name(f"podman:{A}") == f"podman:{A[:12]}"


def test_an_id_is_meant_by_its_beginning_a_name_only_in_full():
    ids = {A, B, "0a-web"}
    assert meant(A[:12], ids) == [A]
    assert meant("0", ids) == [A]
    assert meant("0a-web", ids) == ["0a-web"]
    assert meant("0a-w", ids) == []
    assert meant("", {A, B}) == sorted([A, B])
    assert meant("ff", ids) == []


def test_a_place_for_programs_has_null_for_what_is_not_there():
    assert Place().object() == {"inner_pid": None, "cgroup": None, "container": None}
    assert Place(3, "/a\n\udcff", Container("docker", A)).object() == {
        "inner_pid": 3, "cgroup": "/a\\n\\xff", "container": f"docker:{A}",
    }  # fmt: skip


@given(st.text(max_size=300))
def test_any_path_is_read_and_what_is_found_is_harmless(path):
    for found in containers(path):
        assert is_id(found.id)
        assert str(found).isprintable()


@given(st.lists(st.sampled_from([*PATHS, "/x", "/..", "/a\nb"]), max_size=4))
def test_what_stands_around_a_container_does_not_hide_it(parts):
    path = "".join(p.removesuffix(" (deleted)") for p in parts)
    found = [c.id for c in containers(path)]
    for part in parts:
        if part in PATHS and not part.startswith(("/docker", "/default", "/../", "/lxc", "/ecs")):
            assert PATHS[part][1] in found
