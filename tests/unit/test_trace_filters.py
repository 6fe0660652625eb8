"""-e expressions, and the groups of strace and systemd."""

from __future__ import annotations

import contextlib
import errno
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidwarden.errors import UsageError
from pidwarden.trace import filters, groups

CALLS = {
    "read": [("unsigned int", "fd"), ("char *", "buf"), ("size_t", "count")],
    "openat": [("int", "dfd"), ("const char *", "filename"), ("int", "flags")],
    "openat2": [("int", "dfd"), ("const char *", "filename")],
    "close": [("unsigned int", "fd")],
    "clone": [("unsigned long", "clone_flags")],
    "execve": [("const char *", "filename"), ("const char *const *", "argv")],
    "getcwd": [("char *", "buf"), ("unsigned long", "size")],
    "sendto": [("int", "fd"), ("void *", "buff")],
    "sendfile": [("int", "out_fd"), ("int", "in_fd")],
    "fgetxattr": [("int", "fd"), ("const char *", "name")],
    "poll": [("struct pollfd *", "ufds"), ("unsigned int", "nfds")],
    "getpid": [],
    "statx": [("int", "dfd"), ("const char *", "filename")],
    "stat": [("const char *", "filename")],
    "shiny_new_at": [("int", "dfd"), ("const char *", "pathname")],
}


def chosen(*expressions):
    found = filters.parse(expressions, CALLS).calls
    return set(CALLS) if found is None else set(found)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("openat,read", {"openat", "read"}),
        ("trace=close", {"close"}),
        ("t=close", {"close"}),
        ("/^open", {"openat", "openat2"}),
        ("/^open.{2,3}$", {"openat", "openat2"}),
        ("?nonesuch,close", {"close"}),
        ("none", set()),
        ("!all", set()),
        ("all", set(CALLS)),
        ("!none", set(CALLS)),
        ("%file", {"openat", "openat2", "execve", "getcwd", "statx", "stat", "shiny_new_at"}),
        ("file", {"openat", "openat2", "execve", "getcwd", "statx", "stat", "shiny_new_at"}),
        ("%desc", {"read", "openat", "openat2", "close", "sendfile", "fgetxattr", "poll", "statx", "shiny_new_at"}),
        ("%net", {"sendto", "sendfile"}),
        ("%network,%pure", {"sendto", "sendfile", "getpid"}),
        ("%%stat", {"statx", "stat"}),
        ("stat", {"stat"}),
        ("@network-io", {"sendto"}),
        ("@basic-io", {"read", "close"}),
        ("!%file,%desc", {"clone", "sendto", "getpid"}),
    ],
)
def test_calls_are_chosen(expression, names):
    assert chosen(expression) == names


def test_systemd_groups_hold_others():
    assert {"read", "sendto", "getpid", "stat"} <= chosen("@system-service")


def test_the_last_of_a_kind_counts_and_kinds_go_together():
    found = filters.parse(["openat", "close", "status=failed", "took>10ms"], CALLS)
    assert found == filters.Filter(frozenset({"close"}), "failed", frozenset(), 10_000_000)
    assert found.by_result
    assert not found.wants("openat")


@pytest.mark.parametrize(
    ("expression", "only"),
    [("status=failed", "failed"), ("status=successful", "done"), ("status=!failed", "done"),
     ("status=failed,successful", ""), ("status=all", "")],
)  # fmt: skip
def test_status(expression, only):
    assert filters.parse([expression], CALLS).only == only


def test_errors_by_name_and_number():
    found = filters.parse(["errno=ENOENT,eacces,110"], CALLS)
    assert found.errnos == {errno.ENOENT, errno.EACCES, errno.ETIMEDOUT}
    assert found.masks() == (1 << 2 | 1 << 13, 1 << (110 - 64), 0)


@pytest.mark.parametrize(
    ("text", "ns"),
    [("10ms", 10**7), ("1.5s", 1_500_000_000), ("200us", 200_000), ("200µs", 200_000), ("5ns", 5), ("2", 2 * 10**9)],
)
def test_times(text, ns):
    assert filters.parse([f"took>{text}"], CALLS).min_ns == ns
    assert filters.parse([], CALLS, text).min_ns == ns


def test_signals():
    assert filters.parse(["signal=SIGCHLD,term,9"], CALLS).signals == {signal.SIGCHLD, signal.SIGTERM, 9}
    assert filters.parse(["signal=none"], CALLS).signals == frozenset()
    assert filters.parse(["signal=all"], CALLS).signals is None
    assert signal.SIGCHLD not in filters.parse(["signal=!SIGCHLD"], CALLS).signals


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("openatt", "did you mean openat"),
        ("%fil", "did you mean %file"),
        ("@network", "@network-io"),
        ("/(", "no regular expression"),
        ("/^zzz", "no call's name matches"),
        ("a,,b", "missing"),
        ("", "missing"),
        ("errno=ENOENTT", "did you mean ENOENT"),
        ("errno=0", "no such error"),
        ("status=fine", "status=failed"),
        ("took>soon", "10ms"),
        ("signal=SIGFOO", "no such signal"),
        ("inject=read", "strace is for"),
        ("read=3", "--data"),
        ("colour=red", "none of trace"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(expression, hint):
    with pytest.raises(UsageError, match=hint):
        filters.parse([expression], CALLS)


def test_success_with_an_error_makes_no_sense():
    with pytest.raises(UsageError, match="exclude"):
        filters.parse(["status=successful", "errno=EPERM"], CALLS)


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_any_text_is_understood_or_refused(text):
    with contextlib.suppress(UsageError):
        assert isinstance(filters.parse([text], CALLS), filters.Filter)


def test_every_group_has_a_name_that_is_understood():
    for name in groups.names():
        assert groups.members(name, CALLS) is not None
