"""Where the pen goes on machines of every layout, and what is said where it can go nowhere."""

from __future__ import annotations

import errno
import os

import pytest

from pidwarden.drill import pen as pens
from pidwarden.drill.pen import Layout, Pen, choose
from pidwarden.errors import NoPermission, NotPossible
from pidwarden.kernel import cgroup


def machine(root, lines, v2_controllers=None):
    """A fake root with these mounts; paths in `lines` are below it."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mounts").write_text("".join(f"x {root}{line} 0 0\n" for line in lines))
    for line in lines:
        (root / line.split()[0].lstrip("/")).mkdir(parents=True, exist_ok=True)
        if " cgroup2 " in line:
            where = root / line.split()[0].lstrip("/")
            (where / "cgroup.controllers").write_text(v2_controllers or "")
            (where / "cgroup.subtree_control").write_text("")
    return cgroup.mounts(f"{root}/proc")


def test_hybrid_caps_in_v1_and_kills_in_v2(tmp_path):
    found = machine(tmp_path, ["/pids cgroup rw,pids", "/cpu cgroup rw,cpu", "/unified cgroup2 rw"])
    layout = choose(found)
    assert layout == Layout(f"{tmp_path}/pids", f"{tmp_path}/cpu", f"{tmp_path}/unified", ())
    assert layout.parents == (f"{tmp_path}/pids", f"{tmp_path}/cpu", f"{tmp_path}/unified")


def test_pure_v2_is_one_directory_with_its_controllers_passed_on(tmp_path):
    layout = choose(machine(tmp_path, ["/c cgroup2 rw,nsdelegate"], "cpuset cpu io memory pids"))
    assert layout == Layout(f"{tmp_path}/c", f"{tmp_path}/c", f"{tmp_path}/c", ("pids", "cpu"))
    assert layout.parents == (f"{tmp_path}/c",)


def test_pure_v1_with_controllers_mounted_together(tmp_path):
    layout = choose(machine(tmp_path, ["/all cgroup rw,cpu,cpuacct,pids"]))
    assert layout == Layout(f"{tmp_path}/all", f"{tmp_path}/all", None, ())
    assert layout.parents == (f"{tmp_path}/all",)


def test_a_controller_missing_in_v2_is_not_asked_for(tmp_path):
    layout = choose(machine(tmp_path, ["/c cgroup2 rw"], "memory pids"))
    assert (layout.cpu, layout.enable) == (None, ("pids",))


@pytest.mark.parametrize("lines", [[], ["/cpu cgroup rw,cpu"], ["/c cgroup2 rw"]])
def test_no_pids_controller_anywhere_says_where_it_looked_and_what_to_type(tmp_path, lines):
    with pytest.raises(NotPossible) as failure:
        choose(machine(tmp_path, lines, "memory"))
    text = str(failure.value)
    assert "mount -t cgroup -o pids" in text
    for line in lines:
        assert f"{tmp_path}{line.split()[0]}" in text


def test_two_pens_never_share_a_name():
    layout = Layout("/x")
    one, two = Pen(5, layout=layout), Pen(5, layout=layout)
    assert one.name != two.name
    assert one.name.startswith(f"pidwarden-pen-{os.getpid()}-")


def test_a_pen_without_its_cap_is_refused_and_taken_back(tmp_path):
    # An ordinary file system stands for a cgroup that the pids controller does not reach: no pids.max appears.
    with pytest.raises(NotPossible, match=r"pids\.max of 7"), Pen(7, layout=Layout(str(tmp_path))):
        pytest.fail("went on without a cap")
    assert os.listdir(tmp_path) == []


def test_what_v2_does_not_pass_on_yet_is_passed_on(tmp_path):
    control = tmp_path / "cgroup.subtree_control"
    control.write_text("")
    with (
        pytest.raises(NotPossible, match=r"pids\.max"),
        Pen(7, layout=Layout(str(tmp_path), None, str(tmp_path), ("pids",))),
    ):
        pass
    assert control.read_text() == "+pids"


def test_what_v2_passes_on_already_is_left_alone(tmp_path):
    control = tmp_path / "cgroup.subtree_control"
    control.write_text("cpu pids\n")
    with pytest.raises(NotPossible), Pen(7, layout=Layout(str(tmp_path), None, str(tmp_path), ("pids",))):
        pass
    assert control.read_text() == "cpu pids\n"


def test_v2_that_refuses_to_pass_on_is_explained(tmp_path):
    layout = Layout(str(tmp_path), None, str(tmp_path), ("pids",))  # no cgroup.subtree_control: the write fails
    with pytest.raises(NotPossible, match="processes live in that very cgroup"), Pen(7, layout=layout):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("uid", "code", "error", "next_step"),
    [
        (1000, errno.EACCES, NoPermission, "sudo pidwarden drill"),
        (0, errno.EROFS, NotPossible, "on the host"),
        (0, errno.ENOENT, NotPossible, "ls -ld"),
    ],
)
def test_a_directory_that_cannot_be_made(tmp_path, monkeypatch, uid, code, error, next_step):  # noqa: PLR0913
    mkdir = os.mkdir

    def refuse(path):
        if path.endswith("-second"):
            raise OSError(code, os.strerror(code), path)
        mkdir(path)

    pen = Pen(7, layout=Layout(str(tmp_path)))
    pen.directories = [f"{tmp_path}/first", f"{tmp_path}/the-second"]
    monkeypatch.setattr(pens.os, "geteuid", lambda: uid)
    monkeypatch.setattr(pens.os, "mkdir", refuse)
    with pytest.raises(error, match=next_step) as failure, pen:
        pass
    assert os.strerror(code) in str(failure.value)
    assert os.listdir(tmp_path) == []  # what had been made is taken back


def test_the_share_of_the_processor_has_the_word_of_each_version(tmp_path, monkeypatch):
    written = []

    def put(path, text):
        written.append((os.path.relpath(path, tmp_path), text))
        return not path.endswith("cpu.weight")

    monkeypatch.setattr(pens.deadman, "put", put)
    pen = Pen(7, layout=Layout(f"{tmp_path}/p", f"{tmp_path}/c"))
    for parent in ("p", "c"):
        (tmp_path / parent).mkdir()
    with pen:
        assert written == [
            (f"p/{pen.name}/pids.max", "7"),
            (f"c/{pen.name}/cpu.weight", "10"),
            (f"c/{pen.name}/cpu.shares", "128"),
        ]


def test_peak_without_pids_peak_is_the_most_that_was_seen(tmp_path):
    pen = Pen(7, layout=Layout(str(tmp_path)))
    (tmp_path / pen.name).mkdir()
    current = tmp_path / pen.name / "pids.current"
    for tasks in ("3\n", "9\n", "4\n"):
        current.write_text(tasks)
        pen.current()
    assert (pen.current(), pen.peak()) == (4, 9)
    (tmp_path / pen.name / "pids.peak").write_text("11\n")
    assert pen.peak() == 11
