"""Where paths lead on machines made of files, and what is not touched on the way."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import V2, Machine

from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.rescue import follow, sysfiles


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.cgroups([V2], [])
    return made


def cat(machine, path, **options):
    return sysfiles.cat(str(path), str(machine.proc), **options)


# -- where a path leads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a/b", "a//./b", "a/../a/b", "down/b", "a/up/a/b", "round/b"])
def test_links_are_followed_to_their_end(machine, path):
    machine.write("a/b", "x")
    os.symlink("a", machine.root / "down")
    os.symlink("..", machine.root / "a/up")
    os.symlink(f"{machine.root}/down", machine.root / "round")
    assert follow.resolve(f"{machine.root}/{path}", str(machine.proc)) == f"{machine.root}/a/b"


def test_a_ring_of_links(machine):
    os.symlink("two", machine.root / "one")
    os.symlink("one", machine.root / "two")
    with pytest.raises(UsageError, match="ring"):
        cat(machine, machine.root / "one")


@pytest.mark.parametrize("path", ["relative", "", "/a\0b"])
def test_what_is_no_path(machine, path):
    with pytest.raises(UsageError, match="no path"):
        cat(machine, path)


def test_a_path_that_leads_nowhere(machine):
    with pytest.raises(PidwardenError, match=r"/nosuch: No such file or directory; type"):
        cat(machine, machine.root / "nosuch/more")


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "autofs", "cifs"])
def test_a_file_system_that_may_not_answer_is_not_touched(machine, kind, monkeypatch):
    """Neither itself, nor through a link; not even to see whether there is a link on it."""
    machine.write("far away/file", "x")
    where = str(machine.root / "far away").replace(" ", "\\040")
    machine.write("proc/self/mounts", f"none {machine.root} ext4 rw 0 0\nhost:/x {where} {kind} rw 0 0\n")
    os.symlink("far away/file", machine.root / "near")
    touched = []
    readlink = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: (touched.append(path), readlink(path))[1])
    for path in ("far away/file", "near"):
        with pytest.raises(NotPossible, match="this console with it; add `--force`"):
            cat(machine, machine.root / path)
    assert not [path for path in touched if "far away" in path]
    assert cat(machine, machine.root / "near", force=True) == ["x"]


def test_the_innermost_file_system_counts_in_whatever_order_they_were_mounted(machine):
    machine.write("x/far/file", "x")
    mounts = f"a {machine.root}/x/far nfs rw 0 0\nb {machine.root}/x ext4 rw 0 0\n"
    machine.write("proc/self/mounts", mounts)
    with pytest.raises(NotPossible, match="nfs"):
        cat(machine, machine.root / "x/far/file")


def test_a_file_system_that_is_mounted_over_another_hides_it(machine):
    machine.write("x/file", "x")
    mounts = f"a {machine.root}/x autofs rw 0 0\nb {machine.root}/x ext4 rw 0 0\n"
    machine.write("proc/self/mounts", mounts)
    assert cat(machine, machine.root / "x/file") == ["x"]


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "link", "out"]), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_path_leads_where_the_library_says(tmp_path, parts):
    if not (tmp_path / "a").exists():
        (tmp_path / "a/b/a/b").mkdir(parents=True)
        os.symlink("a/b", tmp_path / "link")
        os.symlink("../..", tmp_path / "a/b/out")
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/mounts").write_text("")
    path = "/".join([str(tmp_path), *parts])
    try:
        expected = os.path.realpath(path, strict=True)
    except OSError:
        return
    assert follow.resolve(path, str(tmp_path / "proc")) == expected


# -- other processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", ["cmdline", "environ", "maps", "smaps", "mem", "stack", "syscall", "io", "auxv", "new"]
)
@pytest.mark.parametrize("thread", ["", "task/1/"])
def test_what_may_hang_on_another_process_is_refused(machine, file, thread):
    machine.write(f"proc/1/{thread}{file}", "x")
    with pytest.raises(NotPossible, match=r"process 1.*cat .*/1/status. waits for nobody, or add .--force"):
        cat(machine, machine.proc / "1" / thread / file)
    assert cat(machine, machine.proc / "1" / thread / file, force=True) == ["x"]


@pytest.mark.parametrize("file", ["status", "stat", "wchan", "cgroup", "task/1/stat"])
def test_what_waits_for_nobody_is_read(machine, file):
    machine.write(f"proc/1/{file}", "x")
    assert cat(machine, machine.proc / "1" / file) == ["x"]


def test_our_own_are_read(machine):
    machine.write(f"proc/{os.getpid()}/maps", "x")
    assert cat(machine, f"{machine.proc}/{os.getpid()}/maps") == ["x"]


@pytest.mark.parametrize("way", ["/proc/1/root/etc/passwd", "/proc/1/cwd", "/proc/1/fd/0", "/proc/1/exe"])
def test_links_of_another_process_are_not_followed_even_by_force(machine, way):
    """What is read at their text would be another file: the process may have another root."""
    machine.write("proc/1/status", "x")
    with pytest.raises(NotPossible, match="what process 1 sees"):
        cat(machine, way.replace("/proc", str(machine.proc)), force=True)


def test_a_link_to_another_process_is_no_way_in(machine):
    machine.write("proc/1/environ", "x")
    os.symlink("proc/1", machine.root / "init")
    with pytest.raises(NotPossible, match="process 1"):
        cat(machine, machine.root / "init/environ")


def test_another_mount_of_proc_is_no_way_in(machine):
    machine.write("jail/proc/1/environ", "x")
    machine.write("proc/self/mounts", f"proc {machine.root}/jail/proc proc rw 0 0\n")
    with pytest.raises(NotPossible, match="process 1"):
        cat(machine, machine.root / "jail/proc/1/environ")
