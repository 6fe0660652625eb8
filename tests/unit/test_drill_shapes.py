"""The bombs, with the calls that would detonate them replaced."""

from __future__ import annotations

import _thread
import errno
import os

import pytest

from pidwarden.drill import shapes


class Stop(BaseException):
    """Ends a bomb in a test."""


@pytest.fixture
def calls(monkeypatch):
    """Every dangerous call recorded instead of done; `fork` is refused until the test says otherwise."""
    seen = []

    def recorder(name, result=None):
        def record(*args):
            seen.append((name, *args))
            return result

        return record

    def refused():
        seen.append(("fork",))
        if len([c for c in seen if c[0] == "fork"]) > 3:
            raise Stop
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(shapes.os, "fork", refused)
    for name in ("setsid", "setresuid", "execvp"):
        monkeypatch.setattr(shapes.os, name, recorder(name))

    def ended(code):
        seen.append(("_exit", code))
        raise Stop

    monkeypatch.setattr(shapes.os, "_exit", ended)
    return seen


def forks(monkeypatch, calls, *results):
    left = list(results)

    def fork():
        calls.append(("fork",))
        if not left:
            raise Stop
        return left.pop(0)

    monkeypatch.setattr(shapes.os, "fork", fork)


@pytest.mark.parametrize("name", ["tight", "setsid", "chain", "zombies", "rename", "setuid"])
def test_a_refused_fork_is_tried_again(calls, monkeypatch, name):
    monkeypatch.setattr(shapes, "open", lambda *_a, **_k: (_ for _ in ()).throw(OSError()), raising=False)
    with pytest.raises(Stop):
        shapes.SHAPES[name]()
    assert calls.count(("fork",)) == 4


def test_a_refused_thread_is_tried_again_and_all_stay(monkeypatch):
    started = []

    def start(function, _args):
        started.append(function)
        if len(started) > 3:
            raise Stop
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", start)
    size = _thread.stack_size()
    try:
        with pytest.raises(Stop):
            shapes.threads()
    finally:
        _thread.stack_size(size)
    assert len(started) == 4
    assert started[0].__self__.locked()  # what each thread waits for is never given back


def test_the_chain_moves_on_in_the_child_and_ends_in_the_parent(calls, monkeypatch):
    forks(monkeypatch, calls, 0, 0, 4711)
    with pytest.raises(Stop):
        shapes.chain()
    assert calls == [("fork",), ("fork",), ("fork",), ("_exit", 0)]


def test_zombies_end_in_the_child_and_are_not_waited_for(calls, monkeypatch):
    monkeypatch.setattr(shapes.os, "waitpid", lambda *_a: pytest.fail("reaped"))
    forks(monkeypatch, calls, 4711, 4712, 0)
    with pytest.raises(Stop):
        shapes.zombies()
    assert calls == [("fork",), ("fork",), ("fork",), ("_exit", 0)]


def test_setsid_in_each_child_only(calls, monkeypatch):
    forks(monkeypatch, calls, 4711, 0, 4712)
    with pytest.raises(Stop):
        shapes.setsid()
    assert calls == [("fork",), ("fork",), ("setsid",), ("fork",), ("fork",)]


def test_setuid_changes_in_every_generation_and_keeps_what_it_needs_for_the_next(calls, monkeypatch):
    forks(monkeypatch, calls, 0, 0)
    with pytest.raises(Stop):
        shapes.setuid()
    changes = [c[1:] for c in calls if c[0] == "setresuid"]
    assert changes[0::2] == [(-1, 0, -1)] * 2
    for real, effective, saved in changes[1::2]:
        assert real == effective != 0
        assert saved == 0
    assert changes[1] != changes[3]


def test_rename_writes_another_name_each_time(calls, monkeypatch, tmp_path):
    comm = tmp_path / "comm"
    names = set()

    def fake_open(path, *args, **kwargs):
        assert path == "/proc/self/comm"
        if comm.exists():
            names.add(comm.read_bytes())
        return open(comm, *args, **kwargs)

    monkeypatch.setattr(shapes, "open", fake_open, raising=False)
    forks(monkeypatch, calls, *[0] * 40)
    with pytest.raises(Stop):
        shapes.rename()
    assert len(names) > 10
    assert all(0 < len(n) < 16 for n in names)


def test_the_shell_bomb_is_the_classic(calls):
    shapes.shell()
    assert calls == [("execvp", "bash", ["bash", "-c", ":(){ :|:& };:"])]


@pytest.mark.parametrize(
    ("lines", "inside"),
    [
        (["8:pids:/pidwarden-pen-7-1\n", "0::/\n"], True),
        (["8:pids:/\n", "0::/pidwarden-pen-7-1\n"], False),  # the cap is where the pids controller is
        (["2:cpu,pids:/a/pidwarden-pen-7-1\n"], True),
        (["0::/pidwarden-pen-7-1\n"], True),
        (["0::/pidwarden-pen-7-1/below\n"], False),
        (["0::/user.slice/session-1.scope\n"], False),
        ([], False),
    ],
)
def test_what_a_pen_is(lines, inside):
    assert shapes.in_pen(lines) is inside


def test_outside_a_pen_nothing_goes_off(monkeypatch, capsys):
    """Not run as a program: should the check be missing, nothing may explode here."""
    monkeypatch.setattr(shapes, "SHAPES", {"tight": lambda: pytest.fail("went off outside a pen")})
    assert shapes.main(["tight"]) == 4
    assert "pidwarden drill" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["nuclear"], ["tight", "3", "4"]])
def test_usage_names_the_shapes(argv, capsys):
    assert shapes.main(argv) == 2
    assert ", ".join(shapes.SHAPES) in capsys.readouterr().err


def test_every_shape_says_what_it_gets_around():
    assert list(shapes.SHAPES) == ["shell", "tight", "setsid", "chain", "zombies", "threads", "rename", "setuid"]
    for shape in shapes.SHAPES.values():
        first = shape.__doc__.splitlines()[0]
        assert first.endswith(".")
        assert len(first) > 30


def test_the_time_of_the_detonation_is_reported_before_it(monkeypatch):
    reading, writing = os.pipe()
    before = shapes.time.clock_gettime_ns(shapes.time.CLOCK_BOOTTIME)
    monkeypatch.setattr(shapes, "in_pen", lambda _lines: True)
    monkeypatch.setattr(shapes, "SHAPES", {"tight": lambda: 0})
    monkeypatch.setattr(shapes.gc, "disable", lambda: None)
    monkeypatch.setattr(shapes.gc, "freeze", lambda: None)
    shapes.main(["tight", str(writing)])
    with os.fdopen(reading) as pipe:
        assert before <= int(pipe.read()) <= shapes.time.clock_gettime_ns(shapes.time.CLOCK_BOOTTIME)
