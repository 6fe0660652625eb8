"""The guard's files: the FIFO in its loop, answers, a disk that is full, and what somebody has put there before."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import stat
import subprocess
import threading
import time

import pytest
from kit import stat_of

from pidwarden.errors import PidwardenError, UsageError
from pidwarden.guard import files as module
from pidwarden.guard.files import Answers, Files
from pidwarden.guard.instance import Instance
from pidwarden.guard.lines import NAMES

MS = 1_000_000


class Loop:
    """Files in the loop of a guard that does nothing else."""

    def __init__(self, directory, obey=None):
        directory.chmod(0o700)
        self.directory, self.ordered, self.notes, self.looks = directory, [], [], []
        self.files = Files(str(directory), obey or self.obey, self.look, self.note)
        self.selector = selectors.DefaultSelector()
        self.files.open()

    def obey(self, words):
        self.ordered.append(list(words))
        return "as ordered"

    def look(self, anew):
        self.looks.append(anew)
        return f"look {len(self.looks)}\n"

    def note(self, event, *, text):
        assert event == "note"
        self.notes.append(text)

    def turn(self):
        """One; how much of the processor it took, in ns."""
        due = max(0.0, min(self.files.next_ns() - module.boot_ns(), 50 * MS) / 1e9)
        ready = self.selector.select(due)
        began = time.thread_time_ns()
        for _key, _events in ready:
            self.files.read()
        self.files.tick(self.selector)
        return time.thread_time_ns() - began

    def until(self, done):
        for _ in range(20_000):
            if done():
                return
            self.turn()
        pytest.fail(f"it does not come: {self.answers()}")

    def write(self, data):
        with open(self.directory / "control", "wb", buffering=0) as control:
            control.write(data)

    def answers(self):
        return (self.directory / "answer").read_text().splitlines()[1:]

    def answered(self, count):
        self.until(lambda: len(self.answers()) >= count)
        return [line.split(" ", 2)[2] for line in self.answers()]

    def close(self):
        self.files.withdraw()
        self.files.close()
        self.selector.close()


@pytest.fixture
def loop(tmp_path):
    made = Loop(tmp_path)
    yield made
    made.close()


def modes(directory):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


# -- the three files ---------------------------------------------------------------------------------------------------


def test_they_are_ours_alone_and_gone_in_the_end(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    loop = Loop(tmp_path)
    assert modes(tmp_path) == {"status": 0o600, "control": 0o600, "answer": 0o600}
    assert stat.S_ISFIFO((tmp_path / "control").stat().st_mode)
    loop.files.withdraw()
    assert not list(tmp_path.iterdir())
    loop.files.changed()
    loop.files.rewrite()
    assert not list(tmp_path.iterdir())  # what becomes of families at the end does not bring the status back
    loop.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_command_is_carried_out_and_answered(loop):
    loop.write(b"kill 12\n")
    assert loop.answered(1) == ["kill 12: done: as ordered"]
    assert loop.ordered == [["kill", "12"]]
    loop.write(b"hold pid:7\nhelp\n")
    found = loop.answered(3)
    assert found[1] == "hold pid:7: done: as ordered"
    assert any("kill N" in line for line in loop.answers())
    assert [line.split()[0] for line in loop.answers()[:3]] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (PidwardenError("not held"), "kill 12: not done: not held"),
        (UsageError("no number"), "kill 12: not done: no number"),
        (OSError(errno.EMFILE, "Too many open files"), "kill 12: not done: Too many open files; try again"),
    ],
)
def test_what_was_not_done_is_answered_with_the_reason(tmp_path, why, said):
    def refuse(_words):
        raise why

    loop = Loop(tmp_path, refuse)
    loop.write(b"kill 12\n")
    assert loop.answered(1)[0].startswith(said)
    loop.close()


def test_bytes_of_any_kind_are_answered_in_plain_text(tmp_path):
    def refuse(words):
        raise UsageError(f"the guard does not know {words}")

    loop = Loop(tmp_path, refuse)
    loop.write(b"\x1b[2J\xff\0 \\033[2J\r\n")
    loop.answered(1)
    data = (tmp_path / "answer").read_bytes()
    assert all(32 <= byte < 127 or byte == 10 for byte in data)
    assert b"\\\\x1b[2J\\\\xff\\\\x00 \\\\033[2J" in data
    loop.close()


# -- the FIFO ----------------------------------------------------------------------------------------------------------


def test_half_a_line_waits_for_its_end(loop):
    loop.write(b"ki")
    loop.turn()
    loop.write(b"ll 1")
    for _ in range(5):
        loop.turn()
    assert loop.ordered == []
    loop.write(b"2\n")
    loop.answered(1)
    assert loop.ordered == [["kill", "12"]]


def test_a_writer_that_never_writes_holds_nobody_up(loop):
    with open(loop.directory / "control", "wb", buffering=0):
        loop.write(b"kill 12\n")
        loop.answered(1)


def test_a_line_that_is_too_long_is_answered_and_the_next_one_counts(loop):
    loop.write(b"k" * 3000)
    assert "more than 256 bytes" in loop.answered(1)[0]
    loop.write(b"ill 12\nkill 13\n")
    loop.answered(2)
    assert loop.ordered == [["kill", "13"]]


@pytest.mark.parametrize("garbage", [b"y\n", b"\n", b"x", os.urandom(4096)])
def test_a_flood_takes_little_of_a_turn_and_buries_no_answer(tmp_path, garbage):
    def obey(words):
        if words[0] != "kill":
            raise UsageError("no command")
        return "as ordered"

    loop = Loop(tmp_path, obey)
    loop.write(b"kill 1\n")
    loop.answered(1)

    def flood():
        loop.write(garbage * (300_000 // len(garbage)) + b"\n")
        loop.write(b"kill 2\n")

    writer = threading.Thread(target=flood)
    writer.start()
    turns = []
    while not any(" kill 2: done" in line for line in loop.answers()):
        turns.append(loop.turn())
    writer.join()
    assert any(" kill 1: done" in line for line in loop.answers())
    # Of the 2 ms that it may take, and one line more; now and then somebody else gets the processor.
    assert sorted(turns)[len(turns) * 9 // 10] < 20 * MS
    loop.close()


def test_while_there_is_enough_to_do_nothing_more_is_taken_in(tmp_path):
    loop = Loop(tmp_path, lambda _words: select.select([], [], [], 0.003) and "slowly")
    loop.write(b"kill 1\n" * 20)
    loop.turn()
    loop.turn()
    assert 1 <= len(loop.answers()) < 10
    assert not loop.selector.get_map()
    loop.answered(20)
    loop.close()


# -- what was there before ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["file", "link", "directory", "fifo"])
def test_what_somebody_has_put_there_is_replaced(tmp_path, name, kind):
    there, other = tmp_path / name, tmp_path / "other"
    other.write_text("untouched")
    {
        "file": there.touch,
        "link": lambda: there.symlink_to(other),
        "directory": there.mkdir,
        "fifo": lambda: os.mkfifo(there),
    }[kind]()
    loop = Loop(tmp_path)
    loop.write(b"kill 12\n")
    loop.files.rewrite()
    assert loop.answered(1) == ["kill 12: done: as ordered"]
    assert (tmp_path / "status").read_text().startswith("look")
    assert not (tmp_path / "status").is_symlink()
    assert other.read_text() == "untouched"
    loop.close()
    assert list(tmp_path.iterdir()) == [other]


def test_a_directory_with_something_in_it_is_left_and_noted_once(tmp_path):
    (tmp_path / "answer" / "x").mkdir(parents=True)
    loop = Loop(tmp_path)
    loop.write(b"kill 12\n")
    loop.until(lambda: loop.ordered)
    loop.files.rewrite()
    loop.turn()
    [note] = loop.notes
    assert "answer" in note
    loop.close()


def test_who_waits_at_the_fifo_of_a_dead_guard_goes_on_and_is_not_obeyed(tmp_path):
    os.mkfifo(tmp_path / "control", 0o600)
    shell = subprocess.Popen(["sh", "-c", "echo kill 12 >control; echo alive"], cwd=tmp_path, stdout=subprocess.PIPE)
    looks = 0
    while looks < 20:  # nothing else puts it to sleep than open
        found = stat_of(shell.pid)
        looks = looks + 1 if found.state == "S" and found.comm != b"python" else 0
        time.sleep(0.005)
    loop = Loop(tmp_path)
    assert shell.communicate(timeout=20)[0] == b"alive\n"
    loop.write(b"kill 13\n")
    loop.answered(1)
    assert loop.ordered == [["kill", "13"]]
    loop.close()


def test_where_others_may_write_there_are_none(tmp_path):
    (tmp_path / "status").write_text("theirs")
    loop = Loop.__new__(Loop)
    loop.notes = []
    tmp_path.chmod(0o777)
    found = Files(str(tmp_path), lambda _words: "", lambda _anew: "", lambda _event, text: loop.notes.append(text))
    found.open()
    found.rewrite()
    with selectors.DefaultSelector() as selector:
        found.tick(selector)
        assert not selector.get_map()
    found.withdraw()
    found.close()
    with Instance(str(tmp_path), scoped=False):
        pass
    assert (tmp_path / "status").read_text() == "theirs"
    assert "chmod 700" in loop.notes[0]
    assert len(loop.notes) == 1


# -- a disk that is full -----------------------------------------------------------------------------------------------


def test_a_full_disk_is_a_note_and_the_old_status_stays(loop, monkeypatch):
    before = (loop.directory / "status").read_text()
    real = os.open

    def full(path, flags, *more):
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", full)
    for _ in range(3):
        loop.files.rewrite()
        loop.files.changed()
    loop.write(b"kill 12\n")
    loop.until(lambda: loop.ordered)
    loop.turn()
    assert [("status" in n, "No space left" in n) for n in loop.notes] == [(True, True), (False, True)]
    monkeypatch.undo()
    assert (loop.directory / "status").read_text() == before
    loop.files.rewrite()
    assert (loop.directory / "status").read_text() != before


def test_a_look_that_fails_is_a_note_too(loop):
    def fail(_anew):
        raise OSError(errno.ENFILE, "Too many open files in system")

    loop.files._look = fail
    loop.files.rewrite()
    loop.files.changed()
    loop.turn()
    assert len(loop.notes) == 1


# -- when it is written ------------------------------------------------------------------------------------------------


def test_a_change_is_written_at_once_and_looked_at_anew_soon(loop):
    assert loop.looks == [True]
    loop.files.changed()
    assert loop.looks == [True, False]
    assert (loop.directory / "status").read_text() == "look 2\n"
    assert loop.files._status_ns <= module.boot_ns() + module._BUSY_NS


def test_looking_takes_a_thousandth_of_the_time_at_most(loop):
    def slowly(_anew):
        select.select([], [], [], 0.03)
        return ""

    loop.files._look = slowly
    loop.files.rewrite()
    assert loop.files._status_ns >= module.boot_ns() + 29_000 * MS


def test_readers_have_the_old_text_or_the_new_one(loop):
    stop = threading.Event()
    seen = set()

    def read():
        while not stop.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.add((loop.directory / "status").read_text())

    loop.files._look = lambda _anew: "x" * 10_000 + "\n"
    loop.files.rewrite()
    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(300):
        loop.files.rewrite()
    stop.set()
    reader.join()
    assert seen <= {"x" * 10_000 + "\n"}


# -- answers -----------------------------------------------------------------------------------------------------------


def test_the_last_twenty_are_kept_and_none_is_long():
    answers = Answers()
    for n in range(50):
        answers.add(f"kill {n}", "x" * 5000)
    lines = answers.text().splitlines()[1:]
    assert [line.split()[0] for line in lines] == [str(n) for n in range(31, 51)]
    assert all(len(line) < 1100 for line in lines)


def test_nonsense_in_a_row_is_one_answer():
    answers = Answers()
    answers.add("kill 1", "done: killed")
    for _ in range(30):
        answers.add("y", "not done: no command", nonsense=True)
    answers.add("kill 2", "done: killed")
    lines = [line.split(" ", 2) for line in answers.text().splitlines()[1:]]
    assert [line[0] for line in lines] == ["1", "31", "32"]
    assert lines[1][2] == "y (and 29 lines before it): not done: no command"
