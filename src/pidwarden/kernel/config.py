"""What the kernel side is told: struct pw_config of bpf/abi.h."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import abi

if TYPE_CHECKING:
    from collections.abc import Sequence


def _filled(numbers: Sequence[int], size: int) -> list[int]:
    """As many numbers as an array has elements, the rest 0."""
    return [*numbers, *[0] * size][:size]


class Config(NamedTuple):
    """What the kernel side is told. Times in ns, thresholds in slots and generations."""

    branch_age_ns: int
    job_gap_ns: int
    lease_ns: int  # a guard that asks and tells nothing for so long is lost
    hold_at: int
    family_hold_at: int
    depth_limit: int
    autohold: bool
    only_scoped: bool  # only families founded below a process marked SCOPE are in scope
    history: bool = False  # dead records stay until they are swept
    keep: bool = False  # what is held when the guard is lost stays so; else it is let go, with twice the room
    only: tuple[int, ...] = ()  # tgids that are marked SPAWNER and SCOPE when they are seeded; at most MAX_ONLY
    leaky: bool = False  # the gate does not see every way into fork: tell when one is used
    refuse: int = 0  # errno that a held fork gets, 0: it is stopped
    uids: tuple[int, ...] = ()  # whose tasks are in scope as well; at most MAX_UIDS
    cgroups: tuple[tuple[int, int], ...] = ()  # so are those in or below these (hierarchy, inode); at most MAX_CGROUPS

    def packed(self, max_records: int) -> bytes:
        """The bytes of the struct; the kernel side can keep so many records."""
        flags = abi.CONFIG_AUTOHOLD * self.autohold | abi.CONFIG_ONLY * self.only_scoped
        flags |= abi.CONFIG_HISTORY * self.history | abi.CONFIG_KEEP * self.keep | abi.CONFIG_LEAKY * self.leaky
        values: dict[str, int | list[int]] = {
            **{name: value for name, value in self._asdict().items() if isinstance(value, int)},
            "flags": flags,
            "max_records": max_records,
            "only": _filled(self.only, abi.MAX_ONLY),
            "n_uids": len(self.uids),
            "n_cgroups": len(self.cgroups),
            "uids": _filled(self.uids, abi.MAX_UIDS),
            "cgroups": _filled([inode for _hierarchy, inode in self.cgroups], abi.MAX_CGROUPS),
            "hierarchies": _filled([hierarchy for hierarchy, _inode in self.cgroups], abi.MAX_CGROUPS),
        }
        flat: list[int] = []
        for field in abi.CONFIG_FIELDS:
            value = values.get(field, 0)
            flat += value if isinstance(value, list) else [value]
        return abi.CONFIG.pack(*flat)
