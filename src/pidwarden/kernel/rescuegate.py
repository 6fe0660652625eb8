"""The gate of a rescue, ``bpf/rescue.bpf.c``: who is on its list does not fork any more, nor do his children.

It belongs to this process alone: nothing is pinned, and whatever ends this process takes the gate down. It is not the
guard's gate, whose history takes half a second to load: nothing is needed here but the list.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING

from pidwarden.errors import NotPossible
from pidwarden.kernel.built import object_path
from pidwarden.kernel.libbpf import Link, Object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.model.key import ProcessKey

_ROOM = 4096
_PID, _TICKS = Struct("<I"), Struct("<Q")
# Of these the programs know which system calls fork.
_MACHINES = ("x86_64", "aarch64", "riscv64", "loongarch64")


class RescueGate:
    """The gate, up but holding nobody. Close it."""

    name = "stop at system call entry"

    def __init__(self, tasks: int) -> None:
        """Loads it, with room for twice as many tasks as there are.

        Raises:
            PidwardenError: this kernel does not let us, and why.
        """
        if (machine := os.uname().machine) not in _MACHINES:
            msg = f"which system calls fork is not known for {machine}; go on without the gate"
            raise NotPossible(msg)
        self._object = Object(object_path("rescue"))
        self._links: list[Link] = []
        try:
            self._object.resize("held", max(_ROOM, 2 * tasks))
            self._object.load()
            self._held = self._object.map("held")
            # Children first: who is born while the other comes up is on the list then.
            self._links.append(self._object.attach_raw("hold_child", "sched_process_fork"))
            self._links.append(self._object.attach_raw("hold_fork", "sys_enter"))
        except BaseException:
            self.close()
            raise

    def hold(self, members: Iterable[ProcessKey]) -> None:
        """None of them forks from now on, nor who is born to them. Undo: :meth:`close`.

        Who was born before and is not among them has to be found by another look, and held as well.

        Raises:
            PidwardenError: the list is full.
        """
        keys = list(members)
        pids = b"".join([_PID.pack(key.tgid) for key in keys])
        self._held.set_all(pids, b"".join([_TICKS.pack(key.start_ticks) for key in keys]))

    def close(self) -> None:
        """Takes it down. Who it stopped stays so: he is among those that a freeze has stopped, or a kill will end."""
        for link in self._links:
            link.destroy()
        self._links.clear()
        self._object.close()
