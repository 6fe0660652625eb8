"""The program for borrowed threads is what its source says, and calls that were cut short go on."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pidwarden.kernel.registers import HEAD, IMAGE, MACHINES, MOST, PIDS
from pidwarden.model.task import Syscall

PROPS = Path(__file__).parent.parent / "props"
X86, ARM = MACHINES["x86_64"], MACHINES["aarch64"]


@pytest.mark.parametrize("name", MACHINES)
def test_the_bytes_are_those_of_the_source(name, tmp_path):
    if not shutil.which("clang") or not shutil.which("objcopy"):
        pytest.skip("no clang or no objcopy")
    made = tmp_path / "made.o"
    source = str(PROPS / f"reap_{name}.s")
    subprocess.run(["clang", f"--target={name}-linux-gnu", "-c", source, "-o", str(made)], check=True)
    assert MACHINES[name].loop in made.read_bytes()


def words(machine, **values):
    return [values.get(name, at) for at, name in enumerate(machine.words)]


def x86_in_call(result, number=0):
    return words(X86, orig_rax=number, rax=result % (1 << 64), rip=0x1002)


def test_registers_go_there_and_back():
    for machine in MACHINES.values():
        values = words(machine)
        assert machine.unpack(machine.pack(values)) == values
        assert machine.unpack(bytes(68)) is None  # of 32 bits on x86


def test_who_is_in_no_call_has_no_instruction_for_it():
    assert X86.called_from(words(X86, orig_rax=(1 << 64) - 1), None) is None
    assert X86.called_from(x86_in_call(-512), None) == 0x1000
    assert ARM.called_from(words(ARM, pc=0x1004), None) is None
    for pc in (0x1000, 0x1004):  # it goes back to the instruction before anybody sees it
        assert ARM.called_from(words(ARM, pc=pc), Syscall(63, (0,) * 6, 0, 0x1004)) == 0x1000


def test_nothing_is_called_again_in_a_borrowed_thread():
    calling = X86.calling(x86_in_call(-512), 0x5000, "wait4", 7, 0, 1, 0)
    assert [X86.get(calling, r) for r in ("rax", "orig_rax", "rip", "rdi", "rdx", "rsp")] == [
        61, (1 << 64) - 1, 0x5000, 7, 1, X86.words.index("rsp")
    ]  # fmt: skip
    looping = ARM.looping(words(ARM), 0x10000, 9)
    assert [ARM.get(looping, r) for r in ("pc", "x19", "x20", "x21")] == [0x10000, 0x10000 + HEAD, 0x10000 + PIDS, 9]


@pytest.mark.parametrize("cut", [512, 513, 514, 516])
def test_what_the_kernel_takes_up_again_is_given_back_as_it_is(cut):
    assert X86.going_on(x86_in_call(-cut), None) == x86_in_call(-cut)


def test_a_wait_that_the_stop_has_ended_is_begun_again():
    epoll_wait, close = 232, 3
    changed = X86.going_on(x86_in_call(-4, epoll_wait), None)
    assert X86.answer(changed) == -514
    assert X86.get(changed, "orig_rax") == epoll_wait
    assert X86.going_on(x86_in_call(-4, close), None) == x86_in_call(-4, close)
    assert X86.going_on(x86_in_call(5, epoll_wait), None) == x86_in_call(5, epoll_wait)


def test_arm64_forgets_what_it_had_to_take_up():
    sleep = Syscall(101, (9, 0, 0, 0, 0, 0), 0, 0x1004)
    assert ARM.get(ARM.going_on(words(ARM, pc=0x1000, x8=101), sleep), "x8") == 128
    until = Syscall(115, (0, 1, 0, 0, 0, 0), 0, 0x1004)  # an absolute time is no rest
    assert ARM.get(ARM.going_on(words(ARM, pc=0x1000, x8=115), until), "x8") == 115
    poll = Syscall(22, (5, 0, 0, 0, 0, 0), 0, 0x1004)
    changed = ARM.going_on(words(ARM, pc=0x1004, x0=(1 << 64) - 4), poll)
    assert (ARM.get(changed, "pc"), ARM.get(changed, "x0")) == (0x1000, 5)
    read = words(ARM, pc=0x1004, x0=3)
    assert ARM.going_on(read, poll) == read
    assert ARM.going_on(read, None) == read


@pytest.mark.parametrize(("cut", "call"), [(512, 0), (514, 0), (516, 219)])
def test_what_is_given_back_without_us_calls_again_too(cut, call):
    head, image = X86.head(x86_in_call(-cut), 0xABC)
    done, _seconds, _ns, mask, stack, pc = struct.unpack("=QqqQQQ", head)
    assert (done, mask, stack, pc) == (0, 0xABC, X86.words.index("rsp"), 0x1000)
    values = dict(zip(X86.image, struct.unpack(f"={len(X86.image)}Q", image), strict=True))
    assert values["rax"] == call
    assert values["eflags"] == X86.words.index("eflags")
    assert len(head) <= PIDS - HEAD


def test_there_is_room_for_all_of_it():
    assert PIDS + 4 * MOST < IMAGE - 0x3000  # below the image a handler may find its stack
