"""strace and we on the same run of a program: the same calls in the same order, the same text, for each thread.

What differs and may is in DIFFERENCES, with the reason; nothing else does.
"""

from __future__ import annotations

import difflib
import os
import re

import pytest
import traceprograms
from samekit import run_of_both, threads

from pidwarden.trace.numbers import CALLS as NUMBERS
from pidwarden.trace.shapes import CALLS

pytestmark = [pytest.mark.root, pytest.mark.bpf]


def _without(pattern, text=""):
    compiled = re.compile(pattern)
    return lambda lines: [compiled.sub(text, line) for line in lines]


def _no_line(pattern):
    compiled = re.compile(pattern)
    return lambda lines: [line for line in lines if not compiled.match(line)]


def _no_leader_before_exec(lines):
    """Without the end of a thread that another one of its process takes the number of."""
    after = [*lines[1:], ""]
    return [x for x, y in zip(lines, after, strict=True) if not (x.startswith("+++ exited") and "superseded" in y)]


def _same(lines):
    return lines


# What is done to strace's lines, to ours, and why they cannot be the same.
DIFFERENCES = (
    (_without(r"^rt_sigreturn\(\{mask=.*?\}\)", "rt_sigreturn()"), _same,
     "the mask that comes back lies on the stack: no argument leads to it"),
    (_no_line(r"--- stopped by "), _same, "a stop is told to who traces by ptrace, and is no signal that is delivered"),
    (_same, _without(r" <(never entered: denied, as by seccomp|begun before the trace)>$"), "strace does not say that"),
    (_same, _no_leader_before_exec, "strace shows of the thread whose number execve takes only that it was superseded"),
    (_without(r"\{sigmask=[^}]*, sigsetsize=", "{sigmask=?, sigsetsize="),
     _without(r"\{sigmask=[^}]*, sigsetsize=", "{sigmask=?, sigsetsize="),
     "of pselect6 a pointer leads to a pointer, and we follow the first"),
    (_without(r" => \{[^}]*pidfd=\[\d+\][^}]*\}"), _without(r" => \{[^}]*pidfd=\[\d+\][^}]*\}"),
     "the same: of clone3's struct"),
)  # fmt: skip
_ENDS = ("exit(", "exit_group(")
_ENTRIES = re.compile(r" /\* (\d+)(\+?) entries \*/")
_CALL = re.compile(r"(\w+)\((.*)\) = (0x[0-9a-f]+|-1 E[A-Z0-9]+|\S+)")
_NUMBER = re.compile(r"syscall_(0x[0-9a-f]+)")


def _is_as_good(theirs, ours):
    """Whether two lines that differ say the same as far as one of the two can know it."""
    if theirs == ours:
        return True
    if theirs.endswith(" = ?") and not theirs.startswith(
        _ENDS
    ):  # it was killed in that call, or right after: strace did not see its result
        return theirs.partition("(")[0] == ours.partition("(")[0]
    entries, counted = _ENTRIES.search(theirs), _ENTRIES.search(ours)
    if entries and counted and counted[2]:  # the first 4096 bytes of a folder's entries are looked at
        return int(counted[1]) <= int(entries[1]) and _ENTRIES.sub("", theirs) == _ENTRIES.sub("", ours)
    one, other = _CALL.match(theirs), _CALL.match(ours)
    return bool(one and other) and _value(one[3]) == _value(other[3]) and _is_as_decoded(one, other)


def _is_as_decoded(one, other):
    """The same of two calls, of which the results are the same."""
    if new := _NUMBER.fullmatch(one[1]):  # a call that is younger than this strace
        return NUMBERS[os.uname().machine][0].get(int(new[1], 16)) == other[1]
    if one[1] != other[1]:
        return False
    if one[1] not in CALLS:  # not among those whose text is strace's: named arguments, as numbers
        return "=" in other[2]
    if one[1] == "ioctl":  # structs of those requests that few programs make are not decoded
        return one[2].split(", ")[:2] == other[2].split(", ")[:2] and bool(re.search(r", 0x[0-9a-f]+$", other[2]))
    return "{nlmsg_len=" in one[2]  # strace knows of a descriptor that it is of netlink, and decodes its messages


def _value(text):
    return int(text, 0) if re.fullmatch(r"-?[1-9]\d*|0|0x[0-9a-f]+", text) else text


def _was_killed(lines):
    return len(lines) > 1 and lines[-1].startswith("+++ ") and not lines[-2].startswith(_ENDS)


def _but_for_the_last(lines, other):
    """Without what came right before the end, if the thread was killed and only one of the two saw it.

    Who is stopped by strace, before a call or before a signal is delivered, is killed right there: strace has seen that
    signal and we have not, we see that the call was never made and strace has not.
    """
    if len(lines) == len(other) + 1 and lines[-1] == other[-1] and _was_killed(other):
        return [*lines[:-2], lines[-1]]
    return lines


def comparable(theirs, ours):
    """The lines of a thread, so that all that still differs is an error."""
    for change_theirs, change_ours, _why in DIFFERENCES:
        theirs, ours = change_theirs(theirs), change_ours(ours)
    theirs, ours = _but_for_the_last(theirs, ours), _but_for_the_last(ours, theirs)
    if len(theirs) == len(ours):
        theirs = [y if _is_as_good(x, y) else x for x, y in zip(theirs, ours, strict=True)]
    return theirs, ours


@pytest.mark.parametrize("name", traceprograms.NAMES)
def test_a_program_as_strace_shows_it(name, tmp_path):
    pid, by_strace, by_us = run_of_both(traceprograms.argv_of(name), tmp_path)
    theirs, ours = threads(by_strace, pid), threads(by_us, pid)
    differing = []
    for tid in sorted(theirs.keys() | ours.keys()):
        pair = comparable(theirs.get(tid, []), ours.get(tid, []))
        differing += difflib.unified_diff(*pair, f"strace {tid}", f"pidwarden {tid}", lineterm="", n=1)
    assert not differing, "\n".join(differing[:60])
