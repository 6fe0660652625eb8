"""What descriptors lead to, behind their numbers."""

from __future__ import annotations

import pytest

from pidwarden.trace import abi, numbers
from pidwarden.trace.descriptors import NamingDecoder
from pidwarden.trace.event import Event, Piece
from pidwarden.trace.signature import Signature

NR = {name: nr for nr, name in numbers.CALLS["x86_64"][abi.NATIVE].items()}
AT_FDCWD = 0xFFFFFF9C


def returned(name, *args, ret=0, path=None, tgid=1):
    given = (*args, *(0,) * (6 - len(args)))
    pieces = tuple(Piece(arg, 0, 0, data) for arg, data in (path or {}).items())
    return Event(2, 1, tgid, tgid, abi.RETURN, NR[name], 0, 0, 0, ret, given, pieces)


class Shown:
    def __init__(self, *, keep=True):
        self.asked = []
        signatures = {"close": Signature("close", (("unsigned int", "fd"),))}
        self.decoder = NamingDecoder("x86_64", signatures, look=self.look, keep=keep)

    def look(self, pid, fd):
        self.asked.append((pid, fd))
        return {(1, 7): "socket:[77]", (1, None): "/srv"}.get((pid, fd), "")

    def __call__(self, name, *args, **more):
        event = returned(name, *args, **more)
        return ", ".join(self.decoder.arguments(None, event)) + self.decoder.result(event)


@pytest.fixture
def shown():
    return Shown()


def opened(shown, fd, path=b"/etc/hostname", **more):
    return shown("openat", AT_FDCWD, 1, 0, ret=fd, path={1: path}, **more)


def test_a_file_is_known_by_the_path_it_was_opened_by_until_it_is_closed(shown):
    assert opened(shown, 3).endswith("= 3</etc/hostname>")
    assert shown("lseek", 3, 0, 0).startswith("3</etc/hostname>, ")
    assert shown("close", 3) == "3</etc/hostname> = 0"
    assert shown("lseek", 3, 0, 0).startswith("3, ")


def test_what_is_not_known_is_asked_for_once(shown):
    assert shown("lseek", 7, 0, 0).startswith("7<socket:[77]>, ")
    assert shown("lseek", 7, 0, 0).startswith("7<socket:[77]>, ")
    assert shown.asked == [(1, 7)]


def test_where_changes_are_not_seen_it_is_asked_for_each_time():
    shown = Shown(keep=False)
    opened(shown, 7)
    assert shown("lseek", 7, 0, 0).startswith("7<socket:[77]>, ")


def test_copies_lead_to_the_same(shown):
    opened(shown, 3)
    shown("dup2", 3, 1, ret=1)
    assert shown("lseek", 1, 0, 0).startswith("1</etc/hostname>, ")
    opened(shown, 4, b"/dev/null")
    assert shown("dup2", 4, 1, ret=1) == "4</dev/null>, 1</etc/hostname> = 1</dev/null>"


def test_a_child_has_its_parents_and_then_its_own(shown):
    opened(shown, 3)
    shown.decoder.forked(1, 2)
    shown("close", 3)
    assert shown("lseek", 3, 0, 0, tgid=2).startswith("3</etc/hostname>, ")


def test_the_working_directory(shown):
    assert opened(shown, 3, b"x").startswith("AT_FDCWD</srv>, ")
    shown("chdir", 1, path={0: b"/tmp"})
    assert opened(shown, 3, b"x").startswith("AT_FDCWD</tmp>, ")


def test_calls_that_are_not_shown_are_followed(shown):
    shown.decoder.unseen(None, returned("openat", AT_FDCWD, 1, ret=3, path={1: b"/a<b>"}))
    assert shown("lseek", 3, 0, 0).startswith("3</a\\74b\\76>, ")
    shown.decoder.unseen(None, returned("close", 3, ret=-9))
    assert shown("lseek", 3, 0, 0).startswith("3</a\\74b\\76>, ")
    shown.decoder.unseen(None, returned("close", 3))
    assert shown("lseek", 3, 0, 0).startswith("3, ")


def test_what_was_there_at_the_beginning(shown):
    shown.decoder.learn(1, {0: "pipe:[5]", None: "/home"})
    assert shown("lseek", 0, 0, 0).startswith("0<pipe:[5]>, ")
    assert opened(shown, 3, b"x").startswith("AT_FDCWD</home>, ")
    assert not shown.asked[:-1]
