"""The kernel's messages: records of /dev/kmsg, what syslog(2) gives, and the errors of both."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.errors import NoPermission, NotPossible
from pidwarden.kernel import kmsg
from pidwarden.kernel.kmsg import Message
from pidwarden.rescue import log


def reader(*answers):
    """A read of /dev/kmsg that gives those, bytes or errors, and then has no more."""
    left = list(answers)

    def read():
        if not left:
            raise BlockingIOError
        answer = left.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return read


def texts(*answers, count=100):
    return [message.text for message in kmsg.last(reader(*answers), count)]


@pytest.mark.parametrize(
    ("record", "message", "flag"),
    [
        (b"6,339,5140900,-;NET: Registered\n", Message(6, 5140900, b"NET: Registered"), "-"),
        (b"30,340,5690716,c;udevd[80]: x", Message(6, 5690716, b"udevd[80]: x"), "c"),
        (b"3,1,7,-,caller=T1;a;b,c\n SUBSYSTEM=pci\n DEVICE=+pci:0\n", Message(3, 7, b"a;b,c"), "-"),
        (b"4,1,7,-;back\\x5cslash \\x1b[2J \\xc3\\xa9\n", Message(4, 7, b"back\\slash \x1b[2J \xc3\xa9"), "-"),
        (b"4,1,7,-;one\\x0atwo\n", Message(4, 7, b"one\ntwo"), "-"),
    ],
)
def test_a_record(record, message, flag):
    assert kmsg.parse(record) == (message, flag)


@pytest.mark.parametrize("record", [b"", b"x", b"6,1,2;x", b"a,1,2,-;x", b"6,1,2,-x", b"6,,2,-;x"])
def test_what_is_no_record(record):
    assert kmsg.parse(record) is None


@given(st.binary(max_size=64))
def test_any_text_comes_out_as_it_was(text):
    escaped = b"".join(b"\\x%02x" % c if c < 32 or c >= 127 or c == 92 else bytes((c,)) for c in text)
    assert kmsg.parse(b"6,1,2,-;" + escaped + b"\n") == (Message(6, 2, text), "-")


def test_the_last_are_kept():
    assert texts(*[b"6,%d,0,-;%d\n" % (n, n) for n in range(50)], count=3) == [b"47", b"48", b"49"]


def test_what_was_overwritten_is_passed_over():
    assert texts(b"6,1,0,-;a\n", BrokenPipeError(), b"6,9,0,-;b\n", BrokenPipeError(), b"6,20,0,-;c\n") == [
        b"a",
        b"b",
        b"c",
    ]


def test_pieces_of_a_line_are_put_together():
    assert texts(b"6,1,0,c;one \n", b"4,2,0,+;two \n", b"4,3,0,+;three\n", b"6,4,0,-;x\n") == [b"one two three", b"x"]
    assert texts(b"6,1,0,c;one \n", b"6,2,0,c;two\n", b"6,3,0,-;x\n", b"6,4,0,c;y\n") == [b"one two", b"x", b"y"]


def test_a_piece_whose_line_was_overwritten_stands_alone():
    assert texts(b"4,2,0,+;two\n", b"6,3,0,-;x\n") == [b"two", b"x"]
    assert texts(b"6,1,0,c;one\n", BrokenPipeError(), b"6,2,0,c;two\n") == [b"one", b"two"]


def test_a_buffer_that_fills_as_fast_as_it_is_read_comes_to_an_end(monkeypatch):
    monkeypatch.setattr(kmsg, "_MOST_READS", 100)
    assert len(kmsg.last(lambda: b"6,1,0,-;x\n", 1000)) == 100


SYSLOG = b"<6>[    0.000000] Linux version\n<4>[   12.345678][    T1] odd\n<3>no stamp\nnot a line\n<14>[1.000001] x\n"


def test_what_syslog_gives():
    assert kmsg.parse_log(SYSLOG, 100) == [
        Message(6, 0, b"Linux version"),
        Message(4, 12_345_678, b"odd"),
        Message(3, None, b"no stamp"),
        Message(6, 1_000_001, b"x"),
    ]
    assert len(kmsg.parse_log(SYSLOG, 2)) == 2


def test_lines_have_seconds_since_boot_and_say_what_is_bad():
    assert log.lines(kmsg.parse_log(SYSLOG, 100)) == [
        "[    0.000000] Linux version",
        "[   12.345678] warning: odd",
        "error: no stamp",
        "[    1.000001] x",
    ]


def test_a_message_of_several_lines_cannot_write_to_the_terminal():
    assert log.lines([Message(6, 1_000_000, b"a\n\x1b[2J\tb")]) == ["[    1.000000] a", "[    1.000000] \\x1b[2J    b"]


def refusing(code):
    def klogctl():
        raise OSError(code, os.strerror(code))

    return klogctl


def test_without_the_device_syslog_is_asked(tmp_path):
    for device in (tmp_path / "none", "/dev/null", tmp_path):
        found = log.last(2, device=str(device), klogctl=lambda: SYSLOG)
        assert [m.text for m in found] == [b"no stamp", b"x"]


def test_where_only_root_may_read_it_says_what_decides(tmp_path):
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/dmesg_restrict").write_text("1\n")
    with pytest.raises(NoPermission, match=r"dmesg_restrict is 1, so only CAP_SYSLOG may.*write .*dmesg_restrict 0"):
        log.last(2, str(tmp_path), str(tmp_path / "none"), refusing(errno.EPERM))


def test_a_kernel_that_keeps_none(tmp_path):
    with pytest.raises(NotPossible, match="CONFIG_PRINTK"):
        log.last(2, str(tmp_path), str(tmp_path / "none"), refusing(errno.ENOSYS))
