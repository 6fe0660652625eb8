"""What is copied out of a program's memory, and what is not."""

from __future__ import annotations

import pytest

from pidwarden.trace import abi
from pidwarden.trace.abi import AT_ENTRY, AT_RETURN, BYTES, IF_DONE, IOVEC, MSGHDR, NOTHING, STRING, STRINGS
from pidwarden.trace.capture import Capture, every, plans
from pidwarden.trace.shapes import CALLS, checked, shape
from pidwarden.trace.signature import Signature

# Their content is captured only if that was asked for: call and argument.
_CONTENT = [
    ("read", 1), ("pread64", 1), ("write", 1), ("pwrite64", 1), ("sendto", 1), ("recvfrom", 1), ("getrandom", 0),
    ("setxattr", 2), ("getxattr", 2), ("fsetxattr", 2), ("mq_timedsend", 1), ("mq_timedreceive", 1),
]  # fmt: skip
_VECTORS = [
    ("readv", 1),
    ("writev", 1),
    ("preadv", 1),
    ("pwritev2", 1),
    ("vmsplice", 1),
    ("sendmsg", 1),
    ("recvmsg", 1),
]
_SIGNATURES = {name: Signature(name, ()) for name in CALLS}


def captures(name, *, data=False, string=32):
    return plans({1: name}, _SIGNATURES, data=data, string=string)[1].args


@pytest.mark.parametrize(("name", "arg"), _CONTENT)
def test_content_is_captured_only_if_asked_for(name, arg):
    assert captures(name)[arg].kind == NOTHING
    assert captures(name, data=True)[arg]._replace(when=0, by=0) == Capture(BYTES, unit=1, most=33)


@pytest.mark.parametrize(("name", "arg"), _VECTORS)
def test_vectors_are_captured_but_not_what_they_point_to(name, arg):
    without, asked = captures(name)[arg], captures(name, data=True)[arg]
    assert (without.kind, without.most) in ((IOVEC, 0), (MSGHDR, 0))
    assert asked.most == 33


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(("name", "arg"), [("execve", 2), ("execveat", 3)])
def test_the_environment_is_only_counted(name, arg, asked):
    found = captures(name, data=asked)[arg]
    assert (found.kind, found.most, found.when) == (STRINGS, 0, AT_ENTRY)


def test_paths_are_whole_and_arguments_short():
    assert captures("execve")[0] == Capture(STRING, AT_ENTRY, most=abi.PIECE_BYTES)
    assert captures("execve")[1] == Capture(STRINGS, AT_ENTRY, most=33)
    assert captures("execve", string=10_000)[1].most == abi.PIECE_BYTES


def test_keys_of_sockets_are_not_captured():
    assert captures("setsockopt")[3].most == 16


def test_what_a_call_fills_in_is_captured_when_it_is_done():
    assert captures("fstat")[1] == Capture(BYTES, AT_RETURN | IF_DONE, size=144)
    assert captures("poll")[0].when == AT_ENTRY | AT_RETURN | IF_DONE
    assert captures("nanosleep")[0].when == AT_ENTRY
    assert captures("rt_sigaction")[1].when == AT_RETURN


def test_other_abis_give_strings_alone():
    signatures = {"openat": Signature("openat", (("int", "dfd"), ("const char *", "filename"), ("struct x *", "how")))}
    found = plans({295: "openat"}, signatures, data=True, string=32, own=False)[295]
    assert [c.kind for c in found.args] == [NOTHING, STRING, NOTHING, NOTHING, NOTHING, NOTHING]


@pytest.mark.parametrize("own", [False, True])
def test_text_of_a_length_is_content_in_any_abi(own):
    write = Signature("new_call", (("unsigned int", "fd"), ("const char *", "buf"), ("size_t", "count")))
    found = [plans({4: "new_call"}, {"new_call": write}, data=data, string=32, own=own)[4] for data in (False, True)]
    assert [plan.args[1] for plan in found] == [Capture(), Capture(BYTES, AT_ENTRY, abi.BY_ARG + 2, 1, most=33)]


def test_a_plan_is_the_struct_of_the_kernel_side():
    plan = plans({0: "read"}, _SIGNATURES, data=True, string=32)[0]
    traced, at_entry, at_return, early, counted, *words = abi.PLAN.unpack(plan.pack())
    assert (traced, at_entry, at_return, early, counted) == (1, 0, 0, 0, 1)
    packed = abi.CAPTURE.unpack(words[1].to_bytes(8, "little"))
    assert packed == (BYTES, AT_RETURN | IF_DONE, abi.BY_RESULT, 1, 0, 33)
    assert every("x86_64", _SIGNATURES, data=False, string=32)[abi.CALLS + 3].args[1].kind == NOTHING


def test_every_word_of_the_table_means_something():
    assert checked() == []


@pytest.mark.parametrize(
    ("kind", "name", "word"),
    [
        ("const char *", "filename", ("path", True)), ("const char *", "_description", ("str", False)),
        ("int", "dfd", ("dirfd", True)), ("unsigned int", "fd", ("fd", True)), ("umode_t", "mode", ("o", True)),
        ("pid_t", "pid", ("d", True)), ("struct x *", "buf", ("addr", False)), ("unsigned long", "addr", ("x", False)),
        ("int", "flags", ("x32", False)),
    ],
)  # fmt: skip
def test_rules(kind, name, word):
    assert shape(Signature("new_call", ((kind, name),))) == ((word[0],), word[1])
