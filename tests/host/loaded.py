"""Loads the kernel side once for many tests: an emulated processor verifies it for four seconds.

Only the loaded programs are shared. Whoever takes them finds every map empty and nothing attached.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from pidwarden.kernel.bpf import Programs
from pidwarden.kernel.gates import Choice
from pidwarden.kernel.libbpf import library

if TYPE_CHECKING:
    from pidwarden.kernel.libbpf import Map

_MOST = 4  # a few dozen megabytes each
_kept: dict[tuple[str, int], tuple[Choice, Programs]] = {}


def take(gate: str, records: int) -> tuple[Choice, Programs]:
    """The kernel side as after loading it, for the gate of that key, ``auto`` or none, and how to put the gate up."""
    if kept := _kept.pop((gate, records), None):
        return kept
    choice = Choice(gate or "auto")
    return choice, choice.load(max_records=records) if gate else Programs.load(max_records=records)


def give_back(gate: str, records: int, choice: Choice, programs: Programs) -> None:
    """Detaches it and empties its maps, for the next test."""
    programs.watch_every_call(on=False)
    for link in programs.links:
        link.destroy()
    programs.links.clear()
    programs.set_executables({})
    for name in ("tasks", "procs", "groups", "exes"):
        _empty(programs.maps[name])
    for name in ("config", "state"):
        programs.maps[name].set(bytes(4), bytes(programs.maps[name].value_size))
    list(programs.signals())
    _kept[gate, records] = choice, programs
    while len(_kept) > _MOST:
        _kept.pop(next(iter(_kept)))[1].close()


def _empty(found: Map) -> None:
    key, after = ctypes.create_string_buffer(found.key_size), ctypes.create_string_buffer(found.key_size)
    more = library().bpf_map_get_next_key(found.fd, None, key) == 0
    while more:
        more = library().bpf_map_get_next_key(found.fd, key, after) == 0  # before the one that it begins at is gone
        found.delete(key.raw)
        key.raw = after.raw
