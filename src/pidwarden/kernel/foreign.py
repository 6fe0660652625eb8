"""What a guard of another version left pinned, read with the layouts that its own maps carry.

Its programs are not understood here, but who is held by them can be: maps keep the BTF they were made with
(``bpf_map_info.btf_id``, kernel Documentation/bpf/btf.rst).
"""

from __future__ import annotations

import os
import struct
from typing import Any, NamedTuple

from pidwarden.errors import PidwardenError
from pidwarden.kernel.btf import Btf
from pidwarden.kernel.libbpf import clear, elements, map_btf, open_pin
from pidwarden.model.key import ProcessKey


class Held(NamedTuple):
    """A family or branch that is held."""

    founder: ProcessKey
    members: tuple[ProcessKey, ...]  # those that hold slots
    judged: bool  # it was split off …
    doubted: bool  # … and not as a bomb


class Foreign(NamedTuple):
    """What of another version's state is worth taking over."""

    held: tuple[Held, ...]
    stopped: tuple[ProcessKey, ...]  # by a gate


def read(directory: str) -> Foreign:
    """Reads the pinned maps in `directory`.

    Raises:
        PidwardenError: they are not there, or lack what is needed.
    """
    try:
        btf, procs = _values(f"{directory}/map_procs", "pw_proc")
        _, groups = _values(f"{directory}/map_groups", "pw_group")
        flags = btf.enums("pw_")["pw_group_flag"]
        layout = btf.layouts("pw_")["pw_key"]
        keys = [dict(zip(layout.fields, struct.unpack(layout.format, raw), strict=True)) for raw, _fields in procs]
        records = [(ProcessKey(k["tgid"], k["start_ns"]), f) for k, (_raw, f) in zip(keys, procs, strict=True)]
        held = []
        for _raw, group in groups:
            if not group["flags"] & flags["PW_GROUP_HELD"]:
                continue
            members = tuple(k for k, f in records if f["slots"] > 0 and group["id"] in (f["family"], f["branch"]))
            founder = ProcessKey(group["founder_tgid"], group["founder_start_ns"])
            judged = bool(group["flags"] & flags["PW_GROUP_WATCHED"])
            held.append(Held(founder, members, judged, bool(group["flags"] & flags.get("PW_GROUP_DOUBTED", 0))))
        stopped = tuple(k for k, f in records if f["held_ns"] and f["live"] > 0)
    except (KeyError, StopIteration, ValueError, struct.error) as why:
        msg = f"the pins in {directory} are not understood ({why!r})"
        raise PidwardenError(msg) from why
    return Foreign(tuple(held), stopped)


def let_go(directory: str) -> None:
    """Nothing is held by these programs any more: their groups go. Detaching them takes the kernel a while.

    Raises:
        PidwardenError: the pins are not there.
    """
    fd = open_pin(f"{directory}/map_groups")
    try:
        clear(fd)
    finally:
        os.close(fd)


def _values(pin: str, name: str) -> tuple[Btf, list[tuple[bytes, dict[str, Any]]]]:
    """The BTF of a pinned map, and its elements: the key as bytes, the fields of the value, a struct `name`."""
    fd = open_pin(pin)
    try:
        btf = Btf(map_btf(fd))
        layout = btf.layouts("pw_")[name]
        found = elements(fd, layout.size)
        return btf, [(k, dict(zip(layout.fields, struct.unpack(layout.format, v), strict=True))) for k, v in found]
    finally:
        os.close(fd)
