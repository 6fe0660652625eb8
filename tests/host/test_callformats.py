"""What this kernel says of its system calls, through a tracefs that is mounted nowhere."""

from __future__ import annotations

import platform

import pytest

from pidwarden.kernel import callformats
from pidwarden.trace.decode import signatures
from pidwarden.trace.numbers import CALLS
from pidwarden.trace.signature import EVENTS

pytestmark = pytest.mark.root
# Calls without an event: not described to tracing, or not built into every kernel.
_WITHOUT = {
    "clone", "delete_module", "epoll_ctl_old", "epoll_wait_old", "finit_module", "fork", "get_thread_area",
    "init_module", "kexec_file_load", "kexec_load", "listns", "lookup_dcookie", "map_shadow_stack", "rseq_slice_yield",
    "rt_sigreturn", "set_thread_area", "uretprobe", "uprobe", "vfork",
}  # fmt: skip


def test_calls_have_their_arguments():
    formats = callformats.read()
    if not formats:
        pytest.skip("this kernel traces no system calls")
    found = signatures(formats)
    assert found["openat"].args == (
        ("int", "dfd"), ("const char *", "filename"), ("int", "flags"), ("umode_t", "mode"),
    )  # fmt: skip
    assert found["getpid"].args == ()
    for call, event in EVENTS.items():
        assert found[call].args == found[event].args


def test_few_calls_have_no_event_and_no_event_is_of_an_unknown_call():
    formats = callformats.read()
    if not formats or platform.machine() != "x86_64":
        pytest.skip("other events")
    found, names = signatures(formats), set(CALLS["x86_64"][0].values())
    assert formats.keys() - names == set(EVENTS.values()) & formats.keys()
    old = {name for number, name in CALLS["x86_64"][0].items() if number < 300}
    assert old - found.keys() <= _WITHOUT | {
        "uselib",
        "nfsservctl",
        "modify_ldt",
        "quotactl",
        "ioperm",
        "iopl",
        "swapon",
        "swapoff",
    }
