"""What the kernel side's bytes mean: records, groups and signals out of the structs of bpf/abi.h."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pidwarden.kernel import abi
from pidwarden.model.key import ProcessKey
from pidwarden.model.record import Group, Record, Signal, SignalKind

if TYPE_CHECKING:
    from collections.abc import Callable


def _of_dump(*fields: str) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Picks fields of struct pw_dump; `fields` as in Record, where they have the same names."""
    names = set(abi.DUMP_FIELDS)
    return itemgetter(*(abi.DUMP_FIELDS.index(f if f in names else f"proc_{f}") for f in fields))


_KEYS = _of_dump("key_tgid", "key_start_ns", "parent_tgid", "parent_start_ns")
_NAMES = _of_dump("comm", "exe_dev", "exe_ino", "state")
_AT = Record._fields.index
_AHEAD = _of_dump(*Record._fields[_AT("family") : _AT("comm")])
_BETWEEN = _of_dump(*Record._fields[_AT("folded") : _AT("state")])
_AFTER = _of_dump(*Record._fields[_AT("tick_ns") :])
_LETTERS = ["", *map(chr, range(1, 128))]


def parse_records(data: bytes) -> list[Record]:
    """Records out of the bytes of `dump`, elements of struct pw_dump."""
    found = []
    for f in abi.DUMP.iter_unpack(data):
        tgid, start, creator, creators_start = _KEYS(f)
        comm, dev, ino, state = _NAMES(f)
        keys, name = (ProcessKey(tgid, start), ProcessKey(creator, creators_start)), comm.split(b"\0", 1)[0]
        fields = (*keys, *_AHEAD(f), name, (dev, ino), *_BETWEEN(f), _LETTERS[state], *_AFTER(f))
        found.append(Record._make(fields))
    return found


def parse_group(data: bytes, at: int) -> Group:
    """A group out of the bytes of `dump`."""
    id_, family, f_start, f_tgid, _, s_start, s_tgid, _, *rest = abi.GROUP.unpack_from(data, at)
    return Group(id_, family, ProcessKey(f_tgid, f_start), ProcessKey(s_tgid, s_start), *rest)


def parse_signal(data: bytes) -> Signal:
    """What came through the ring buffer."""
    time_ns, group, family, start, tgid, _pad, kind, rule, slots, flags = abi.EVENT.unpack(data)
    return Signal(time_ns, group, family, ProcessKey(tgid, start), SignalKind(kind), rule, slots, flags)
