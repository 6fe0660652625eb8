"""The last resort, with everything but the last step real: nothing here calls reboot(2)."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import Machine

from pidwarden.errors import NoPermission, NotPossible
from pidwarden.rescue import reboot
from pidwarden.rescue.reboot import WITHIN_NS, WORD, Asked, ask

SYS_BOOT = 1 << 22
LOST = ["all is lost"]


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.write("proc/self/status", f"CapEff:\t{SYS_BOOT:016x}\n")
    made.memory(Dirty=3 * 1024, Writeback=512)
    return made


# -- asked twice -------------------------------------------------------------------------------------------------------


def test_it_takes_two_and_the_very_words():
    first = ask(Asked(), "", 5, LOST)
    assert (first.go, first.lines) == (False, ["all is lost", "type `reboot yes, reboot` within 30 s to do it"])
    second = ask(first.asked, WORD, 6, LOST)
    assert (second.go, second.asked) == (True, Asked())


@pytest.mark.parametrize("word", ["", "yes", "Yes, reboot", "yes, reboot ", "yes,reboot", "y"])
def test_other_words_ask_again(word):
    first = ask(Asked(), "", 5, LOST)
    assert not ask(first.asked, word, 6, LOST).go


def test_the_word_alone_is_not_enough():
    assert not ask(Asked(), WORD, 5, LOST).go


@pytest.mark.parametrize(("later", "go"), [(0, True), (WITHIN_NS, True), (WITHIN_NS + 1, False), (-1, False)])
def test_it_is_forgotten_after_half_a_minute(later, go):
    first = ask(Asked(), "", 5, LOST)
    second = ask(first.asked, WORD, 5 + later, LOST)
    assert second.go == go
    assert go or second.lines[0] == "that came too late, so it is asked again"
    assert go or ask(second.asked, WORD, 6 + later, LOST).go


@given(st.lists(st.tuples(st.sampled_from(["", WORD, "no"]), st.integers(0, 2 * WITHIN_NS)), max_size=20))
def test_nothing_is_done_that_was_not_asked_just_before(steps):
    asked, now, before = Asked(), 0, None
    for word, passed in steps:
        now += passed
        answer = ask(asked, word, now, LOST)
        if answer.go:
            assert word == WORD
            assert before is not None
            assert now - before <= WITHIN_NS
        asked, before = answer.asked, None if answer.go else now


# -- what is said ------------------------------------------------------------------------------------------------------


def test_what_would_be_lost(machine):
    text = "\n".join(reboot.lost(str(machine.proc)))
    assert "345 tasks end unasked" in text
    assert "3.5 MiB" in text
    assert "`reboot --no-sync`" in text


def test_without_sync_that_is_lost_as_well(machine):
    text = "\n".join(reboot.lost(str(machine.proc), sync=False))
    assert "3.5 MiB that wait for the disk are lost" in text
    assert "hangs" not in text


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("0", "nothing"),
        ("1", "everything"),
        ("176", "sync (s), read-only remount (u), reboot and power-off (b, o)"),
        ("438", "console's log level"),
        ("64", "signals to all (e, i, f)"),
        ("1024", "nothing"),
    ],
)
def test_what_the_keys_may_do(machine, mask, said):
    machine.write("proc/sys/kernel/sysrq", f"{mask}\n")
    assert said in reboot.sysrq(str(machine.proc))[0]


def test_the_trigger_is_offered_where_it_can_be_written(machine):
    machine.write("proc/sys/kernel/sysrq", "0\n")
    assert any("sysrq-trigger cannot be written" in line for line in reboot.sysrq(str(machine.proc)))
    machine.write("proc/sysrq-trigger", "")
    assert any(f"`echo s > {machine.proc}/sysrq-trigger`" in line for line in reboot.sysrq(str(machine.proc)))


def test_a_kernel_without_the_keys(machine):
    assert "reset button" in reboot.sysrq(str(machine.proc))[0]


# -- doing it ----------------------------------------------------------------------------------------------------------


def test_sync_comes_before_it(machine):
    done = []
    with pytest.raises(NotPossible):  # it came back
        reboot.reboot(lambda: done.append("reboot") or errno.EINVAL, lambda: done.append("sync"), str(machine.proc))
    assert done == ["sync", "reboot"]


def test_sync_is_left_out_if_that_is_asked(machine):
    done = []
    with pytest.raises(NotPossible, match="Invalid argument"):
        reboot.reboot(lambda: done.append("reboot") or errno.EINVAL, None, str(machine.proc))
    assert done == ["reboot"]


def test_without_the_capability_nothing_is_called_and_what_is_left_is_said(machine):
    machine.write("proc/self/status", f"CapEff:\t{~SYS_BOOT & (1 << 41) - 1:016x}\n")
    machine.write("proc/sys/kernel/sysrq", "176\n")
    done = []
    with pytest.raises(NoPermission, match=r"CAP_SYS_BOOT; .*sysrq is 176: .*sysrq-trigger.*Alt-SysRq-e") as why:
        reboot.reboot(lambda: done.append("reboot") or 0, lambda: done.append("sync"), str(machine.proc))
    assert done == []
    assert "\n" not in str(why.value)


def test_a_kernel_that_refuses_nevertheless(machine):
    with pytest.raises(NoPermission, match="CAP_SYS_BOOT"):
        reboot.reboot(lambda: errno.EPERM, lambda: None, str(machine.proc))
